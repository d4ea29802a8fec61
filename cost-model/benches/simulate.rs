//! Time to simulate a plan of 1,024 devices (8 stages, 1,000 microbatches of one layer, about 25,000 instructions a
//! role), and one layer alone, as the planner's search does.

#[path = "../tests/specimen/mod.rs"]
mod specimen;

use criterion::{Criterion, criterion_group, criterion_main};
use hetu_cost_model::{Detail, simulate};
use ir::plan::Schedule;
use specimen::Pipeline;

fn pipelines(criterion: &mut Criterion) {
    pipeline(criterion, 8, 1000);
    pipeline(criterion, 1, 1);
}

fn pipeline(criterion: &mut Criterion, stages: u32, microbatches: usize) {
    let schedule = Schedule::OneForwardOneBackward;
    let passes: Vec<(f64, f64)> = (0..stages).map(|stage| (0.125 + 0.001 * f64::from(stage), 0.25)).collect();
    let mut specimen = Pipeline { schedule, microbatches, passes, ranks: 128 }.specimen();
    let (programs, model) = specimen.build();
    let count: usize = programs.roles().iter().map(|role| role.code.len()).sum();
    criterion.bench_function(&format!("simulate {count} instructions"), |bencher| {
        bencher.iter(|| simulate(&programs, &model, Detail::Totals));
    });
}

criterion_group!(benches, pipelines);
criterion_main!(benches);
