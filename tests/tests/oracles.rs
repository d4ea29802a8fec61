//! Closed forms, on compiled programs: memory of sharded training, microbatches in flight, sums of kernels.

use cost_model::{CostModel, Detail, simulate};
use hetu_tests::notation::{alone, plan, single};
use hetu_tests::specimen;
use hetu_tests::training::compiled;
use ir::cluster::Cluster;
use ir::file::parse_model;
use ir::graph::{Element, Graph, KindId};
use ir::model::{Model, Precision};
use ir::plan::{Plan, Recompute, Schedule, Shard, Strategy};
use ir::program::{Action, Content, Programs};
use ir::units::{Bytes, BytesPerSecond, Seconds};

/// Widths of this model are multiples of 1,024: no share of up to 32 ranks needs padding, or ends off a multiple of the
/// alignment of buffers.
const LARGE: &str = include_str!("../../examples/models/llama3-8b.yaml");

/// Bytes of a rank's resident buffers: parameters, master parameters, both moments.
fn resident(programs: &Programs) -> [u64; 3] {
    let mut sums = [0; 3];
    for buffer in &programs.roles()[0].buffers {
        let place = match buffer.content {
            Content::Parameters { .. } => 0,
            Content::Master { .. } => 1,
            Content::FirstMoment { .. } | Content::SecondMoment { .. } => 2,
            Content::Value
            | Content::Tokens(_)
            | Content::Patches { .. }
            | Content::Source { .. }
            | Content::Targets(_)
            | Content::Boundary
            | Content::Scalars
            | Content::Constants => continue,
        };
        sums[place] += buffer.bytes.0;
    }
    sums
}

/// Bytes of the gradients that a rank keeps between microbatches: what layers hold beside what is resident.
fn gradients(graph: &Graph, plan: &Plan, programs: &Programs) -> u64 {
    let batch = compiler::LayerBatch { sequences: plan.microbatch_sequences(), precision: plan.precision };
    let state = |(kind, strategy): (&KindId, &Strategy)| {
        compiler::layer_bytes(graph, *kind, strategy, batch).expect("the strategy is legal").state.0
    };
    let states: u64 = graph.layers.iter().zip(&plan.strategies).map(state).sum();
    states - resident(programs).iter().sum::<u64>()
}

/// Rajbhandari et al. 2020, figure 1: of Ψ parameters, a rank of N keeps 2Ψ bytes of parameters, their gradients, and
/// 12Ψ bytes of 32-bit copies and moments; each level of sharding divides one more of these by N. Gradients are 4Ψ
/// here, not 2Ψ: they are summed in 32 bits.
#[test]
fn sharded_training_keeps_what_its_paper_says() {
    let model = parse_model(LARGE, "llama3-8b.yaml").expect("an example is valid");
    let graph = model.graph();
    let all = graph.parameter_count();
    for ranks in [1, 4, 32] {
        let shards = [Shard::Nothing, Shard::Optimizer, Shard::Gradients, Shard::Parameters];
        for (level, shard) in shards.into_iter().enumerate().filter(|&(level, _)| ranks > 1 || level == 0) {
            let strategy = Strategy { data: ranks, shard, ..single() };
            let plan = Plan {
                precision: Precision::Mixed,
                microbatches: 1,
                strategies: vec![strategy; graph.layers.len()],
                ..alone(u64::from(ranks), graph.layers.len())
            };
            let programs = compiled(&graph, &plan);
            let part = |from: usize| if level >= from { all / u64::from(ranks) } else { all };
            let expected = [2 * part(3), 4 * part(1), 8 * part(1)];
            assert_eq!(resident(&programs), expected, "{shard:?} over {ranks}");
            assert_eq!(gradients(&graph, &plan, &programs), 4 * part(2), "{shard:?} over {ranks}");
        }
    }
}

/// Where nothing divides: each parameter of a block begins at a multiple of 64 numbers, and a block has 64 more for
/// each rank at most.
#[test]
fn padding_of_shares_is_what_the_blocks_say() {
    let graph = Model { hidden: 24, feed_forward: 20, vocabulary: 33, ..specimen::llama() }.graph();
    for (ranks, batch) in [(2, 4), (3, 6), (5, 10)] {
        let plan = plan(batch, &format!("5: d{ranks} parameters"));
        let programs = compiled(&graph, &plan);
        let blocks = &programs.draft().blocks;
        let mut numbers = 0;
        for block in blocks {
            let own = |size: &(u64, Vec<usize>)| size.0;
            let sizes = block.parameters.iter().map(|parameter| parameter.dimensions.iter().map(own).product::<u64>());
            numbers += sizes.clone().sum::<u64>();
            let apart = sizes.map(|size| size.next_multiple_of(64)).sum::<u64>();
            assert_eq!(block.padded, apart.next_multiple_of(64 * ranks), "{block:?}");
        }
        assert_eq!(numbers, graph.parameter_count());
        let padded: u64 = blocks.iter().map(|block| block.padded).sum();
        assert_eq!(resident(&programs), [4 * padded / ranks, 0, 8 * padded / ranks]);
        assert_eq!(gradients(&graph, &plan, &programs), 4 * padded / ranks);
    }
}

/// The largest sum of what lives at once in each stage, without tokens, of `microbatches` of two sequences each.
fn alive(model: &Model, stages: &str, schedule: Schedule, microbatches: u32) -> Vec<u64> {
    let plan = Plan { schedule, ..plan(2 * u64::from(microbatches), &format!("{stages} m{microbatches}: d1")) };
    let programs = compiled(&model.graph(), &plan);
    let tokens = |content: &Content| matches!(content, Content::Tokens(_) | Content::Targets(_));
    let alive = programs.roles().iter().map(|role| {
        let rows: Bytes = role.buffers.iter().filter(|it| tokens(&it.content)).map(|it| it.bytes).sum();
        role.live_bound.0 - rows.0
    });
    alive.collect()
}

/// Huang et al. 2019: all microbatches are kept. Narayanan et al. 2021, section 2.2.1: as many as there are stages from
/// this one on.
#[test]
fn microbatches_in_flight_are_all_or_as_many_as_stages_behind() {
    let model = specimen::llama();
    let graph = model.graph();
    let batch = compiler::LayerBatch { sequences: 2, precision: Precision::Full };
    for (text, stages) in [("2+3", [0..2, 2..5].to_vec()), ("1+2+1+1", [0..1, 1..3, 3..4, 4..5].to_vec())] {
        let saved = |layer: u32| {
            let kind = graph.layers[layer as usize];
            compiler::layer_bytes(&graph, kind, &single(), batch).expect("legal").saved.0
        };
        let saved: Vec<u64> = stages.iter().map(|stage| stage.clone().map(saved).sum()).collect();
        let count = stages.len() as u32;
        let one_each = |microbatches| alive(&model, text, Schedule::OneForwardOneBackward, microbatches);
        let all = |microbatches| alive(&model, text, Schedule::AllForward, microbatches);
        assert_eq!(one_each(count + 1), one_each(count + 4), "more microbatches take no more memory");
        for (stage, &saved) in saved.iter().enumerate() {
            let [before, after] = [all(count + 3)[stage], all(count + 4)[stage]];
            assert_eq!(after - before, saved, "each keeps what its layers save: {text}, stage {stage}");
            let held = compiler::in_flight(Schedule::OneForwardOneBackward, count, stage as u32, count + 4);
            assert_eq!(held, count - stage as u32);
            let spared = u64::from(count + 4 - held) * saved;
            // What a pass itself needs, or sends meanwhile, may come on top of one microbatch more or less.
            let sent = 2 * graph.sequence * graph.kinds[1].sizes[&'h'] * Element::F32.bytes();
            let unlike = one_each(count + 4)[stage] + spared - after;
            assert!(unlike <= saved.max(sent), "{text}, stage {stage}: {unlike} more, a microbatch is {saved}");
        }
    }
}

/// A device that is told of its work in no time.
fn immediate() -> Cluster {
    let mut cluster = Cluster::preset("8xH100").expect("there is this preset");
    cluster.device.issue = Seconds::ZERO;
    cluster
}

#[test]
fn one_rank_takes_the_sum_of_its_kernels() {
    for (model, text) in [(specimen::llama(), "5 m4: d1 full"), (specimen::gpt(), "5 m1: d1")] {
        let programs = compiled(&model.graph(), &plan(8, text));
        let costs = CostModel::new(&immediate(), None);
        let kernels = programs.roles()[0].code.iter().filter_map(|instr| match instr.action {
            Action::Compute(id) => Some(costs.price_fragment(programs.fragment(id)).0),
            Action::Exchange(id) => {
                assert_eq!(programs.collective(id).exchange.axes(), [0usize; 0], "{instr:?}");
                None
            }
            Action::Send(_) | Action::Receive(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => None,
        });
        let sum: Seconds = kernels.sum();
        let step = simulate(&programs, &costs, Detail::Totals).expect("no deadlock").step;
        assert!((step.0 / sum.0 - 1.0).abs() < 1e-12, "{step} is not {sum}");
    }
}

/// The simulated step of equal blocks, one a stage.
fn step(stages: u32, microbatches: u32) -> Seconds {
    let mut cluster = immediate();
    for link in [&mut cluster.inside, &mut cluster.between] {
        (link.latency, link.rate) = (Seconds::ZERO, BytesPerSecond(f64::INFINITY));
    }
    let graph = specimen::llama().graph().part(&vec![KindId(1); stages as usize]);
    let text = vec!["1"; stages as usize].join("+");
    let strategy = Strategy { recompute: Recompute::Full, ..single() };
    let strategies = vec![strategy; stages as usize];
    let plan = Plan { strategies, ..plan(2 * u64::from(microbatches), &format!("{text} m{microbatches}: d1")) };
    let programs = compiled(&graph, &plan);
    simulate(&programs, &CostModel::new(&cluster, None), Detail::Totals).expect("no deadlock").step
}

/// Narayanan et al. 2021, section 2.2.1: with free transfers, p equal stages do m microbatches in (m + p − 1)(f + b).
#[test]
fn a_pipeline_of_equal_stages_fills_and_drains_once() {
    let turn = step(1, 3) - step(1, 2);
    for stages in [2, 3, 4] {
        for microbatches in [1, 2, 4, 7] {
            let found = step(stages, microbatches) - step(1, microbatches);
            let expected = turn * f64::from(stages - 1);
            let [found, expected] = [found.0, expected.0];
            assert!((found / expected - 1.0).abs() < 1e-12, "{stages} stages, {microbatches}: {found} not {expected}");
        }
    }
}
