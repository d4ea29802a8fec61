//! Published descriptions of well-known models: as many parameters as transformers counts in them.

#![allow(clippy::unwrap_used, reason = "a missing file stops the test")]

use std::fs;
use std::path::{Path, PathBuf};

use hetu_ir::file::{parse_config, parse_model, print_config, print_model};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/published/configs")
}

/// The file and the number of parameters, by `AutoModelForCausalLM.from_config` of transformers 5.24.0.
const KNOWN: [(&str, u64); 11] = [
    ("llama-2-7b", 6_738_415_616),
    ("llama-2-70b", 68_976_648_192),
    ("llama-3-8b", 8_030_261_248),
    ("llama-3-70b", 70_553_706_496),
    ("llama-3.1-405b", 405_853_388_800),
    ("mistral-7b-v0.1", 7_241_732_096),
    ("qwen2.5-7b", 7_615_616_512),
    ("qwen2.5-72b", 72_706_203_648),
    ("phi-3-mini-4k", 3_821_079_552),
    ("gpt2", 124_439_808),
    ("gpt2-xl", 1_557_611_200),
];

#[test]
fn known_models_have_as_many_parameters_as_others_count() {
    for (name, count) in KNOWN {
        let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
        let model = parse_config(&text, name, None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(model.graph().parameter_count(), count, "{name}");
        assert_eq!(parse_model(&print_model(&model), name).as_ref(), Ok(&model), "{name}: as a model file");
        // Under the name of a kind that computes the same.
        let printed = parse_config(&print_config(&model, "bfloat16").unwrap(), name, Some(model.sequence)).unwrap();
        assert_eq!(printed.graph(), hetu_ir::graph::Graph { name: printed.name.clone(), ..model.graph() }, "{name}");
    }
}

#[test]
fn what_cannot_be_said_of_a_known_model_is_named() {
    let said = |name: &str, sequence| {
        let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
        parse_config(&text, "config.json", sequence).unwrap_err().to_string()
    };
    let qwen = said("qwen3-8b", None);
    assert!(qwen.starts_with("error: config.json:5: `model_type`: `qwen3`: norms of queries and keys"), "{qwen}");
    let mistral = said("mistral-7b-v0.1", Some(8192));
    assert!(mistral.contains("`sliding_window`: 4096: sequences of 8192 tokens"), "{mistral}");
    let names: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), KNOWN.len() + 1, "each file is of a test: {names:?}");
}
