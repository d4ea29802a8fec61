//! Searches of models whose layers are unlike in width, sequence and cost: the dynamic program is as good as trying
//! everything, stages have as much work and not as many layers, and commands say what these models are.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use compiler::{LayerBatch, layer_bytes};
use cost_model::CostModel;
use hetu_planner::{Known, Request, Rules, Setting, Space, outer_choices, search};
use ir::cluster::Cluster;
use ir::file::parse_model;
use ir::graph::Graph;
use ir::model::Precision;
use ir::plan::{Recompute, Sequence, Shard, Strategy};
use place::{folder, refused, run, status_and_texts};
use solver::{Method, solve};

/// Three blocks of 64, 128 and 256 and what merges patches between them, with sizes of its own for levels.
fn windows(levels: &str, layers: u32) -> Graph {
    let text = format!(
        "format: 1\nname: windows\nfamily: swin\nlayers: {layers}\nhidden: 64\nheads: 4\nfeed_forward: 256\n\
         vocabulary: 64\nsequence: 256\nimages: {{ patch: 48, levels: {levels}, window: 4 }}\ntraining: {{ batch: 16 }}\n"
    );
    parse_model(&text, "windows.yaml").unwrap().graph()
}

/// Assignments up to which everything is tried.
const ASSIGNMENTS_MAX: f64 = 2e6;

#[test]
fn the_dynamic_program_finds_the_best_of_all_for_unlike_layers() {
    let graph = windows("[1, 1, 1]", 3);
    let mut compared = 0;
    for cluster in ["2xA100-40GB", "2xCPU", "4xA100-40GB"] {
        let cluster = Cluster::preset(cluster).unwrap();
        let costs = CostModel::new(&cluster, None);
        let setting =
            Setting { graph: &graph, cluster: &cluster, costs: &costs, precision: Precision::Mixed, line: None };
        for outer in outer_choices(&graph, &cluster, 4) {
            let Some(mut space) = Space::new(setting, &Known::default(), &outer) else { continue };
            let answer = space.solve(setting, &Method::EXACT).found().expect("memory is no matter");
            let ways: f64 = space.problem.layers.iter().map(|&kind| space.strategies[kind].len() as f64).product();
            if ways * 7f64.powi(outer.stages as i32 - 1) > ASSIGNMENTS_MAX {
                continue;
            }
            let best = solve(&space.problem, &Method::Exhaustive).found().unwrap();
            let (found, least) = (answer.objective, best.objective);
            assert!((found / least - 1.0).abs() < 1e-9, "{found} s, not {least} s: {outer:?}");
            compared += 1;
        }
    }
    assert!(compared > 5, "{compared} choices were small enough");
}

#[test]
fn a_layer_holds_and_gives_what_its_own_sequence_and_width_make() {
    let graph = windows("[1, 1, 1]", 3);
    let strategy =
        Strategy { data: 1, tensor: 1, sequence: Sequence::Whole, shard: Shard::Nothing, recompute: Recompute::Full };
    let batch = LayerBatch { sequences: 2, precision: Precision::Mixed };
    // With everything computed again, a block keeps what it takes: 2 images of 256 patches of 64 numbers of 2 bytes;
    // then a quarter of the patches, each twice as wide.
    let blocks = graph.layers.iter().copied().filter(|kind| graph.kinds[kind.index()].name.ends_with("block"));
    let saved: Vec<u64> = blocks.map(|kind| layer_bytes(&graph, kind, &strategy, batch).unwrap().saved.0).collect();
    assert_eq!(saved, [65_536, 32_768, 16_384]);
}

#[test]
fn stages_of_unlike_layers_have_as_much_work_and_not_as_many_layers() {
    // Large enough that devices compute, and do not wait for their host. The embedding, what merges patches and the head
    // are hardly any work.
    let text = "format: 1\nname: large\nfamily: swin\nlayers: 12\nhidden: 256\nheads: 8\nfeed_forward: 1024\n\
                vocabulary: 1000\nsequence: 3136\nimages: { patch: 48, levels: [2, 2, 6, 2], window: 7 }\n\
                training: { batch: 64 }\n";
    let graph = parse_model(text, "large.yaml").unwrap().graph();
    let cluster = Cluster::preset("4xA100-40GB").unwrap();
    let costs = CostModel::new(&cluster, None);
    let setting = Setting { graph: &graph, cluster: &cluster, costs: &costs, precision: Precision::Mixed, line: None };
    let rules = Rules { stages: Some(4), ..Rules::default() };
    let request = Request { setting, batch: 64, method: Method::DYNAMIC, keep: 4, rules };
    let found = search(&request, &|_, _| {}).unwrap();
    let best = &found.candidates[0];
    let lengths: Vec<u32> = best.plan.stages.iter().map(|stage| stage.end - stage.start).collect();
    let (short, long) = (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
    assert!(long > short, "{lengths:?}");
    let work: Vec<f64> = best.trace.totals.iter().map(|of| of.compute.0).collect();
    let (least, most) = (work.iter().copied().fold(f64::MAX, f64::min), work.iter().copied().fold(0.0, f64::max));
    assert!(most < 1.6 * least, "{lengths:?} take {work:?}");
    // As many layers in each would be slower.
    let mut even = best.plan.clone();
    even.stages = vec![0..5, 5..9, 9..13, 13..17];
    assert_eq!(even.strategies.len(), 17);
    let programs = compiler::compile_unlimited(&graph, &even).unwrap();
    let step = cost_model::simulate(&programs, &costs, cost_model::Detail::Totals).unwrap().step;
    assert!(step.0 > 1.02 * best.trace.step.0, "{lengths:?}: {} s, even {} s", best.trace.step.0, step.0);
}

#[test]
fn models_are_listed_with_what_they_are_for_and_planned_by_name() {
    let folder = folder("unlike");
    let (_, listed, _) = status_and_texts(&run(&folder, &["models"]));
    for (name, purpose) in
        [("bert-huge-32", "filling in text"), ("vit-huge-32", "naming images"), ("llama2-7b", "writing text on")]
    {
        let line = listed.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        assert!(line.ends_with(purpose), "{listed}");
    }
    let arguments = ["bert-huge-32", "--cluster", "8xA100-40GB", "-o", "bert.yaml"];
    let (status, text, said) = status_and_texts(&run(&folder, &arguments));
    assert!(status == 0 && text.contains("bert-huge-32: 32 blocks, 671 M parameters"), "{text}{said}");
    let said = refused(&folder, &["export", "bert.yaml", "--to", "megatron"], 1);
    assert!(said.contains("models of the family `bert` cannot be exported"), "{said}");
}
