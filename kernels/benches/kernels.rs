//! How fast kernels run on one core: elements are floating-point operations for products and attention (so read
//! Gelem/s as GFLOP/s), bytes moved for the rest.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hetu_kernels::attention::{Heads, Saved, Scratch};
use hetu_kernels::matmul::{Matrix, MatrixMut, Size};
use hetu_kernels::{Packed, Write, activation, adamw, add, attention, loss, matmul, norm, rotary};
use ir::op::Pattern;

/// Values that neither repeat soon nor overflow.
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 7919 % 1013) as f32 / 500.0 - 1.0).collect()
}

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("product");
    let mut scratch = values(matmul::cpu::SCRATCH);
    for (rows, inner, columns) in [(512, 256, 256), (512, 256, 1024), (1024, 256, 512), (64, 64, 256)] {
        let size = Size { rows, inner, columns };
        let (a, b, mut c) = (values(rows * inner), values(inner * columns), values(rows * columns));
        group.throughput(Throughput::Elements(2 * (rows * inner * columns) as u64));
        let weight = Matrix::rows(&b, inner).transposed();
        let gradient = Matrix::rows(&a, rows).transposed();
        for (name, a, b) in [
            ("forward", Matrix::rows(&a, inner), weight),
            ("input gradient", Matrix::rows(&a, inner), Matrix::rows(&b, columns)),
            ("weight gradient", gradient, Matrix::rows(&b, columns)),
        ] {
            group.bench_function(format!("{name} {rows}x{inner}x{columns}"), |bencher| {
                bencher.iter(|| {
                    let out = MatrixMut { values: &mut c, row_stride: columns, write: Write::Replace };
                    matmul::cpu::product(size, black_box(a), b, out, &mut scratch);
                });
            });
        }
    }
    group.finish();
}

fn attentions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    for (pattern, sequence) in [(Pattern::Causal, 128), (Pattern::Causal, 512), (Pattern::Full, 512)] {
        let packed = Packed { sequence, groups: 4, queries: 1, head: 64 };
        let heads = Heads { packed, pattern };
        let (qkv, dy) = (values(sequence * packed.row()), values(sequence * packed.query_row()));
        let (mut y, mut lse, mut dqkv) = (dy.clone(), values(sequence * 4), qkv.clone());
        let (mut scores, mut scratch) = (values(attention::cpu::scores(packed)), values(matmul::cpu::SCRATCH));
        // Two products of all pairs; a causal pattern needs half of them.
        let pairs = match pattern {
            Pattern::Causal => sequence * (sequence + 1) / 2,
            Pattern::Full => sequence * sequence,
        };
        group.throughput(Throughput::Elements((4 * pairs * packed.query_row()) as u64));
        group.bench_function(format!("forward {pattern:?} {sequence}"), |bencher| {
            bencher.iter(|| {
                attention::cpu::forward(
                    heads,
                    black_box(&qkv),
                    &mut y,
                    &mut lse,
                    Scratch { scores: &mut scores, product: &mut scratch },
                )
            });
        });
        group.throughput(Throughput::Elements((10 * pairs * packed.query_row()) as u64));
        group.bench_function(format!("gradient {pattern:?} {sequence}"), |bencher| {
            let saved = Saved { qkv: &qkv, y: &y, lse: &lse };
            bencher.iter(|| {
                attention::cpu::gradient(
                    heads,
                    saved,
                    black_box(&dy),
                    &mut dqkv,
                    Scratch { scores: &mut scores, product: &mut scratch },
                )
            });
        });
    }
    group.finish();
}

fn elementwise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("elementwise");
    const ROWS: usize = 512;
    const WIDTH: usize = 512;
    let elements = ROWS * WIDTH;
    let bytes = |tensors: usize| Throughput::Bytes((4 * elements * tensors) as u64);
    let (x, dy, weight) = (values(elements), values(elements), values(WIDTH));
    let (mut y, mut dx, mut dweight, mut rstd) = (x.clone(), x.clone(), weight.clone(), values(ROWS));
    group.throughput(bytes(3));
    group.bench_function("add", |bencher| bencher.iter(|| add::cpu::forward(black_box(&x), &dy, &mut y)));
    group.throughput(bytes(2));
    group.bench_function("gelu", |bencher| bencher.iter(|| activation::cpu::gelu(black_box(&x), &mut y)));
    group.throughput(bytes(3));
    group.bench_function("gelu gradient", |bencher| {
        bencher.iter(|| activation::cpu::gelu_gradient(black_box(&x), &dy, &mut dx));
    });
    group.throughput(Throughput::Bytes(6 * elements as u64));
    group.bench_function("swiglu", |bencher| {
        bencher.iter(|| activation::cpu::swiglu(WIDTH / 2, black_box(&x), &mut y[..elements / 2]));
    });
    group.throughput(bytes(2));
    group.bench_function("rms", |bencher| {
        let input = norm::Rms { x: &x, weight: &weight, epsilon: 1e-5 };
        bencher.iter(|| norm::cpu::rms(black_box(input), &mut y, &mut rstd));
    });
    group.throughput(bytes(3));
    group.bench_function("rms gradient", |bencher| {
        let saved = norm::RmsSaved { x: &x, weight: &weight, rstd: &rstd };
        let incoming = norm::Incoming { dy: &dy, addend: None };
        bencher.iter(|| norm::cpu::rms_gradient(black_box(saved), incoming, &mut dx, &mut dweight, Write::Replace));
    });
    group.throughput(bytes(2));
    group.bench_function("rotary", |bencher| {
        let packed = Packed { sequence: 256, groups: 4, queries: 2, head: 64 };
        let angles = rotary::Angles { theta: 1e4, scaling: None, first_position: 0 };
        bencher.iter(|| rotary::cpu::forward(packed, angles, black_box(&x), &mut y));
    });
    group.finish();
}

fn losses_and_steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("elementwise");
    const ROWS: usize = 256;
    const WIDTH: usize = 1024;
    let elements = ROWS * WIDTH;
    let bytes = |tensors: usize| Throughput::Bytes((4 * elements * tensors) as u64);
    let (logits, targets) = (values(elements), vec![5; ROWS]);
    let (mut maxima, mut sums, mut dlogits) = (values(ROWS), values(2 * ROWS), logits.clone());
    let shard = loss::Shard { first: 0, width: WIDTH };
    group.throughput(bytes(1));
    group.bench_function("row maximum", |bencher| {
        bencher.iter(|| loss::cpu::row_max(WIDTH, black_box(&logits), &mut maxima));
    });
    group.bench_function("sum of exponentials", |bencher| {
        bencher.iter(|| loss::cpu::sum_exp(shard, black_box(&logits), &maxima, &targets, &mut sums));
    });
    group.throughput(bytes(2));
    group.bench_function("loss gradient", |bencher| {
        let saved = loss::Saved { logits: &logits, maxima: &maxima, sums: &sums, targets: &targets };
        bencher.iter(|| loss::cpu::gradient(shard, black_box(saved), 1.0, &mut dlogits));
    });
    let step = adamw::Step {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        number: 10,
        gradient_norm_max: 1.0,
    };
    let constants = adamw::Constants::new(&step);
    let extent = adamw::Extent { first: 0, decayed: elements, length: elements };
    let (mut weight, mut mean, mut square) = (logits.clone(), vec![0.0; elements], vec![0.0; elements]);
    group.throughput(bytes(7));
    group.bench_function("adamw", |bencher| {
        bencher.iter(|| {
            let state = adamw::State { weight: &mut weight, mean: &mut mean, square: &mut square };
            let gradient = adamw::Gradient { values: &logits, square_norm: 0.5 };
            adamw::cpu::update(black_box(&constants), extent, state, gradient);
        });
    });
    group.finish();
}

criterion_group!(benches, products, attentions, elementwise, losses_and_steps);
criterion_main!(benches);
