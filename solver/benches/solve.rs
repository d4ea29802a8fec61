//! How long the dynamic program takes for a model of 82 layers, on one to sixteen stages.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hetu_solver::{Costs, Kind, Problem, Stage};
use hetu_solver::{Method, lower_bound, solve};
use std::hint::black_box;

const GIB: u64 = 1 << 30;

/// How one layer may be laid out over its devices.
#[derive(Clone, Copy)]
struct Way {
    /// Devices that split the layer itself.
    split: u64,
    /// Devices that hold the same part of it, for different samples.
    copies: u64,
    /// Whether the optimizer state (1) and the parameters (2) are split over the copies too.
    sharded: u64,
    /// Whether activations are kept or recomputed.
    recomputed: u64,
}

/// The ways of 8 devices, with costs that grow and shrink as those of a transformer layer do.
fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for split in [1, 2, 4, 8] {
        for sharded in 0..3 {
            for recomputed in 0..2 {
                let copies = 8 / split;
                if copies > 1 || sharded == 0 {
                    ways.push(Way { split, copies, sharded, recomputed });
                }
            }
        }
    }
    ways
}

/// A kind with `parameters` bytes of weights, `saved` bytes of activations and `time` seconds of work.
fn kind(parameters: u64, saved: u64, time: f64) -> Kind {
    let costs = |way: Way| {
        let resident = parameters / way.split;
        let shards = if way.sharded > 0 { way.copies } else { 1 };
        let weights = if way.sharded == 2 { 2 * resident / way.copies } else { 2 * resident };
        let gathered = if way.sharded == 2 { resident as f64 * 2e-12 * 3.0 } else { 0.0 };
        let exchanged = time * 0.035 * (way.split as f64).log2();
        let kept = saved / 8 + saved * (8 - way.split) / 400;
        Costs {
            time_microbatch: time * (1.0 + way.recomputed as f64 / 3.0) / 8.0 + exchanged / 8.0 + gathered,
            time_step: resident as f64 * 1e-12 * (2.0 - 1.0 / way.copies as f64) + 8e-13 * (resident / shards) as f64,
            bytes_state: weights + 6 * resident / shards,
            bytes_saved: if way.recomputed == 1 { kept / 16 } else { kept },
            bytes_transient: kept * (1 + way.recomputed) / 4 + if way.sharded == 2 { resident } else { 0 },
            layout: way.split.ilog2() as usize,
        }
    };
    Kind { strategies: ways().into_iter().map(costs).collect() }
}

/// An embedding, 80 equal blocks and a head; one 1F1B pipeline of `stage_count` stages of 8 devices.
fn large_model(stage_count: u32, capacity_bytes: u64) -> Problem {
    let microbatches = 32;
    // The model grows with the devices, so that memory is as tight on every number of stages.
    let block = GIB / 10 * u64::from(stage_count);
    let kinds = vec![kind(GIB / 2, GIB / 8, 0.002), kind(block, GIB * 2, 0.08), kind(GIB / 2, GIB, 0.03)];
    let mut layers = vec![1; 82];
    (layers[0], layers[81]) = (0, 2);
    let apart = |from: usize, to: usize| 4e-4 * from.abs_diff(to) as f64;
    let transitions = (0..4).map(|from| (0..4).map(|to| apart(from, to)).collect()).collect();
    let stage = |index: u32| Stage { capacity_bytes, in_flight: microbatches.min(stage_count - index), speed: 1.0 };
    let boundary = vec![3e-4; 4];
    let stages = (0..stage_count).map(stage).collect();
    Problem { kinds, layers, transitions, boundary, stages, microbatches, ties: Vec::new() }
}

fn benchmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("82 layers");
    for stages in [1, 2, 4, 8, 16] {
        let problem = large_model(stages, 80 * GIB);
        group.bench_function(BenchmarkId::new("dynamic program", stages), |bencher| {
            bencher.iter(|| solve(black_box(&problem), &Method::DYNAMIC));
        });
        group.bench_function(BenchmarkId::new("lower bound", stages), |bencher| {
            bencher.iter(|| lower_bound(black_box(&problem)));
        });
    }
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
