//! What a plan becomes for other trainers, and what of it they are said not to know.

mod place;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use place::{folder, run, status_and_texts};

const PLAN: &str = "\
format: 1
model: llama3-8b
cluster: 2x8xH100
batch: 64
microbatches: 16
precision: bf16
stages: [0..17, 17..34]
layers:
  0..33: { data: 2, tensor: 4, sequence: split, shard: optimizer, recompute: full }
  33..34: { data: 2, tensor: 4, sequence: split, shard: optimizer }
";
const TRAINERS: [&str; 4] = ["megatron", "torchtitan", "deepspeed", "huggingface"];

/// Exit status, what is printed and what is said of a plan for a trainer.
fn exported(name: &str, plan: &str, to: &str) -> (i32, String, String) {
    let folder = folder(name);
    fs::write(folder.join("plan.yaml"), plan).expect("the folder can be written");
    status_and_texts(&run(&folder, &["export", "plan.yaml", "--to", to]))
}

fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(PLAN.to_owned(), |plan, (from, to)| {
        assert!(plan.contains(from), "{from}");
        plan.replace(from, to)
    })
}

#[test]
fn one_strategy_for_all_blocks_is_said_exactly() {
    let (status, text, said) = exported("export-exact", PLAN, "megatron");
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    for words in [
        "# This says all of the plan.",
        "srun --nodes 2 --ntasks-per-node 1 --gpus-per-node 8",
        "--tensor-model-parallel-size 4 --pipeline-model-parallel-size 2",
        "--micro-batch-size 2 --global-batch-size 64",
        "--sequence-parallel",
        "--use-distributed-optimizer",
        "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1",
        "--min-lr 3e-5",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let one_node = changed(&[("2x8xH100", "8xH100"), ("[0..17, 17..34]", "[0..34]")]);
    let (status, text, _) = exported("export-exact", &one_node, "megatron");
    assert!(status == 0 && text.contains("torchrun --standalone --nproc-per-node 8 pretrain_gpt.py"), "{text}");
}

#[test]
fn what_is_sharded_and_kept_has_its_option_with_each_trainer() {
    let sharded = changed(&[
        ("[0..17, 17..34]", "[0..34]"),
        ("data: 2, tensor: 4, sequence: split, shard: optimizer", "data: 16, shard: parameters"),
    ]);
    for (to, words) in [
        ("megatron", "--use-custom-fsdp --data-parallel-sharding-strategy optim_grads_params"),
        ("torchtitan", "data_parallel_shard_degree = 16\nfsdp_reshard_after_forward = \"always\""),
        ("huggingface", "fsdp_reshard_after_forward: true"),
    ] {
        let batch = sharded.replace("microbatches: 16", "microbatches: 2");
        let (status, text, said) = exported("export-sharded", &batch, to);
        assert_eq!((status, said.as_str()), (0, ""), "{to}");
        assert!(text.contains(words), "{to}: {text}");
    }
    let none = changed(&[(", recompute: full", ""), ("[0..17, 17..34]", "[0..34]"), ("sequence: split, ", "")]);
    let none = none.replace("2x8xH100", "8xH100");
    let (status, text, said) = exported("export-sharded", &none, "deepspeed");
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    assert!(text.contains("\"stage\": 1") && text.contains("\"autotp_size\": 4"), "{text}");
}

#[test]
fn what_cannot_be_said_is_named_in_the_script_and_on_stderr() {
    let unlike = changed(&[(
        "  0..33: { data: 2, tensor: 4, sequence: split, shard: optimizer, recompute: full }",
        "  0..1: { data: 4, tensor: 2, shard: gradients }\n  1..5: { data: 2, tensor: 4, sequence: split, shard: \
         optimizer, recompute: selective }\n  5..33: { data: 2, tensor: 4, sequence: split, shard: optimizer }",
    )]);
    for to in TRAINERS {
        let (status, text, said) = exported("export-unlike", &unlike, to);
        assert_eq!(status, 3, "{to}: {said}");
        let gaps: Vec<&str> = said.lines().skip(1).map(str::trim).collect();
        assert!(gaps.iter().all(|gap| text.contains(&format!("#   {gap}"))), "{to}: {said}\n{text}");
        for gap in [
            "`data`: 4 in layers 0..1; said: 2",
            "`tensor`: 2 in layers 0..1; said: 4",
            "`shard`: gradients in layers 0..1; said: optimizer",
            "`recompute`: selective in layers 1..5; said: nothing",
        ] {
            assert!(gaps.contains(&gap), "{to}: {gap} is not in {said}");
        }
    }
    let (_, _, said) = exported("export-unlike", PLAN, "huggingface");
    assert!(said.contains("`stages`: 2; said: 1") && said.contains("`shard`: optimizer (ZeRO-1)"), "{said}");
    let (_, _, said) =
        exported("export-unlike", &changed(&[("microbatches", "schedule: gpipe\nmicrobatches")]), "megatron");
    assert!(said.contains("`schedule`: gpipe"), "{said}");
}

#[test]
fn stages_of_unlike_sizes_and_first_blocks_computed_again_are_said() {
    let cut = changed(&[
        ("[0..17, 17..34]", "[0..20, 20..34]"),
        (
            "  0..33: {",
            "  0..3: { data: 2, tensor: 4, sequence: split, shard: optimizer, recompute: full }\n  3..20: { data: 2, \
          tensor: 4, sequence: split, shard: optimizer }\n  20..22: { data: 2, tensor: 4, sequence: split, shard: \
          optimizer, recompute: full }\n  22..33: {",
        ),
        (
            "  22..33: { data: 2, tensor: 4, sequence: split, shard: optimizer, recompute: full }",
            "  22..33: { data: 2, tensor: 4, sequence: split, shard: optimizer }",
        ),
    ]);
    let (status, text, said) = exported("export-cut", &cut, "megatron");
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    assert!(text.contains("--pipeline-model-parallel-layout 'Et*19|t*13L'"), "{text}");
    assert!(text.contains("--recompute-method block --recompute-num-layers 2"), "{text}");
    let (_, text, _) = exported("export-cut", &cut, "torchtitan");
    assert!(text.contains("\"layers.18\"],\n  [\"layers.19\"") && text.contains("\"norm\", \"output\"]"), "{text}");
}

#[test]
fn files_go_to_a_folder_and_wrong_use_is_told() {
    let folder = folder("export-files");
    fs::write(folder.join("plan.yaml"), PLAN).unwrap();
    let (status, text, _) =
        status_and_texts(&run(&folder, &["export", "plan.yaml", "--to", "huggingface", "-o", "out/run"]));
    assert_eq!(status, 3);
    assert!(
        text.starts_with("Wrote out/run/training_arguments.json, out/run/accelerate.yaml, out/run/launch.sh"),
        "{text}"
    );
    let arguments = fs::read_to_string(folder.join("out/run/training_arguments.json")).unwrap();
    let arguments: serde_json::Value = serde_json::from_str(&arguments).unwrap();
    assert_eq!(arguments["gradient_accumulation_steps"], 8);
    let (status, _, said) =
        status_and_texts(&run(&folder, &["export", "plan.yaml", "--to", "megatron", "--steps", "10"]));
    assert!(status == 2 && said.starts_with("error: --steps 10: the learning rate rises over 8000 steps"), "{said}");
    let gpt = "format: 1\nmodel: gpt2-124m\ncluster: 1xH100\nbatch: 4\nmicrobatches: 4\nstages: [0..14]\nlayers:\n  0..14: {}\n";
    fs::write(folder.join("gpt.yaml"), gpt).unwrap();
    let (status, _, said) = status_and_texts(&run(&folder, &["export", "gpt.yaml", "--to", "torchtitan"]));
    assert!(status == 1 && said.contains("has no model of the family of gpt2-124m"), "{said}");
    let (status, _, _) = status_and_texts(&run(&folder, &["export", "gpt.yaml", "--to", "megatron"]));
    assert_eq!(status, 0);
}

/// Every option that any export writes stands, with where it was seen, in the table of sources.
#[test]
fn no_option_is_invented() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/results/export.md");
    let sources = fs::read_to_string(sources).expect("the table of sources is there");
    let known: BTreeSet<&str> = sources.split('`').skip(1).step_by(2).collect();
    let alone = changed(&[("[0..17, 17..34]", "[0..34]"), ("2x8xH100", "8xH100")]);
    let sharded = changed(&[("shard: optimizer", "shard: gradients"), ("recompute: full", "recompute: selective")]);
    let gpt = "format: 1\nmodel: gpt2-124m\ncluster: 2xH100\nbatch: 4\nmicrobatches: 2\nstages: [0..14]\nlayers:\n  0..14: { data: 2 }\n";
    let cut = changed(&[("[0..17, 17..34]", "[0..20, 20..34]")]);
    let mut missing = BTreeSet::new();
    for plan in [PLAN, &alone, &sharded, &cut, gpt] {
        for to in TRAINERS {
            let (_, text, _) = exported("export-options", plan, to);
            missing.extend(options(&text).into_iter().filter(|option| !known.contains(option.as_str())));
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// Options of command lines, keys of TOML, JSON and YAML.
fn options(text: &str) -> Vec<String> {
    let is_name =
        |word: &str| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let lines = || text.lines().filter(|line| !line.starts_with('#') && !line.contains("scontrol"));
    let flags = lines().flat_map(str::split_whitespace).filter(|word| word.starts_with("--") && word.len() > 2);
    let keys = lines().filter_map(|line| {
        let (key, _) =
            line.split_once(" = ").or_else(|| line.split_once(": ")).or_else(|| Some((line.strip_suffix(':')?, "")))?;
        let key = key.trim().trim_matches('"');
        is_name(key).then(|| key.to_owned())
    });
    flags.map(str::to_owned).chain(keys).collect()
}
