//! The file forms against shipped examples, random values and random damage.

use hetu_ir as ir;
use ir::cluster::Cluster;
use ir::error::Mistakes;
use ir::file::{
    decode, parse_cluster, parse_model, parse_plan, parse_profile, print_cluster, print_model, print_plan,
    print_profile,
};
use ir::model::{Bias, Decoder, Embeddings, Family, Model, Precision, Training};
use ir::plan::{Plan, PlanFile, Predicted, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::seed::{Draws, Seed};
use ir::units::{Bytes, Seconds};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};
use proptest::strategy::Strategy as Generator;
use proptest::test_runner::RngSeed;

const LLAMA: &str = include_str!("../../examples/models/tiny-llama.yaml");
const T5: &str = include_str!("../../examples/models/t5-3b.yaml");
const CPUS: &str = include_str!("../../examples/clusters/4xCPU.yaml");
const PLAN: &str = "\
format: 1
model: { path: gpt.yaml, digest: \"00000000000000ff\" }
cluster: { path: 8xA100-80GB }
batch: 16
microbatches: 4
schedule: gpipe
precision: f32
prefetch: 2
stages: [0..4, 4..8]
layers:
  0: { data: 4 }
  1..8: { data: 2, tensor: 2, sequence: split, shard: parameters, recompute: selective }
predicted: { step: 412.7 ms, peak: 61.5 GiB, programs: \"0000000000000001\" }
";
const PROFILE: &str = "\
format: 1
device: core
issue: 1e-6
reserved: 1024
sharing: [1.0, 1.5]
slowdown:
- { stream: compute, beside: exchange(data), factor: 1.25 }
samples:
- { work: { kernel: { op: matmul, element: f32, shape: b2 s64 } }, median: 1.5e-3, spread: 1e-6, runs: 3 }
- { work: { exchange: { kind: all-reduce, ranks: 4, ranks_per_node: 2, bytes: 64 } }, median: 1e-5, spread: 0, runs: 9 }
- { work: { transfer: { route: inside, bytes: 64 } }, median: 1e-5, spread: 0, runs: 9 }
- { work: { copy: { bytes: 64 } }, median: 1e-5, spread: 0, runs: 9 }
";

#[test]
fn each_shipped_model_has_the_size_in_its_name() {
    let check = |text: &str, name: &str, parameters: u64, tokens: u64| {
        let model = parse_model(text, name).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!((model.name.as_str(), model.graph().parameter_count()), (name, parameters));
        assert_eq!(model.training.batch * model.sequence, tokens, "{name}");
        assert_eq!(parse_model(&print_model(&model), name), Ok(model));
    };
    macro_rules! model {
        ($name:literal, $parameters:expr, $tokens:expr) => {
            check(include_str!(concat!("../../examples/models/", $name, ".yaml")), $name, $parameters, $tokens)
        };
    }
    model!("gpt2-124m", 124_475_904, 524_288);
    model!("gpt3-1.3b", 1_315_819_520, 1_048_576);
    model!("gpt3-6.7b", 6_658_596_864, 2_097_152);
    model!("gpt3-175b", 174_604_836_864, 3_145_728);
    model!("llama2-7b", 6_738_415_616, 4_194_304);
    model!("llama3-8b", 8_030_261_248, 4_194_304);
    model!("llama3-70b", 70_553_706_496, 8_388_608);
    model!("llama3-405b", 405_853_388_800, 16_777_216);
    model!("tiny-llama", 4_852_992, 4096);
    model!("tiny-gpt", 4_870_144, 4096);
    // Encoders and models of images have no outside source for every parameter: sizes as published stand below.
    model!("bert-large", BERT_LARGE, 131_072);
    model!("bert-huge-32", BERT_HUGE, 32_768);
    model!("vit-huge-32", VIT_HUGE, 25_216);
    model!("swin-huge-32", SWIN_HUGE, 401_408);
    model!("t5-3b", T5_3B, 65_536);
}

/// Blocks of width h have 12 h² + 13 h parameters; what else there is, is written out.
const fn block(hidden: u64) -> u64 {
    12 * hidden * hidden + 13 * hidden
}
const BERT_LARGE: u64 = 24 * block(1024) + (30_592 + 512 + 1024 + 5) * 1024;
const BERT_HUGE: u64 = 32 * block(1280) + (30_592 + 512 + 1280 + 5) * 1280;
const VIT_HUGE: u64 = 32 * block(1280) + (768 + 1 + 197 + 2 + 1000) * 1280;
const SWIN_HUGE: u64 = 2 * block(320) + 2 * block(640) + 26 * block(1280) + 2 * block(2560)
    + (48 + 3) * 320
    // A norm and a product of four widths into two, from each level to the next.
    + (2 + 640) * 1280 + (2 + 1280) * 2560 + (2 + 2560) * 5120
    + (2 + 1000) * 2560;

/// Attention of all heads of 4 products, feed-forward of 2; a block that looks at others has attention twice.
const T5_3B: u64 = 24 * (4 + 8) * 1024 * 4096 + 48 * 2 * 1024 * 16_384 + (24 * (2 + 3) + 2) * 1024 + 32_128 * 1024;

/// The uncased weights of BERT-Large as published have 335.1 M parameters, those of T5 3B 2 851.6 M; the others are those of Miao et al. 2022, table 1.
#[test]
fn models_with_unlike_layers_are_as_large_as_published() {
    for (name, published) in [
        ("bert-large", 335.1e6),
        ("bert-huge-32", 672e6),
        ("vit-huge-32", 632e6),
        ("swin-huge-32", 701e6),
        ("t5-3b", 2851.6e6),
    ] {
        let parameters = Model::preset(name).expect("it is shipped").graph().parameter_count() as f64;
        assert!((parameters / published - 1.0).abs() < 0.01, "{name}: {parameters}");
    }
}

#[test]
fn random_models_read_back() {
    for seed in 0..500 {
        let model = random_model(&mut Draws::new(Seed(seed)));
        assert_eq!(parse_model(&print_model(&model), "m.yaml"), Ok(model), "seed {seed}");
    }
}

#[test]
fn random_clusters_read_back() {
    for seed in 0..500 {
        let mut draws = Draws::new(Seed(seed));
        let mut cluster = Cluster::preset(["8xH100", "2xCPU", "64x8xV100-16GB"][draws.below(3) as usize]).unwrap();
        cluster.nodes = 1 + draws.below(1000) as u32;
        cluster.device.memory = Bytes((1 << 40) + draws.below(1 << 50));
        cluster.device.memory_rate.0 *= 1e-9 + draws.uniform();
        cluster.inside.latency = Seconds(draws.uniform() * 10f64.powi(-(draws.below(12) as i32)));
        cluster.between.efficiency = 1.0 - draws.uniform();
        assert_eq!(parse_cluster(&print_cluster(&cluster), "c.yaml"), Ok(cluster), "seed {seed}");
    }
}

#[test]
fn random_plans_read_back() {
    for seed in 0..500 {
        let file = random_plan(&mut Draws::new(Seed(seed)));
        assert_eq!(parse_plan(&print_plan(&file), "p.yaml"), Ok(file), "seed {seed}");
    }
}

#[test]
fn a_plan_knows_what_it_was_made_for() {
    let (model, cluster) = (parse_model(LLAMA, "m").unwrap(), Cluster::preset("4xCPU").unwrap());
    let plan = Plan { strategies: vec![strategy(&mut Draws::new(Seed(0)), 2, 2); 8], ..empty_plan() };
    let file = PlanFile::new(plan, (&model, "tiny-llama.yaml"), (&cluster, "4xCPU"));
    assert_eq!(file.check(&model, &cluster, "p.yaml"), Ok(()));
    let longer = Model { layers: 7, ..model.clone() };
    let said = file.check(&longer, &Cluster::preset("2xCPU").unwrap(), "p.yaml").unwrap_err().to_string();
    let (made, found) = (model.digest(), longer.digest());
    let (four, two) = (cluster.digest(), Cluster::preset("2xCPU").unwrap().digest());
    assert_eq!(
        said,
        format!(
            "error: p.yaml: made for a model with digest {made}, but `tiny-llama.yaml` now has {found}\n  \
             help: plan again, or restore the model file\n\
             error: p.yaml: made for a cluster with digest {four}, but `4xCPU` now has {two}\n  \
             help: plan again, or restore the cluster file\n\
             error: p.yaml: has strategies for 8 layers, but the model has 9\n  \
             help: layer 0 is the embedding, 1 to 7 the blocks, 8 the head\n\
             error: p.yaml: needs 4 devices, but the cluster has 2"
        )
    );
}

#[test]
fn the_digest_is_of_the_content_and_not_of_its_layout() {
    let text = "format: 1\nname: a\nfamily: gpt\nlayers: 2\nhidden: 8\nheads: 2\nfeed_forward: 16\nvocabulary: 32\n\
        sequence: 4\ntraining:\n  batch: 8\n";
    let model = parse_model(text, "m").unwrap();
    let other = parse_model(&format!("# A comment.\n{text}\n  weight_decay: 0.1   # the default\n"), "m").unwrap();
    assert_eq!(model.digest(), other.digest());
    // Plans in the world name this: it may change only with `format`.
    assert_eq!(model.digest().to_string(), "0c869ee993847f15");
}

#[test]
fn a_binary_file_is_said_to_be_one() {
    assert_eq!(
        decode(b"format: 1\nname: \xff\xfe", "m.yaml").unwrap_err().to_string(),
        "error: m.yaml:2: not UTF-8 text\n  help: is this a binary file?"
    );
}

/// Reads `text` as each kind of file: what is refused is explained, what is accepted can be printed and read again.
fn survive(text: &str) {
    fn check<T: PartialEq + std::fmt::Debug>(
        text: &str,
        parse: fn(&str, &str) -> Result<T, Mistakes>,
        print: fn(&T) -> String,
    ) {
        // All that YAML takes for the end of a line.
        let breaks = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
        match parse(text, "x.yaml") {
            Ok(value) => assert_eq!(parse(&print(&value), "x.yaml"), Ok(value)),
            Err(Mistakes(mistakes)) => {
                assert!(!mistakes.is_empty());
                for mistake in mistakes {
                    assert!(!mistake.what.is_empty() && !mistake.to_string().contains('\u{1}'), "{mistake:?}");
                    assert!(mistake.line.is_none_or(|line| line <= breaks + 2), "{mistake:?}");
                }
            }
        }
    }
    check(text, parse_model, print_model);
    check(text, parse_cluster, print_cluster);
    check(text, parse_plan, print_plan);
    check(text, parse_profile, print_profile);
}

/// What is pasted into files to damage them.
const PIECES: [&str; 40] = [
    "[",
    "]",
    "{",
    "}",
    ": ",
    ":",
    "- ",
    ", ",
    "\n",
    "\n  ",
    "\t",
    "#",
    "'",
    "\"",
    "|",
    ">",
    "&a ",
    "*a",
    "<<: *a",
    "!x ",
    "!!int ",
    "? ",
    "---\n",
    "...",
    "%",
    "~",
    "-1",
    "0",
    "18446744073709551615",
    "1e999",
    ".nan",
    "-.inf",
    "0x10",
    "µ",
    "0..4294967295",
    "GiB",
    "\u{0}",
    "\u{85}",
    "\u{feff}",
    "\\",
];

fn damaged() -> impl Generator<Value = String> {
    let wound = (any::<prop::sample::Index>(), 0..24usize, 0..4u8, prop::sample::select(PIECES.to_vec()));
    (prop::sample::select(vec![LLAMA, T5, CPUS, PLAN, PROFILE]), prop::collection::vec(wound, 1..5)).prop_map(
        |(text, wounds)| {
            let mut letters: Vec<char> = text.chars().collect();
            for (place, length, kind, piece) in wounds {
                let start = place.index(letters.len() + 1);
                let end = (start + length).min(letters.len());
                let replacement: Vec<char> = match kind {
                    0 => Vec::new(),
                    1 => letters[start..end].repeat(2),
                    _ => piece.chars().collect(),
                };
                letters.splice(start..if kind == 2 { start } else { end }, replacement);
            }
            letters.into_iter().collect::<String>()
        },
    )
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn damaged_files_never_panic(text in damaged()) {
        survive(&text);
    }

    #[test]
    fn any_text_never_panics(text in "(format: 1\n)?\\PC{0,200}") {
        survive(&text);
        prop_assert!(Cluster::preset(&text).is_err());
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(text) = decode(&bytes, "x.yaml") {
            survive(text);
        }
    }
}

fn random_model(draws: &mut Draws) -> Model {
    let heads = 1 + draws.below(64);
    let groups = (1..=heads).filter(|groups| heads.is_multiple_of(*groups)).collect::<Vec<_>>();
    let absent = draws.below(2) == 0;
    let family = *draws.pick(&[Family::Gpt, Family::Llama, Family::T5]);
    let decoder = (family == Family::T5)
        .then(|| Decoder { layers: 1 + draws.below(200) as u32, sequence: 1 + draws.below(1 << 15) });
    Model {
        format: 1,
        name: draws.pick(&["a", "true", "1.0", "GPT: \"the\" model", "µ", "~", " x"]).to_string(),
        family,
        layers: 1 + draws.below(200) as u32,
        hidden: heads * 2 * (1 + draws.below(64)),
        heads,
        key_value_heads: if absent { None } else { Some(*draws.pick(&groups)) },
        head_size: None,
        attention_bias: Bias::Absent,
        feed_forward: 1 + draws.below(1 << 16),
        vocabulary: 1 + draws.below(1 << 17),
        sequence: 1 + draws.below(1 << 15),
        embeddings: *draws.pick(&[Embeddings::Tied, Embeddings::Untied]),
        rotary_scaling: None,
        images: None,
        decoder,
        rotary_base: *draws.pick(&[10_000.0, 10_000.000_000_000_002, 500_000.0, 1.0]),
        norm_epsilon: *draws.pick(&[1e-5, 1.25e-5, 1e-6]),
        training: Training {
            batch: 1 + draws.below(4096),
            precision: *draws.pick(&[Precision::Full, Precision::Mixed]),
            learning_rate: draws.uniform() * 1e-3,
            warmup_steps: draws.below(u64::MAX),
            weight_decay: draws.uniform(),
            gradient_norm_max: draws.uniform() + f64::MIN_POSITIVE,
            betas: [draws.uniform(), draws.uniform()],
            epsilon: *draws.pick(&[1e-8, 1e-5, 1.25e-8]),
        },
    }
}

fn empty_plan() -> Plan {
    Plan {
        batch: 16,
        microbatches: 1,
        schedule: Schedule::AllForward,
        precision: Precision::Full,
        stages: std::iter::once(0..8).collect(),
        strategies: Vec::new(),
        prefetch: 1,
    }
}

fn strategy(draws: &mut Draws, data: u32, tensor: u32) -> Strategy {
    Strategy {
        data,
        tensor,
        sequence: *draws.pick(&[Sequence::Whole, Sequence::Split]),
        shard: *draws.pick(&[Shard::Nothing, Shard::Optimizer, Shard::Gradients, Shard::Parameters]),
        recompute: *draws.pick(&[Recompute::Nothing, Recompute::Selective, Recompute::Full]),
    }
}

fn random_plan(draws: &mut Draws) -> PlanFile {
    let ranks = 1 << draws.below(5);
    let microbatches = 1 + draws.below(8);
    let mut strategies = Vec::new();
    let mut stages = Vec::new();
    for _ in 0..1 + draws.below(4) {
        let start = strategies.len() as u32;
        for _ in 0..1 + draws.below(6) {
            let data = 1 << draws.below(6).min(u64::from(u32::trailing_zeros(ranks)));
            let one = strategy(draws, data, ranks / data);
            strategies.extend(vec![one; 1 + draws.below(3) as usize]);
        }
        stages.push(start..strategies.len() as u32);
    }
    let (model, cluster) = (random_model(draws), Cluster::preset("8xH200").expect("a preset"));
    let plan = Plan {
        batch: microbatches * u64::from(ranks) * (1 + draws.below(9)),
        microbatches: microbatches as u32,
        schedule: *draws.pick(&[Schedule::AllForward, Schedule::OneForwardOneBackward]),
        precision: model.training.precision,
        stages,
        strategies,
        prefetch: draws.below(4) as u32,
    };
    let mut file = PlanFile::new(plan, (&model, "../models/a \"b\".yaml"), (&cluster, "8xH200"));
    if draws.below(2) == 0 {
        let (step, peak) = (Seconds(draws.uniform()), Bytes(draws.below(1 << 40)));
        file.predicted = Some(Predicted { step, between: Some([step, step]), peak, programs: model.digest() });
    } else {
        file.model.digest = None;
    }
    file
}
