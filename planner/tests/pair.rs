//! Searches of an encoder with a decoder: the dynamic program is as good as trying everything, stages have fewer blocks
//! of the decoder, programs have as many operations as the formula of the model says, and keep what is looked at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use compiler::{LayerBatch, layer_bytes};
use cost_model::CostModel;
use hetu_planner::{Known, Request, Rules, Setting, Space, outer_choices, search};
use ir::cluster::Cluster;
use ir::file::parse_model;
use ir::graph::{Graph, KindId};
use ir::model::{Model, Precision};
use ir::op::Op;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::program::{Action, Programs};
use place::{folder, run, status_and_texts};
use solver::{Method, solve};

/// Width 64, two heads of 48, feed-forward of 96, 80 words.
fn pair(layers: [u32; 2], sequences: [u64; 2]) -> Graph {
    let ([encoder, decoder], [read, written]) = (layers, sequences);
    let text = format!(
        "format: 1\nname: pair\nfamily: t5\nlayers: {encoder}\nhidden: 64\nheads: 2\nhead_size: 48\nfeed_forward: 96\n\
         vocabulary: 80\nsequence: {read}\nembeddings: tied\ndecoder: {{ layers: {decoder}, sequence: {written} }}\n\
         training: {{ batch: 4 }}\n"
    );
    parse_model(&text, "pair.yaml").unwrap().graph()
}

/// Assignments up to which everything is tried.
const ASSIGNMENTS_MAX: f64 = 2e6;

#[test]
fn the_dynamic_program_finds_the_best_of_all_for_an_encoder_with_a_decoder() {
    let graph = pair([1, 1], [32, 16]);
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
            if ways * 5f64.powi(outer.stages as i32 - 1) > ASSIGNMENTS_MAX {
                continue;
            }
            let best = solve(&space.problem, &Method::Exhaustive).found().unwrap();
            let (found, least) = (answer.objective, best.objective);
            assert!((found / least - 1.0).abs() < 1e-9, "{found} s, not {least} s: {outer:?}");
            compared += 1;
        }
    }
    assert!(compared > 3, "{compared} choices were small enough");
}

#[test]
fn stages_have_fewer_blocks_that_look_at_others() {
    let text = "format: 1\nname: large\nfamily: t5\nlayers: 12\nhidden: 1024\nheads: 16\nfeed_forward: 4096\n\
                vocabulary: 1024\nsequence: 512\nembeddings: tied\ndecoder: { layers: 12, sequence: 512 }\n\
                training: { batch: 64 }\n";
    let graph = parse_model(text, "large.yaml").unwrap().graph();
    let cluster = Cluster::preset("4xA100-40GB").unwrap();
    let costs = CostModel::new(&cluster, None);
    let setting = Setting { graph: &graph, cluster: &cluster, costs: &costs, precision: Precision::Mixed, line: None };
    let rules = Rules { stages: Some(4), ..Rules::default() };
    let request = Request { setting, batch: 64, method: Method::DYNAMIC, keep: 2, rules };
    let found = search(&request, &|_, _| {}).unwrap();
    let stages = &found.candidates[0].plan.stages;
    let count = |stage: usize, word: &str| {
        let names = stages[stage].clone().map(|layer| graph.kinds[graph.layers[layer as usize].index()].name.as_str());
        names.filter(|name| name.ends_with(word)).count()
    };
    let (encoder, decoder) = (count(0, "encoder block"), count(3, "decoder block"));
    assert!(decoder < encoder, "{stages:?}");
    assert_eq!([count(0, "decoder block"), count(3, "encoder block")], [0, 0], "{stages:?}");
}

/// Everything on one device.
fn alone(graph: &Graph, batch: u64, microbatches: u32, recompute: Recompute) -> Plan {
    let strategy = Strategy { data: 1, tensor: 1, sequence: Sequence::Whole, shard: Shard::Nothing, recompute };
    Plan {
        batch,
        microbatches,
        schedule: Schedule::AllForward,
        precision: Precision::Mixed,
        stages: std::iter::once(0..graph.layers.len() as u32).collect(),
        strategies: vec![strategy; graph.layers.len()],
        prefetch: 1,
    }
}

/// Operations of products and of attention in a step.
fn operations(programs: &Programs) -> f64 {
    let draft = programs.draft();
    let run = draft.roles[0].code.iter().filter_map(|instr| match instr.action {
        Action::Compute(id) => Some(&draft.fragments[id.index()]),
        Action::Exchange(_)
        | Action::Send(_)
        | Action::Receive(_)
        | Action::Free
        | Action::Signal(_)
        | Action::Wait(_) => None,
    });
    let is_counted = |op: &Op| {
        matches!(
            op,
            Op::MatMul | Op::Attention(_) | Op::AttentionGradient(_) | Op::CrossAttention | Op::CrossAttentionGradient
        )
    };
    let kernels = run.flat_map(|fragment| &fragment.kernels).filter(|kernel| is_counted(&kernel.op));
    kernels.map(|kernel| kernel.flops().0).sum()
}

#[test]
fn programs_have_as_many_operations_as_the_model() {
    let ([encoder, decoder], [t, s]) = ([3, 2], [32.0, 16.0]);
    let graph = pair([encoder, decoder], [32, 16]);
    let programs = compiler::compile_unlimited(&graph, &alone(&graph, 4, 2, Recompute::Nothing)).unwrap();
    // Width, all heads, feed-forward and words: a product of each matrix and position is two operations, and its
    // gradients are twice as many.
    let [h, a, f, v] = [64.0, 2.0 * 48.0, 96.0, 80.0];
    let read = 6.0 * t * (4.0 * h * a + 2.0 * h * f);
    let written = 6.0 * s * (4.0 * h * a + 2.0 * h * a + 2.0 * h * f) + 6.0 * t * 2.0 * h * a;
    // Two products of scores forward and five backward; those of what was written need half.
    let scores = |queries: f64, keys: f64| (2.0 + 5.0) * 2.0 * queries * keys * a;
    let encoder = f64::from(encoder) * (read + scores(t, t));
    let decoder = f64::from(decoder) * (written + scores(s, s) / 2.0 + scores(s, t));
    let head = 6.0 * s * h * v;
    let (found, wanted) = (operations(&programs), 4.0 * (encoder + decoder + head));
    assert!((found - wanted).abs() < 0.5, "{found} operations, not {wanted}");
}

#[test]
fn what_is_looked_at_is_kept_once_for_all_blocks() {
    let (read, written, sequences) = (2048, 32, 4);
    let memory = |decoder: u32, microbatches: u32| {
        let graph = pair([1, decoder], [read, written]);
        let plan = alone(&graph, sequences * u64::from(microbatches), microbatches, Recompute::Full);
        compiler::compile_unlimited(&graph, &plan).unwrap().peak().0
    };
    let graph = pair([1, 3], [read, written]);
    let kind = graph.kinds.iter().position(|kind| kind.name == "decoder block").unwrap();
    let strategy = alone(&graph, sequences, 1, Recompute::Full).strategies[0].clone();
    let batch = LayerBatch { sequences, precision: Precision::Mixed };
    let bytes = layer_bytes(&graph, KindId(kind as u32), &strategy, batch).unwrap();
    // A block keeps what comes to it: 4 sequences of 32 positions of 64 numbers of 2 bytes.
    assert_eq!(bytes.saved.0, sequences * written * 64 * 2);
    // Each block more needs its parameters and that, for each microbatch; not the context again, which is 64 times that.
    // What is left over between buffers may differ by as much as one.
    let context = sequences * read * 64 * 2;
    let (more, own) = (memory(12, 3) - memory(4, 3), 8 * (bytes.state.0 + 3 * bytes.saved.0));
    assert!(more < own + context, "{more} more, {own} of its own");
    // Each microbatch more has a context, what the encoder's block and the border take, what the others take, and rows:
    // less than four contexts, where one for each of four blocks would make six.
    let (of_four, kept) = (memory(4, 7) - memory(4, 3), 4 * (4 * context + 6 * bytes.saved.0));
    assert!(of_four > 4 * 2 * context && of_four < kept, "{of_four}, contexts are {context}");
}

#[test]
fn a_model_is_planned_by_name_over_stages_and_listed() {
    let folder = folder("pair");
    let (_, listed, _) = status_and_texts(&run(&folder, &["models"]));
    let line = listed.lines().find(|line| line.trim_start().starts_with("t5-3b")).unwrap_or_default();
    assert!(line.contains("2.85 B") && line.contains(" 48 ") && line.ends_with("answering text"), "{listed}");
    for stages in ["1", "4"] {
        let arguments = ["t5-3b", "--cluster", "8xA100-40GB", "--stages", stages, "-o", "t5.yaml"];
        let (status, text, said) = status_and_texts(&run(&folder, &arguments));
        assert!(status == 0 && text.contains("t5-3b: 48 blocks, 2.85 B parameters"), "{text}{said}");
    }
    assert_eq!(Model::preset("t5-3b").unwrap().layer_count(), 51);
}
