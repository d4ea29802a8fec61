//! Compiles blocks of llama3-70b alone, as a planner does thousands of times to learn what they cost.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hetu_compiler::{Sample, Shelf, compile_samples, compile_unlimited};
use ir::file::parse_model;
use ir::graph::KindId;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};

fn parts(criterion: &mut Criterion) {
    let model = parse_model(include_str!("../../examples/models/llama3-70b.yaml"), "llama3-70b.yaml").expect("valid");
    let graph = model.graph();
    let strategies = [("tensor 8", 1, 8, Shard::Nothing), ("data 2, tensor 4", 2, 4, Shard::Parameters)];
    let mut group = criterion.benchmark_group("a part of llama3-70b");
    for (words, data, tensor, shard) in strategies {
        let recompute = Recompute::Selective;
        let strategy = Strategy { data, tensor, sequence: Sequence::Split, shard, recompute };
        for (name, kinds) in [("two blocks", vec![1, 1]), ("embedding and two blocks", vec![0, 1, 1])] {
            let kinds: Vec<KindId> = kinds.into_iter().map(KindId).collect();
            let part = graph.part(&kinds);
            let plan = Plan {
                batch: 2,
                microbatches: 1,
                schedule: Schedule::OneForwardOneBackward,
                precision: model.training.precision,
                stages: std::iter::once(0..kinds.len() as u32).collect(),
                strategies: vec![strategy.clone(); kinds.len()],
                prefetch: 1,
            };
            group.bench_function(format!("{name}, {words}"), |bencher| {
                bencher.iter(|| compile_unlimited(black_box(&part), black_box(&plan)));
            });
            let samples = [1, 2].map(|microbatches| Sample { layers: kinds.len() as u32, microbatches });
            group.bench_function(format!("{name}, {words}, as samples of one and two microbatches"), |bencher| {
                bencher.iter(|| compile_samples(&mut Shelf::default(), black_box(&part), black_box(&plan), &samples));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, parts);
criterion_main!(benches);
