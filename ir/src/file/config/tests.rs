//! What a config.json may say, and how it is told what it may not.

use super::*;
use crate::file::{parse_model, print_model};

const LLAMA: &str = r#"{
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "hidden_act": "silu",
  "hidden_size": 64,
  "intermediate_size": 128,
  "max_position_embeddings": 8192,
  "num_attention_heads": 4,
  "num_hidden_layers": 2,
  "num_key_value_heads": 2,
  "rms_norm_eps": 1e-05,
  "rope_scaling": null,
  "rope_theta": 500000.0,
  "tie_word_embeddings": false,
  "torch_dtype": "bfloat16",
  "vocab_size": 256
}"#;

/// What is said when `from` is replaced by `to` in a good file.
fn said(from: &str, to: &str) -> String {
    assert!(LLAMA.contains(from));
    let text = LLAMA.replacen(from, to, 1);
    parse_config(&text, "config.json", None).map_or_else(|mistakes| mistakes.to_string(), |model| format!("{model:?}"))
}

#[test]
fn a_published_model_is_one_of_a_file() {
    let model = parse_config(LLAMA, "config.json", None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!((model.layers, model.hidden, model.heads, model.groups(), model.head()), (2, 64, 4, 2, 16));
    assert_eq!((model.feed_forward, model.vocabulary, model.sequence), (128, 256, 4096));
    assert_eq!((model.rotary_base, model.norm_epsilon), (500_000.0, 1e-5));
    assert_eq!((model.training.precision, model.training.batch), (Precision::Mixed, 32));
    assert_eq!(parse_model(LLAMA, "config.json"), Ok(model.clone()), "wherever a model is read");
    assert_eq!(parse_model(&print_model(&model), "model.yaml"), Ok(model));
}

#[test]
fn what_is_printed_is_read_back() {
    let scaled = r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 16}"#;
    let gpt = r#"{"model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_layer": 2, "n_positions": 32, "vocab_size": 99}"#;
    for text in [
        LLAMA.to_owned(),
        LLAMA.replace("\"rope_scaling\": null", scaled),
        LLAMA.replace("\"llama\"", "\"qwen2\"").replace("false", "true"),
        LLAMA.replace("\"vocab_size\"", "\"head_dim\": 10, \"vocab_size\""),
        gpt.to_owned(),
    ] {
        let model = parse_config(&text, "config.json", None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let printed = print_config(&model, "bfloat16").unwrap_or_else(|words| panic!("{words}"));
        assert_eq!(parse_config(&printed, "printed", Some(model.sequence)), Ok(model), "{printed}");
    }
}

#[test]
fn what_cannot_be_said_is_named_with_its_line_and_value() {
    assert_eq!(
        said("\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0}"),
        "error: config.json:12: `rope_scaling.type`: `yarn`: of scaled frequencies only `llama3` can be said here"
    );
    assert_eq!(
        said("\"silu\"", "\"gelu\""),
        "error: config.json:4: `hidden_act`: \"gelu\": the feed-forward part is silu(gate) · up here"
    );
    assert_eq!(
        said("\"vocab_size\": 256", "\"vocab_size\": 256,\n  \"num_local_experts\": 8"),
        "error: config.json:17: `num_local_experts`: 8: a mixture of experts cannot be said here"
    );
    assert_eq!(
        said("\"llama\"", "\"qwen3_moe\""),
        "error: config.json:3: `model_type`: `qwen3_moe`: a mixture of experts cannot be said here"
    );
    for kind in ["gemma", "qwen3", "gpt_neox", "lama", "mamba"] {
        let said = said("\"llama\"", &format!("\"{kind}\""));
        assert!(said.starts_with(&format!("error: config.json:3: `model_type`: `{kind}`: ")), "{said}");
    }
    assert_eq!(
        said("\"vocab_size\": 256", "\"vocab_size\": 256, \"logit_scale\": 2"),
        "error: config.json:16: `logit_scale`: 2: the key is not known here, and may change what the model computes"
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let text = LLAMA.replace("\"hidden_size\": 64,\n", "").replace("8192", "-1").replace("500000.0", "\"big\"");
    assert_eq!(
        parse_config(&text, "config.json", None).unwrap_err().to_string(),
        "error: config.json: missing key `hidden_size`\n\
         error: config.json:6: `max_position_embeddings`: -1: it must be a whole number, 1 or more\n\
         error: config.json:12: `rope_theta`: \"big\": it must be a number above 0"
    );
    assert!(said("\"num_attention_heads\": 4", "\"num_attention_heads\": 5").contains("does not divide"));
}

#[test]
fn a_window_matters_where_sequences_are_longer() {
    let text = LLAMA.replace("\"llama\"", "\"mistral\"");
    let sequence = |text: &str, sequence| parse_config(text, "config.json", sequence).map(|model| model.sequence);
    assert_eq!(sequence(&text, None), Ok(4096), "where nothing is said, the window is of 4096 tokens");
    let narrow = text.replace("\"vocab_size\"", "\"sliding_window\": 128,\n  \"vocab_size\"");
    assert_eq!(sequence(&narrow, None), Ok(128));
    let said = sequence(&narrow, Some(129)).unwrap_err().to_string();
    assert!(said.starts_with("error: config.json:16: `sliding_window`: 128: sequences of 129 tokens"), "{said}");
    let none = narrow.replace("128,\n  \"vocab_size\"", "null,\n  \"vocab_size\"");
    assert_eq!(sequence(&none, Some(6000)), Ok(6000));
}

#[test]
fn what_is_no_description_is_refused() {
    let said = |text: &str| parse_config(text, "config.json", None).unwrap_err().to_string();
    assert!(said("{").starts_with("error: config.json:1: no JSON: EOF"), "{}", said("{"));
    assert!(said("[]").contains("an object, in braces"));
    assert!(said("{}").contains("missing key `model_type`"));
    assert!(said(&format!("{{\"a\": {}", "[".repeat(100_000))).contains("no JSON"));
    assert!(said(&LLAMA.replace("\"llama\"", "7")).contains("`model_type`: 7: it must be a word"));
    let gpt = r#"{"model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_layer": 2, "vocab_size": 99}"#;
    let long = parse_config(gpt, "c", Some(2000)).unwrap_err().to_string();
    assert!(long.contains("`n_positions`: 1024: there are no positions for sequences of 2000"), "{long}");
}
