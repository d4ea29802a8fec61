//! The search against the truth: on small cases all plans are compiled and simulated whole, and the one that the search
//! puts first is the best of them, within a tolerance.

use cost_model::{CostModel, Detail, simulate};
use hetu_planner::{Found, NOISE, NoPlan, Request, Rules, Setting, search};
use ir::cluster::Cluster;
use ir::graph::Graph;
use ir::model::{Bias, Embeddings, Family, Model, Precision, Training};
use ir::plan::{Plan, Recompute, Schedule, Strategy};
use ir::seed::{Draws, Seed};
use ir::units::{Bytes, Seconds};
use rayon::prelude::*;
use solver::Method;

/// A random model on random devices.
struct Case {
    model: Model,
    cluster: Cluster,
}

impl Case {
    fn new(seed: u64) -> Case {
        let mut draws = Draws::new(Seed(seed).derive_name("search"));
        let clusters =
            ["2xCPU", "2xA100-80GB", "2x1xH100", "2xV100-32GB", "4xA100-40GB", "2x2xH100", "4xCPU", "8xH200"];
        let cluster =
            Cluster::preset(clusters[draws.below(clusters.len() as u64) as usize]).expect("there is this preset");
        let scale = *draws.pick(&[1, 8, 32, 128]);
        let heads = *draws.pick(&[1, 2, 3, 4]);
        let batch = u64::from(cluster.device_count()) * draws.pick(&[1, 2, 3]);
        let model = Model {
            format: 1,
            name: "random".to_owned(),
            family: *draws.pick(&[Family::Gpt, Family::Llama]),
            layers: 1 + draws.below(3) as u32,
            hidden: heads * draws.pick(&[2, 4]) * scale,
            heads,
            key_value_heads: None,
            feed_forward: 12 * scale * draws.pick(&[1, 2]),
            vocabulary: 12 * scale * draws.pick(&[1, 4]),
            sequence: 12 * scale * draws.pick(&[1, 2]),
            embeddings: *draws.pick(&[Embeddings::Tied, Embeddings::Untied]),
            rotary_base: 10_000.0,
            rotary_scaling: None,
            images: None,
            decoder: None,
            head_size: None,
            attention_bias: Bias::Absent,
            norm_epsilon: 1e-5,
            training: Training {
                batch,
                precision: *draws.pick(&[Precision::Full, Precision::Mixed]),
                learning_rate: 1e-3,
                warmup_steps: 0,
                weight_decay: 0.1,
                gradient_norm_max: 1.0,
                betas: [0.9, 0.95],
                epsilon: 1e-8,
            },
        };
        Case { model, cluster }
    }
}

/// What a plan takes.
struct Truth {
    plan: Plan,
    step: Seconds,
    peak: Bytes,
}

/// All legal plans of a case. None if there are too many of them.
fn plans(graph: &Graph, case: &Case, most: usize) -> Option<Vec<Plan>> {
    let (devices, batch) = (case.cluster.device_count(), case.model.training.batch);
    let layers = graph.layers.len() as u32;
    let mut all = Vec::new();
    for stages in (1..=devices.min(layers)).filter(|&stages| devices.is_multiple_of(stages)) {
        for microbatches in (1..=batch).filter(|&count| batch.is_multiple_of(count)) {
            let of_layer = |layer: usize| {
                let kind = &graph.kinds[graph.layers[layer].index()];
                let keeps_nothing = kind.input.is_none() && graph.tie.is_none();
                let mut own = compiler::strategies(kind, devices / stages, batch / microbatches);
                own.retain(|strategy| !keeps_nothing || strategy.recompute == Recompute::Nothing);
                own
            };
            let strategies: Vec<Vec<Strategy>> = (0..layers as usize).map(of_layer).collect();
            // Tied layers choose together, so the owner's choices are counted alone.
            let apart = strategies.len() - usize::from(graph.tie.is_some());
            let count: f64 = strategies[..apart].iter().map(|own| own.len() as f64).product();
            if count > most as f64 {
                return None;
            }
            if all.len() > 20 * most {
                return None;
            }
            for chosen in product(&strategies) {
                for cuts in cuts(layers, stages) {
                    let schedules = [Schedule::OneForwardOneBackward, Schedule::AllForward];
                    for schedule in &schedules[..if stages > 1 { 2 } else { 1 }] {
                        all.push(Plan {
                            batch,
                            microbatches: microbatches as u32,
                            schedule: *schedule,
                            precision: case.model.training.precision,
                            stages: cuts.clone(),
                            strategies: chosen.clone(),
                            prefetch: 1,
                        });
                    }
                }
            }
        }
    }
    all.retain(|plan| compiler::check(graph, &case.cluster, plan).is_empty());
    (all.len() <= most).then_some(all)
}

/// Every way to take one of each list.
fn product(lists: &[Vec<Strategy>]) -> Vec<Vec<Strategy>> {
    let extend = |before: Vec<Vec<Strategy>>, list: &Vec<Strategy>| {
        let longer = |chosen: &Vec<Strategy>| {
            let chosen = chosen.clone();
            list.iter().map(move |one| [chosen.as_slice(), std::slice::from_ref(one)].concat())
        };
        before.iter().flat_map(longer).collect()
    };
    lists.iter().fold(vec![Vec::new()], extend)
}

/// Every way to cut layers into stages.
fn cuts(layers: u32, stages: u32) -> Vec<Vec<std::ops::Range<u32>>> {
    let mut all = vec![(0, Vec::new())];
    for stage in 1..=stages {
        let longer = |(start, before): &(u32, Vec<std::ops::Range<u32>>)| {
            let (start, before) = (*start, before.clone());
            let ends = if stage == stages { layers..=layers } else { start + 1..=layers - (stages - stage) };
            ends.map(move |end| (end, before.iter().cloned().chain([start..end]).collect::<Vec<_>>()))
        };
        all = all.iter().flat_map(longer).collect();
    }
    all.into_iter().map(|(_, stages)| stages).collect()
}

fn truths(graph: &Graph, costs: &CostModel, plans: Vec<Plan>) -> Vec<Truth> {
    let truth = |plan: Plan| {
        let programs = compiler::compile_unlimited(graph, &plan).expect("the plan is legal");
        let trace = simulate(&programs, costs, Detail::Totals).expect("verified programs do not deadlock");
        Truth { plan, step: trace.step, peak: programs.peak() }
    };
    plans.into_par_iter().map(truth).collect()
}

fn found(case: &Case, graph: &Graph, cluster: &Cluster) -> Result<Found, NoPlan> {
    let costs = CostModel::new(cluster, None);
    let setting = Setting { graph, cluster, costs: &costs, precision: case.model.training.precision, line: None };
    let request = Request {
        setting,
        batch: case.model.training.batch,
        method: Method::DYNAMIC,
        keep: 16,
        rules: Rules::default(),
    };
    search(&request, &|_, _| {})
}

/// How memory is limited: by nothing, so that a half or a quarter of all plans fit, or to little more than any needs.
const LIMITS: [Limit; 4] = [Limit::None, Limit::Half, Limit::Quarter, Limit::Least];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    None,
    Half,
    Quarter,
    Least,
}

impl Limit {
    /// The capacity, if plans are sorted by what they need.
    fn capacity(self, sorted: &[Truth]) -> Bytes {
        match self {
            Limit::None => sorted[sorted.len() - 1].peak,
            Limit::Half => sorted[sorted.len() / 2].peak,
            Limit::Quarter => sorted[sorted.len() / 4].peak,
            Limit::Least => Bytes(sorted[0].peak.0 + sorted[0].peak.0 / 10),
        }
    }
}

impl Limit {
    /// By how much the first plan may be slower than the best of all. Steps within 0.5 % are a tie, and the one of
    /// them with the fewest strategies is put first. Where memory is short, the best may be two changes away from
    /// all that estimates take for good (44 % is the most that was seen: paddings of tiny models make pipelines seem not
    /// to fit where one stage does; 12 % in seven of ten cases). Where there is hardly any to choose by, the search is
    /// only asked to find what fits.
    fn tolerance(self) -> f64 {
        match self {
            Limit::None => NOISE + 5e-4,
            Limit::Half | Limit::Quarter => 0.45,
            Limit::Least => f64::INFINITY,
        }
    }
}

#[test]
fn the_plan_that_is_put_first_is_the_best_of_all() {
    let (mut cases, mut tight, mut late) = (0, 0, 0);
    for seed in 0..60 {
        let case = Case::new(seed);
        let graph = case.model.graph();
        let Some(plans) = plans(&graph, &case, PLANS_MAX) else { continue };
        cases += 1;
        let mut truths = truths(&graph, &CostModel::new(&case.cluster, None), plans);
        truths.sort_by_key(|truth| truth.peak);
        for limit in LIMITS {
            let capacity = limit.capacity(&truths);
            let mut cluster = case.cluster.clone();
            (cluster.device.memory, cluster.device.reserved) = (capacity, Bytes::ZERO);
            let fitting = truths.iter().filter(|truth| truth.peak <= capacity);
            let best = fitting.min_by(|a, b| a.step.0.total_cmp(&b.step.0)).expect("some plan needs least");
            let told = format!("seed {seed}, {limit:?}: {:?} on {}, best {:#?}", case.model, cluster.name, best.plan);
            let found = found(&case, &graph, &cluster).unwrap_or_else(|none| panic!("{none}, but {told}"));
            let first = &found.candidates[0];
            assert!(first.peak <= capacity, "{told}");
            if matches!(limit, Limit::Half | Limit::Quarter) {
                tight += 1;
                late += u32::from(first.trace.step.0 > best.step.0 * 1.12);
            }
            let most = best.step.0 * (1.0 + limit.tolerance());
            assert!(first.trace.step.0 <= most, "{} for {}: {:#?}\n{told}", first.trace.step, best.step, first.plan);
        }
    }
    assert!(late * 3 <= tight, "{late} of {tight} answers are far from the best where memory is short");
    assert!(cases >= 5, "only {cases} cases are small enough");
}

/// Cases with more plans take too long.
const PLANS_MAX: usize = 2_400;
