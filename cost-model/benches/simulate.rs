//! Time to simulate a plan of 1,024 devices: 8 stages, 1,000 microbatches of one layer each, about 25,000 instructions a role.

#[path = "../tests/specimen/mod.rs"]
mod specimen;

use criterion::{Criterion, criterion_group, criterion_main};
use hetu_cost_model::{Detail, simulate};
use ir::plan::Schedule;
use specimen::Pipeline;

fn pipeline(criterion: &mut Criterion) {
    let schedule = Schedule::OneForwardOneBackward;
    let passes: Vec<(f64, f64)> = (0..8).map(|stage| (0.125 + 0.001 * f64::from(stage), 0.25)).collect();
    let mut specimen = Pipeline { schedule, microbatches: 1000, passes, ranks: 128 }.specimen();
    let (programs, model) = specimen.build();
    let count: usize = programs.roles().iter().map(|role| role.code.len()).sum();
    criterion.bench_function(&format!("simulate {count} instructions"), |bencher| {
        bencher.iter(|| simulate(&programs, &model, Detail::Totals));
    });
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
