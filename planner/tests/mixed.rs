//! Plans on unlike devices: priced as on alike ones where they are alike, shared by speed and memory where they are not,
//! and on small cases the best of all.

use compiler::strategies;
use cost_model::{CostModel, FleetModel};
use hetu_planner::{FleetFound, FleetRequest, Line, Parts, Rules, Seated, Setting, candidate, search_fleet};
use ir::cluster::Cluster;
use ir::fleet::Fleet;
use ir::graph::{Graph, KindId};
use ir::model::{Model, Precision};
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::units::Bytes;
use rayon::prelude::*;
use solver::Method;

/// Parts of these clusters, joined by the slower of their links.
fn fleet(parts: &[&Cluster]) -> Fleet {
    let between = parts.iter().skip(1).fold(&parts[0].between, |slowest, part| slowest.slower(&part.between)).clone();
    let named =
        parts.iter().enumerate().map(|(index, &part)| Cluster { name: format!("part {index}"), ..part.clone() });
    Fleet { name: "mixed".to_owned(), parts: named.collect(), between }
}

fn found(graph: &Graph, fleet: &Fleet, batch: u64, rules: &Rules) -> FleetFound {
    let costs = FleetModel::new(fleet);
    let request = FleetRequest {
        graph,
        precision: Precision::Mixed,
        parts: Parts { clusters: &fleet.parts, costs: &costs },
        batch,
        method: Method::DYNAMIC,
        keep: 16,
        rules: rules.clone(),
    };
    search_fleet(&request, &|_, _| {}).expect("a plan fits")
}

fn first(found: &FleetFound) -> &Seated {
    &found.seated[0]
}

fn step(found: &FleetFound) -> f64 {
    first(found).candidate.trace.step.0
}

fn preset(name: &str) -> Cluster {
    Cluster::preset(name).expect("there is this preset")
}

/// Devices that do everything so many times as fast.
fn as_fast(cluster: &Cluster, times: f64) -> Cluster {
    let mut other = cluster.clone();
    other.device.bf16_rate.0 *= times;
    other.device.f32_rate.0 *= times;
    other.device.memory_rate.0 *= times;
    other.device.issue.0 /= times;
    other.inside.rate.0 *= times;
    other
}

fn uniform(graph: &Graph, stages: &[std::ops::Range<u32>], strategy: &Strategy) -> Plan {
    Plan {
        batch: 16,
        microbatches: 4,
        schedule: Schedule::OneForwardOneBackward,
        precision: Precision::Mixed,
        stages: stages.to_vec(),
        strategies: vec![strategy.clone(); graph.layers.len()],
        prefetch: 1,
    }
}

#[test]
fn parts_that_are_alike_are_priced_as_one_cluster() {
    // The first model shares its embedding with its head: its sums go over all stages.
    for (model, whole, part) in [
        ("tiny-gpt", "2x4xH100", "4xH100"),
        ("tiny-llama", "2x4xA100", "4xA100"),
        ("gpt2-124m", "4x2xH100", "2x2xH100"),
        ("tiny-gpt", "2x4xCPU", "4xCPU"),
    ] {
        let graph = Model::preset(model).expect("it is shipped").graph();
        let (whole, part) = (preset(whole), preset(part));
        let (costs, fleet) = (CostModel::new(&whole, None), fleet(&[&part, &part]));
        let parts = FleetModel::new(&fleet);
        let layers = graph.layers.len() as u32;
        for (tensor, shard) in [(1, Shard::Nothing), (2, Shard::Optimizer), (1, Shard::Parameters)] {
            let (sequence, recompute) = (Sequence::Whole, Recompute::Nothing);
            for (ranks, cuts, on) in [(4, vec![2], vec![0, 1]), (2, vec![1, 2, 3], vec![0, 0, 1, 1])] {
                let strategy = Strategy { data: ranks / tensor, tensor, sequence, shard, recompute };
                let ends = cuts.iter().copied().chain([layers]);
                let stages: Vec<_> =
                    std::iter::once(0).chain(cuts.iter().copied()).zip(ends).map(|(a, b)| a..b).collect();
                let plan = uniform(&graph, &stages, &strategy);
                let alike =
                    Setting { graph: &graph, cluster: &whole, costs: &costs, precision: Precision::Mixed, line: None };
                let Ok(one) = candidate(alike, &plan) else { continue };
                let line = Line::new(Parts { clusters: &fleet.parts, costs: &parts }, on);
                let other = candidate(Setting { line: Some(&line), ..alike }, &plan).expect("it is legal here, too");
                let steps = [one, other].map(|each| each.trace.step.0.to_bits());
                assert_eq!(steps[0], steps[1], "{model} on {}: {plan:?}", whole.name);
            }
        }
    }
}

#[test]
fn a_part_that_is_half_as_fast_gets_half_the_layers() {
    let graph = Model::preset("gpt3-1.3b").expect("it is shipped").graph();
    let fast = preset("2xH100");
    let fleet = fleet(&[&fast, &as_fast(&fast, 0.5)]);
    let rules = Rules { stages: Some(2), ..Rules::default() };
    let found = found(&graph, &fleet, 64, &rules);
    let Seated { candidate, parts } = first(&found);
    let layers = |part: usize| -> usize {
        let on_part = candidate.plan.stages.iter().zip(parts).filter(|(_, on)| **on == part);
        on_part.map(|(stage, _)| stage.len()).sum()
    };
    // Of 24 blocks and a head that takes as long as about two.
    let [fast, slow] = [layers(0), layers(1)];
    assert!((15..=19).contains(&fast) && fast + slow == 26, "{fast} and {slow}");
    assert!(found.alone.iter().flatten().all(|alone| step(&found) < alone.candidates[0].trace.step.0));
}

#[test]
fn a_part_with_less_memory_never_holds_more() {
    let graph = Model::preset("gpt3-1.3b").expect("it is shipped").graph();
    let large = preset("2xH100");
    let mut small = large.clone();
    let mut shares = Vec::new();
    for gibibytes in [10, 16, 24] {
        small.device.memory = Bytes((gibibytes << 30) + small.device.reserved.0);
        let fleet = fleet(&[&large, &small]);
        let found = found(&graph, &fleet, 32, &Rules { stages: Some(2), ..Rules::default() });
        for Seated { candidate, parts } in &found.seated {
            for (totals, &part) in candidate.trace.totals.iter().zip(parts) {
                assert!(totals.arena <= fleet.parts[part].capacity(), "{} of part {part}", totals.arena);
            }
        }
        let mixed = found.seated.iter().find(|seated| seated.parts.contains(&1) && seated.parts.contains(&0));
        shares.extend(mixed.map(|seated| {
            let stage = seated.parts.iter().position(|&part| part == 1).expect("one of them lies there");
            seated.candidate.plan.stages[stage].len()
        }));
    }
    assert!(!shares.is_empty() && shares.is_sorted(), "more memory holds more layers: {shares:?}");
}

#[test]
fn more_parts_never_make_the_answer_worse() {
    let graph = Model::preset("gpt2-124m").expect("it is shipped").graph();
    let parts = [preset("2xA100"), preset("1xH100"), as_fast(&preset("2xA100"), 0.7)];
    let of = |parts: &[&Cluster]| step(&found(&graph, &fleet(parts), 32, &Rules::default()));
    let [one, two, three] = &parts;
    let alone = of(&[one]);
    let both = of(&[one, two]);
    let all = of(&[one, two, three]);
    assert!(both <= alone && all <= both * 1.001, "{alone} {both} {all}");
    assert!(both < alone, "a faster device helps");
}

/// Every way to cut layers into stages.
fn cuts(layers: u32, stages: u32) -> Vec<Vec<std::ops::Range<u32>>> {
    if stages == 1 {
        return vec![std::iter::once(0..layers).collect()];
    }
    let last = (stages - 1..layers).flat_map(|start| {
        cuts(start, stages - 1).into_iter().map(move |mut before| {
            before.push(start..layers);
            before
        })
    });
    last.collect()
}

/// Every sequence of parts of so many stages that there are devices for.
fn sequences(devices: &[u32], ranks: u32, stages: usize) -> Vec<Vec<usize>> {
    let longer = |all: Vec<Vec<usize>>| -> Vec<Vec<usize>> {
        all.iter().flat_map(|line| (0..devices.len()).map(move |part| [line.as_slice(), &[part]].concat())).collect()
    };
    let mut all = (0..stages).fold(vec![Vec::new()], |all, _| longer(all));
    let fits = |line: &Vec<usize>| {
        let used = |part: usize| line.iter().filter(|&&on| on == part).count() as u32 * ranks;
        devices.iter().enumerate().all(|(part, &count)| used(part) <= count)
    };
    all.retain(fits);
    all
}

/// All plans on so many ranks a stage within rules.
fn plans(graph: &Graph, batch: u64, rules: &Rules, [ranks, stages]: [u32; 2]) -> Vec<Plan> {
    let mut all = Vec::new();
    for microbatches in (1..=batch).filter(|&count| batch.is_multiple_of(count)) {
        let of_layer = |kind: &KindId| {
            let mut own = strategies(&graph.kinds[kind.index()], ranks, batch / microbatches);
            own.retain(|strategy| rules.allows(graph, *kind, strategy));
            own
        };
        let chosen = graph.layers.iter().map(of_layer).fold(vec![Vec::new()], |before: Vec<Vec<Strategy>>, own| {
            let extend = |chosen: &Vec<Strategy>| {
                own.iter().map(|one| [chosen.as_slice(), std::slice::from_ref(one)].concat()).collect::<Vec<_>>()
            };
            before.iter().flat_map(extend).collect()
        });
        for strategies in &chosen {
            for stages in cuts(graph.layers.len() as u32, stages) {
                for schedule in [Schedule::OneForwardOneBackward, Schedule::AllForward] {
                    let (stages, strategies) = (stages.clone(), strategies.clone());
                    let (precision, microbatches) = (Precision::Mixed, microbatches as u32);
                    all.push(Plan { batch, microbatches, schedule, precision, stages, strategies, prefetch: 1 });
                }
            }
        }
    }
    all.retain(|plan| compiler::check_anywhere(graph, plan).is_empty());
    all
}

/// The least step of all plans on all sequences of parts, in seconds, and how many there are.
fn best_of_all(graph: &Graph, fleet: &Fleet, batch: u64, rules: &Rules) -> (f64, usize) {
    let costs = FleetModel::new(fleet);
    let parts = Parts { clusters: &fleet.parts, costs: &costs };
    let devices: Vec<u32> = fleet.parts.iter().map(Cluster::device_count).collect();
    let mut jobs: Vec<(Line<'_>, Plan)> = Vec::new();
    for ranks in 1..=devices.iter().copied().max().unwrap_or(1) {
        for stages in 1..=graph.layers.len() as u32 {
            let plans = plans(graph, batch, rules, [ranks, stages]);
            for on in sequences(&devices, ranks, stages as usize) {
                jobs.extend(plans.iter().map(|plan| (Line::new(parts, on.clone()), plan.clone())));
            }
        }
    }
    let steps = jobs.par_iter().filter_map(|(line, plan)| {
        let (cluster, costs) = (&fleet.parts[0], costs.part(0));
        let setting = Setting { graph, cluster, costs, precision: Precision::Mixed, line: Some(line) };
        candidate(setting, plan).ok().map(|found| found.trace.step.0)
    });
    (steps.reduce(|| f64::INFINITY, f64::min), jobs.len())
}

#[test]
fn on_small_cases_no_plan_is_faster() {
    let plain = Rules { recompute: Some(Recompute::Nothing), shard: Some(Shard::Nothing), ..Rules::default() };
    let mut model = Model::preset("gpt2-124m").expect("it is shipped");
    (model.vocabulary, model.sequence) = (4096, 1024);
    let h100 = |count: u32| preset(&format!("{count}xH100"));
    let mut together = 0;
    for (layers, hidden, parts, batch) in [
        (3, 4096, vec![h100(1), as_fast(&h100(1), 0.6)], 16),
        (3, 4096, vec![as_fast(&h100(1), 0.4), h100(1)], 8),
        (2, 2048, vec![h100(1), as_fast(&h100(2), 0.5)], 8),
        (1, 4096, vec![h100(2), as_fast(&h100(2), 0.7)], 4),
        (2, 768, vec![h100(1), as_fast(&h100(1), 0.8), as_fast(&h100(1), 0.5)], 4),
    ] {
        (model.layers, model.hidden, model.feed_forward) = (layers, hidden, 4 * hidden);
        let graph = model.graph();
        let parts: Vec<&Cluster> = parts.iter().collect();
        let fleet = fleet(&parts);
        let found = found(&graph, &fleet, batch, &plain);
        let (best, count) = best_of_all(&graph, &fleet, batch, &plain);
        let own = step(&found);
        assert!(own <= best * 1.01, "{layers} × {hidden}: {own} beside {best} of {count} plans, {:?}", first(&found));
        together += usize::from(first(&found).parts.iter().any(|part| *part != first(&found).parts[0]));
    }
    assert!(together >= 2, "some of the answers lie on several parts: {together}");
}
