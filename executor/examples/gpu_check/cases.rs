//! Plans of models, on so many GPUs.

use hetu_executor::Issue;
use ir::model::{Bias, Embeddings, Family, Model, Precision, Training};
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};

use crate::{Options, Target, Wanted};

/// A plan of a model.
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) model: &'static str,
    pub(crate) precision: Precision,
    pub(crate) what: String,
    pub(crate) plan: Plan,
    pub(crate) issue: Issue,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Check,
    Speed,
}

impl Case {
    pub(crate) fn name(&self) -> String {
        let precision = match self.precision {
            Precision::Full => "f32",
            Precision::Mixed => "bf16",
        };
        let issue = match self.issue {
            Issue::Eager => "",
            Issue::Recorded => ", graph",
        };
        format!("{} {precision}: {}{issue}", self.model, self.what)
    }
}

pub(crate) fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds: &[Kind] = match options.wanted {
        Wanted::Checks => &[Kind::Check],
        Wanted::Speed => &[Kind::Speed],
        Wanted::Both => &[Kind::Check, Kind::Speed],
    };
    if kinds.contains(&Kind::Check) {
        for name in ["tiny-llama", "tiny-gpt", "medium-llama"] {
            for precision in [Precision::Full, Precision::Mixed] {
                let layers = model(name).layers + 2;
                // Recorded steps are the same work: once for each precision is enough.
                let issues: &[Issue] = match (name, options.target) {
                    ("tiny-llama", Target::Gpus) => &[Issue::Eager, Issue::Recorded],
                    _ => &[Issue::Eager],
                };
                for &issue in issues {
                    for (what, plan) in plans(options.gpus, layers) {
                        cases.push(Case {
                            kind: Kind::Check,
                            model: name,
                            precision,
                            what,
                            plan: Plan { precision, ..plan },
                            issue,
                        });
                    }
                }
            }
        }
    }
    if kinds.contains(&Kind::Speed) {
        for (what, plan) in speed_plans(options.gpus) {
            for issue in [Issue::Eager, Issue::Recorded] {
                let (what, plan) = (what.clone(), plan.clone());
                cases.push(Case {
                    kind: Kind::Speed,
                    model: "llama-1b",
                    precision: Precision::Mixed,
                    what,
                    plan,
                    issue,
                });
            }
        }
    }
    cases.retain(|case| case.name().contains(&options.only));
    cases
}

const SINGLE: Strategy =
    Strategy { data: 1, tensor: 1, sequence: Sequence::Whole, shard: Shard::Nothing, recompute: Recompute::Nothing };

pub(crate) fn data(degree: u32, shard: Shard) -> Strategy {
    Strategy { data: degree, shard, ..SINGLE }
}

fn tensor(degree: u32, sequence: Sequence) -> Strategy {
    Strategy { tensor: degree, sequence, ..SINGLE }
}

/// Stages of nearly as many layers each.
pub(crate) fn even(layers: u32, stages: u32) -> Vec<std::ops::Range<u32>> {
    (0..stages).map(|stage| layers * stage / stages..layers * (stage + 1) / stages).collect()
}

/// Ways to compute again what is not kept, by name.
const RECOMPUTES: [(&str, Recompute); 3] =
    [("nothing", Recompute::Nothing), ("cheap", Recompute::Selective), ("full", Recompute::Full)];

/// What ranks of Data keep a share of, by name.
const SHARDS: [(&str, Shard); 4] = [
    ("nothing", Shard::Nothing),
    ("optimizer", Shard::Optimizer),
    ("gradients", Shard::Gradients),
    ("parameters", Shard::Parameters),
];

/// A plan of a model of so many layers, with a batch of 8.
fn small(layers: u32, microbatches: u32, stages: u32, strategy: Strategy) -> Plan {
    Plan {
        batch: 8,
        microbatches,
        schedule: Schedule::OneForwardOneBackward,
        precision: Precision::Full,
        stages: even(layers, stages),
        strategies: vec![strategy; layers as usize],
        prefetch: 1,
    }
}

/// Plans of a model of so many layers on so many GPUs.
fn plans(gpus: u32, layers: u32) -> Vec<(String, Plan)> {
    match gpus {
        1 => single_plans(layers),
        2 => simple_plans(gpus, layers),
        _ => [simple_plans(gpus, layers), mixed_plans(gpus, layers)].concat(),
    }
}

fn single_plans(layers: u32) -> Vec<(String, Plan)> {
    let mut all = Vec::new();
    for (name, recompute) in RECOMPUTES {
        for microbatches in [1, 2, 4, 8] {
            let plan = small(layers, microbatches, 1, Strategy { recompute, ..SINGLE });
            all.push((format!("recompute {name}, {microbatches} microbatches"), plan));
        }
    }
    let mut mixed = small(layers, 2, 1, SINGLE);
    for (strategy, (_, recompute)) in mixed.strategies.iter_mut().zip(RECOMPUTES.iter().cycle()) {
        strategy.recompute = *recompute;
    }
    all.push(("recompute by layer, 2 microbatches".to_owned(), mixed.clone()));
    all.push(("all forward, 2 microbatches".to_owned(), Plan { schedule: Schedule::AllForward, ..mixed }));
    all
}

/// Along one axis, and along two by turns.
fn simple_plans(n: u32, layers: u32) -> Vec<(String, Plan)> {
    let plan = |microbatches, stages, strategy| small(layers, microbatches, stages, strategy);
    let mut all: Vec<(String, Plan)> = Vec::new();
    let mut add = |what: String, plan: Plan| all.push((what, plan));
    for (name, shard) in SHARDS {
        add(format!("data {n}, shard {name}"), plan(1, 1, data(n, shard)));
    }
    let microbatches = 8 / n;
    for (name, shard) in [SHARDS[2], SHARDS[3]] {
        let strategy = Strategy { recompute: Recompute::Full, ..data(n, shard) };
        let what = format!("data {n}, shard {name}, recompute full, {microbatches} microbatches, prefetch 2");
        add(what, Plan { prefetch: 2, ..plan(microbatches, 1, strategy) });
    }
    let late = plan(1, 1, data(n, Shard::Parameters));
    add(format!("data {n}, shard parameters, prefetch 0"), Plan { prefetch: 0, ..late });
    let t = n.min(4);
    let both = |sequence| Strategy { data: n / t, shard: Shard::Optimizer, ..tensor(t, sequence) };
    add(format!("tensor {t}"), plan(2, 1, both(Sequence::Whole)));
    add(format!("tensor {t}, sequence split"), plan(2, 1, both(Sequence::Split)));
    let strategy = Strategy { recompute: Recompute::Selective, ..both(Sequence::Split) };
    add(format!("tensor {t}, sequence split, recompute cheap"), plan(4, 1, strategy));
    let p = n.min(4);
    let each = || data(n / p, Shard::Nothing);
    add(format!("pipeline {p}, 1f1b, 4 microbatches"), plan(4, p, each()));
    let forward = Plan { schedule: Schedule::AllForward, ..plan(4, p, each()) };
    add(format!("pipeline {p}, all forward, 4 microbatches"), forward);
    let strategy = Strategy { recompute: Recompute::Full, ..each() };
    add(format!("pipeline {p}, 1f1b, recompute full, 2 microbatches"), plan(2, p, strategy));
    // Layers that are spread in unlike ways: what is split along sequences is then split along heads, and the reverse.
    let mut unlike = plan(2, 1, data(n, Shard::Optimizer));
    let other = Strategy { data: n / 2, shard: Shard::Optimizer, ..tensor(2, Sequence::Split) };
    unlike.strategies.iter_mut().skip(1).step_by(2).for_each(|strategy| *strategy = other.clone());
    add(format!("data {n} and data {} tensor 2 by turns", n / 2), unlike.clone());
    unlike.strategies.iter_mut().for_each(|strategy| strategy.sequence = Sequence::Whole);
    add(format!("data {n} and data {} tensor 2 by turns, sequence whole", n / 2), unlike);
    all
}

/// Along several axes at once.
fn mixed_plans(n: u32, layers: u32) -> Vec<(String, Plan)> {
    let plan = |microbatches, stages, strategy| small(layers, microbatches, stages, strategy);
    let half = n / 2;
    let mut all: Vec<(String, Plan)> = SHARDS
        .into_iter()
        .map(|(name, shard)| {
            let strategy = Strategy { shard, data: half, ..tensor(2, Sequence::Split) };
            (format!("data {half}, tensor 2, sequence split, shard {name}"), plan(2, 1, strategy))
        })
        .collect();
    all.push((format!("pipeline 2, data {half}, shard optimizer"), plan(2, 2, data(half, Shard::Optimizer))));
    let strategy = Strategy { recompute: Recompute::Full, ..data(half, Shard::Parameters) };
    all.push((format!("pipeline 2, data {half}, shard parameters, recompute full"), plan(2, 2, strategy)));
    let strategy = Strategy { data: n / 4, ..tensor(2, Sequence::Split) };
    all.push((format!("pipeline 2, data {}, tensor 2, sequence split", n / 4), plan(4, 2, strategy)));
    all
}

fn speed_plans(gpus: u32) -> Vec<(String, Plan)> {
    let layers = model("llama-1b").layers + 2;
    let plan = |batch: u64, microbatches: u32, stages: u32, strategy: Strategy| Plan {
        batch,
        microbatches,
        schedule: Schedule::OneForwardOneBackward,
        precision: Precision::Mixed,
        stages: even(layers, stages),
        strategies: vec![strategy; layers as usize],
        prefetch: 1,
    };
    let cheap = |strategy: Strategy| Strategy { recompute: Recompute::Selective, ..strategy };
    let n = gpus;
    if n == 1 {
        return vec![
            ("batch 4, 1 microbatch".to_owned(), plan(4, 1, 1, SINGLE)),
            ("batch 4, 1 microbatch, recompute cheap".to_owned(), plan(4, 1, 1, cheap(SINGLE))),
            ("batch 16, 4 microbatches".to_owned(), plan(16, 4, 1, SINGLE)),
        ];
    }
    let wide = u64::from(4 * n);
    vec![
        (format!("data {n}, shard optimizer, batch {wide}"), plan(wide, 1, 1, data(n, Shard::Optimizer))),
        (format!("data {n}, shard parameters, batch {wide}"), plan(wide, 1, 1, data(n, Shard::Parameters))),
        (format!("tensor {n}, sequence split, batch 4"), plan(4, 1, 1, tensor(n, Sequence::Split))),
        (format!("pipeline {n}, batch {wide}, {} microbatches", 2 * n), plan(wide, 2 * n, n, SINGLE)),
    ]
}

pub(crate) fn model(name: &str) -> Model {
    let training = Training {
        batch: 8,
        precision: Precision::Full,
        learning_rate: 3e-3,
        warmup_steps: 0,
        weight_decay: 0.1,
        gradient_norm_max: 1.0,
        betas: [0.9, 0.95],
        epsilon: 1e-8,
    };
    let tiny = Model {
        format: 1,
        name: name.to_owned(),
        family: Family::Llama,
        layers: 2,
        hidden: 64,
        heads: 8,
        key_value_heads: Some(4),
        feed_forward: 96,
        vocabulary: 128,
        sequence: 32,
        embeddings: Embeddings::Untied,
        rotary_base: 10_000.0,
        rotary_scaling: None,
        images: None,
        decoder: None,
        head_size: None,
        attention_bias: Bias::Absent,
        norm_epsilon: 1e-5,
        training,
    };
    match name {
        "tiny-gpt" => Model {
            family: Family::Gpt,
            key_value_heads: None,
            embeddings: Embeddings::Tied,
            feed_forward: 256,
            ..tiny
        },
        // At the rate of the tiny ones, rounding alone moves its losses by 4e-3 in ten steps: CPU ranks differ so much
        // from CPU ranks.
        "medium-llama" => Model {
            layers: 4,
            training: Training { learning_rate: 1e-3, ..tiny.training.clone() },
            hidden: 512,
            feed_forward: 1024,
            vocabulary: 1024,
            sequence: 256,
            ..tiny
        },
        "llama-1b" => Model {
            layers: 16,
            hidden: 2048,
            heads: 32,
            key_value_heads: Some(8),
            feed_forward: 8192,
            vocabulary: 32_000,
            sequence: 4096,
            ..tiny
        },
        _ => tiny,
    }
}
