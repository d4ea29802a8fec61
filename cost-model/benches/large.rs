//! Compiles and simulates llama3-70b on 1,024 devices: 8 stages, tensor 8, data 16.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hetu_cost_model::{CostModel, Detail, simulate};
use ir::cluster::Cluster;
use ir::file::parse_model;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};

fn large(criterion: &mut Criterion) {
    let model = parse_model(include_str!("../../examples/models/llama3-70b.yaml"), "llama3-70b.yaml").expect("valid");
    let cluster = Cluster::preset("128x8xH100").expect("known");
    let graph = model.graph();
    let strategy = Strategy {
        data: 16,
        tensor: 8,
        sequence: Sequence::Split,
        shard: Shard::Optimizer,
        recompute: Recompute::Selective,
    };
    let plan = Plan {
        batch: 1024,
        microbatches: 64,
        schedule: Schedule::OneForwardOneBackward,
        precision: model.training.precision,
        stages: vec![0..11, 11..21, 21..31, 31..41, 41..51, 51..61, 61..71, 71..82],
        strategies: vec![strategy; 82],
        prefetch: 1,
    };
    let costs = CostModel::new(&cluster, None);
    let programs = compiler::compile_unlimited(&graph, &plan).expect("the plan is legal");
    let instructions: usize = programs.roles().iter().map(|role| role.code.len()).sum();
    for role in programs.roles() {
        let over = role.arena.as_f64() / role.live_bound.as_f64();
        eprintln!(
            "stage {}: {} instructions, arena {}, {over:.4} of the bound",
            role.stage,
            role.code.len(),
            role.arena
        );
    }
    let name = format!("llama3-70b on 1024 devices, {instructions} instructions");
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    group.bench_function("compile", |bencher| {
        bencher.iter(|| compiler::compile_unlimited(black_box(&graph), black_box(&plan)));
    });
    group.bench_function("simulate", |bencher| bencher.iter(|| simulate(black_box(&programs), &costs, Detail::Totals)));
    group.bench_function("compile and simulate", |bencher| {
        bencher.iter(|| {
            let programs = compiler::compile_unlimited(black_box(&graph), black_box(&plan)).expect("legal");
            simulate(&programs, &costs, Detail::Totals)
        });
    });
    group.finish();
}

criterion_group!(benches, large);
criterion_main!(benches);
