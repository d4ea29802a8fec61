//! Compiles and simulates llama3-70b on 1,024 devices: the shape of plan that the planner finds fastest there (one stage,
//! one microbatch, parameters sharded), its best pipeline (4 stages, 16 microbatches), and one with very much code
//! (8 stages, 64 microbatches).

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hetu_cost_model::{CostModel, Detail, simulate};
use ir::cluster::Cluster;
use ir::file::parse_model;
use ir::graph::Graph;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};

fn large(criterion: &mut Criterion) {
    let model = parse_model(include_str!("../../examples/models/llama3-70b.yaml"), "llama3-70b.yaml").expect("valid");
    let cluster = Cluster::preset("128x8xH100").expect("known");
    let graph = model.graph();
    let costs = CostModel::new(&cluster, None);
    let strategy = |tensor: u32, stages: u32, shard: Shard| Strategy {
        data: 1024 / stages / tensor,
        tensor,
        sequence: if tensor > 1 { Sequence::Split } else { Sequence::Whole },
        shard,
        recompute: Recompute::Selective,
    };
    let cases = [
        (1, vec![0..82], strategy(1, 1, Shard::Parameters)),
        (16, vec![0..21, 21..42, 42..63, 63..82], strategy(4, 4, Shard::Optimizer)),
        (64, vec![0..11, 11..21, 21..31, 31..41, 41..51, 51..61, 61..71, 71..82], strategy(8, 8, Shard::Optimizer)),
    ];
    for (microbatches, stages, strategy) in cases {
        let plan = Plan {
            batch: 1024,
            microbatches,
            schedule: Schedule::OneForwardOneBackward,
            precision: model.training.precision,
            stages,
            strategies: vec![strategy; 82],
            prefetch: 1,
        };
        measure(criterion, &graph, &plan, &costs);
    }
}

fn measure(criterion: &mut Criterion, graph: &Graph, plan: &Plan, costs: &CostModel) {
    let programs = compiler::compile_unlimited(graph, plan).expect("the plan is legal");
    let instructions: usize = programs.roles().iter().map(|role| role.code.len()).sum();
    let over = programs.roles().iter().map(|role| role.arena.as_f64() / role.live_bound.as_f64());
    let over = over.fold(1.0, f64::max);
    let (stages, microbatches) = (plan.stages.len(), plan.microbatches);
    let name = format!("{stages} stages, {microbatches} microbatches, {instructions} instructions");
    eprintln!("{name}: arenas at most {over:.4} of their bounds");
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    group.bench_function("compile", |bencher| {
        bencher.iter(|| compiler::compile_unlimited(black_box(graph), black_box(plan)));
    });
    group.bench_function("simulate", |bencher| bencher.iter(|| simulate(black_box(&programs), costs, Detail::Totals)));
    group.bench_function("compile and simulate", |bencher| {
        bencher.iter(|| {
            let programs = compiler::compile_unlimited(black_box(graph), black_box(plan)).expect("legal");
            simulate(&programs, costs, Detail::Totals)
        });
    });
    group.finish();
}

criterion_group!(benches, large);
criterion_main!(benches);
