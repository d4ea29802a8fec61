//! Prices against measurements and formulas.

mod specimen;

use hetu_cost_model::{CostModel, Group};
use ir::cluster::{Cluster, Execution};
use ir::graph::Element;
use ir::layout::{Exchange, ExchangeKind};
use ir::mesh::{Axis, Mesh};
use ir::op::{Addend, NormKind, OpKind, Write};
use ir::profile::{Profile, Route, Sample, Work};
use ir::program::Collective;
use ir::seed::{Draws, Seed};
use ir::trace::Confidence;
use ir::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};
use specimen::{cluster, sample};

fn kernel(op: OpKind, element: Element, shape: &str) -> Work {
    let shape = shape.parse().expect("a shape");
    Work::Kernel { op, element, shape, write: Write::Replace, addend: Addend::Absent }
}

/// The same kernel with an addend.
fn plus(mut work: Work) -> Work {
    if let Work::Kernel { addend, .. } = &mut work {
        *addend = Addend::Present;
    }
    work
}

fn exchange(kind: ExchangeKind, ranks: u32, ranks_per_node: u32, bytes: u64) -> Work {
    Work::Exchange { kind, ranks, ranks_per_node, bytes: Bytes(bytes) }
}

fn model(cluster: &Cluster, samples: Vec<Sample>) -> CostModel {
    let profile = Profile { samples, ..Profile::new("specimen") };
    CostModel::new(cluster, Some(&profile))
}

fn check(found: (Seconds, Confidence), seconds: f64, confidence: Confidence) {
    assert!((found.0.0 / seconds - 1.0).abs() < 1e-6, "{} is not {}", found.0, Seconds(seconds));
    assert_eq!(found.1, confidence);
}

#[test]
fn what_was_measured_is_priced_as_measured() {
    let cluster = cluster(Execution::Concurrent);
    let works = [
        kernel(OpKind::MatMul, Element::F32, "m8 n8 k8 nn"),
        kernel(OpKind::Add, Element::F32, "b2 h8 s4"),
        exchange(ExchangeKind::AllGather, 4, 4, 1000),
        Work::Transfer { route: Route::Between, bytes: Bytes(77) },
        Work::Copy { bytes: Bytes(99) },
    ];
    let samples = works.iter().zip(1..).map(|(work, seconds)| sample(work.clone(), f64::from(seconds))).collect();
    let model = model(&cluster, samples);
    for (work, seconds) in works.iter().zip(1..) {
        check(model.price(work), f64::from(seconds), Confidence::Measured);
    }
}

#[test]
fn kernels_with_an_addend_are_priced_by_older_profiles_too() {
    let cluster = cluster(Execution::Concurrent);
    let product = |m| kernel(OpKind::MatMul, Element::Bf16, &format!("m{m} n512 k512 nn"));
    let gradient = |b| kernel(OpKind::NormGradient(NormKind::RootMeanSquare), Element::Bf16, &format!("b{b} h64 s64"));
    let sum = |b| kernel(OpKind::Add, Element::Bf16, &format!("b{b} h64 s64"));
    let old = vec![
        sample(product(512), 5.0),
        sample(gradient(1), 2.0),
        sample(gradient(4), 8.0),
        sample(sum(1), 3.0),
        sample(sum(4), 12.0),
    ];
    let before = model(&cluster, old.clone());
    check(before.price(&plus(product(512))), 5.0, Confidence::Measured);
    check(before.price(&plus(gradient(1))), 3.0, Confidence::Measured);
    check(before.price(&plus(gradient(2))), 6.0, Confidence::Interpolated);
    assert_eq!(before.price(&plus(product(1024))), before.price(&product(1024)));
    // What was measured with its addend is known by that, and says something of the same without, if nothing else does.
    let new = vec![sample(plus(product(512)), 5.5), sample(plus(gradient(1)), 2.7), sample(plus(gradient(4)), 10.8)];
    let both = model(&cluster, [old, new.clone()].concat());
    check(both.price(&plus(product(512))), 5.5, Confidence::Measured);
    check(both.price(&plus(gradient(2))), 5.4, Confidence::Interpolated);
    check(both.price(&product(512)), 5.0, Confidence::Measured);
    check(model(&cluster, new).price(&product(512)), 5.5, Confidence::Interpolated);
}

#[test]
fn work_like_what_was_measured_is_interpolated() {
    let cluster = cluster(Execution::Concurrent);
    let model = model(
        &cluster,
        vec![
            sample(kernel(OpKind::Add, Element::F32, "b1 h10"), 1.0),
            sample(kernel(OpKind::Add, Element::F32, "b1 h1000"), 4.0),
            sample(exchange(ExchangeKind::AllReduce, 4, 4, 100), 2.0),
            sample(exchange(ExchangeKind::AllReduce, 4, 4, 10_000), 8.0),
            sample(Work::Transfer { route: Route::Inside, bytes: Bytes(100) }, 3.0),
        ],
    );
    check(model.price(&kernel(OpKind::Add, Element::F32, "b10 h10")), 2.0, Confidence::Interpolated);
    check(model.price(&exchange(ExchangeKind::AllReduce, 4, 4, 1000)), 4.0, Confidence::Interpolated);
    let transfer = |route, bytes| model.price(&Work::Transfer { route, bytes: Bytes(bytes) });
    check(transfer(Route::Inside, 200), 6.0, Confidence::Interpolated);
    // Nothing like these was measured.
    assert_eq!(transfer(Route::Between, 200).1, Confidence::Modelled);
    assert_eq!(model.price(&kernel(OpKind::Add, Element::Bf16, "b10 h10")).1, Confidence::Modelled);
    assert_eq!(model.price(&exchange(ExchangeKind::AllToAll, 4, 4, 1000)).1, Confidence::Modelled);
}

#[test]
fn a_group_between_two_measured_ones_is_as_far_off_its_formula_as_they_are() {
    let cluster = cluster(Execution::Concurrent);
    let formula = |ranks, bytes| {
        CostModel::new(&cluster, None).price(&exchange(ExchangeKind::AllGather, ranks, ranks, bytes)).0.0
    };
    let twice = |ranks| {
        let times = [1u64 << 20, 1 << 24].map(|bytes| (bytes, 2.0 * formula(ranks, bytes)));
        times.map(|(bytes, time)| sample(exchange(ExchangeKind::AllGather, ranks, ranks, bytes), time))
    };
    let model = model(&cluster, [twice(2), twice(8)].concat());
    for bytes in [1 << 20, 1 << 22, 1 << 30] {
        check(
            model.price(&exchange(ExchangeKind::AllGather, 4, 4, bytes)),
            2.0 * formula(4, bytes),
            Confidence::Interpolated,
        );
    }
    // Other links say nothing about these.
    assert_eq!(model.price(&exchange(ExchangeKind::AllGather, 8, 4, 1 << 20)).1, Confidence::Modelled);
}

#[test]
fn a_slice_is_a_copy_of_what_is_kept() {
    let model = CostModel::new(&cluster(Execution::Concurrent), None);
    let exchange = Exchange::Slice { axes: vec![1], dimension: 0 };
    let slice = Collective { exchange, axis: Axis::Tensor, shape: vec![1024], element: Element::F32 };
    assert_eq!(model.price_collective(&slice, 4, 4), model.price(&Work::Copy { bytes: Bytes(1024) }));
}

#[test]
fn more_work_is_never_cheaper() {
    let cluster = cluster(Execution::Concurrent);
    for seed in 0..50 {
        let mut draws = Draws::new(Seed(seed));
        let mut samples = Vec::new();
        for _ in 0..10 {
            let (size, noise) = (2 * (1 + draws.below(1 << 19)), 0.5 + draws.uniform());
            samples.push(sample(kernel(OpKind::Add, Element::F32, &format!("n{size}")), 1e-9 * size as f64 * noise));
            samples.push(sample(exchange(ExchangeKind::AllReduce, 8, 8, size), 1e-9 * size as f64 * noise));
        }
        let measured = model(&cluster, samples);
        let modelled = CostModel::new(&cluster, None);
        for model in [&measured, &modelled] {
            let mut last = [Seconds::ZERO; 3];
            // Odd sizes, none of which was measured.
            for size in (1..40).map(|power| 3 + 2 * 1.7f64.powi(power) as u64) {
                let product = kernel(OpKind::MatMul, Element::F32, &format!("m{size} n256 k256 nn"));
                let works = [
                    kernel(OpKind::Add, Element::F32, &format!("n{size}")),
                    exchange(ExchangeKind::AllReduce, 8, 8, size),
                    product,
                ];
                for (work, last) in works.iter().zip(&mut last) {
                    let (time, confidence) = model.price(work);
                    assert!(confidence != Confidence::Measured, "odd sizes happen to be measured: seed {seed}");
                    assert!(time.0 >= last.0 * (1.0 - 1e-9), "seed {seed}, size {size}: {time} after {last}");
                    *last = time;
                }
            }
        }
    }
}

#[test]
fn groups_know_their_nodes() {
    // 4 stages of 2 × 4 ranks on nodes of 4.
    let mesh = Mesh::new(4, &[2, 4]);
    let group = |axes: &[usize]| {
        let Group { ranks, ranks_per_node } = Group::of(&mesh, 4, 8..16, axes);
        (ranks, ranks_per_node)
    };
    assert_eq!(group(&[2]), (4, 4));
    assert_eq!(group(&[1]), (2, 1));
    assert_eq!(group(&[1, 2]), (8, 4));
    assert_eq!(group(&[0, 1, 2]), (32, 4));
    // Nodes of 3: some group of four has one member alone.
    assert_eq!(Group::of(&mesh, 3, 0..8, &[2]), Group { ranks: 4, ranks_per_node: 1 });
}

/// An H200 as its vendor describes it; the shares of its peaks that large kernels reach were measured.
fn h200() -> Cluster {
    let mut cluster = cluster(Execution::Concurrent);
    cluster.device.bf16_rate = FlopsPerSecond(989e12);
    cluster.device.f32_rate = FlopsPerSecond(67e12);
    cluster.device.memory_rate = BytesPerSecond(4.8e12);
    cluster.device.product_efficiency = 0.72;
    cluster.device.memory_efficiency = 0.85;
    cluster.inside.rate = BytesPerSecond(450e9);
    cluster.inside.efficiency = 0.73;
    cluster.inside.latency = Seconds(4e-6);
    cluster
}

/// Two H200, cuBLASLt 13.1, cuDNN 9.19, NCCL 2.28.9 without multicast: medians, in microseconds.
#[test]
fn formulas_are_near_what_an_h200_does() {
    let model = CostModel::new(&h200(), None);
    let product = |size: u64| kernel(OpKind::MatMul, Element::Bf16, &format!("m{size} n{size} k{size} nn"));
    let attention = |op, s: u64| kernel(op, Element::Bf16, &format!("b1 c3 d128 g32 r1 s{s}"));
    let reduce = |bytes: u64| exchange(ExchangeKind::AllReduce, 2, 2, bytes);
    let cases = [
        (kernel(OpKind::MatMul, Element::Bf16, "m8192 n128 k8192 nn"), 38.5),
        (kernel(OpKind::MatMul, Element::Bf16, "m8192 n16 k8192 nn"), 35.5),
        (product(512), 6.4),
        (product(1024), 7.4),
        (product(2048), 29.0),
        (product(4096), 190.8),
        (product(8192), 1551.5),
        (attention(OpKind::Attention, 8192), 977.6),
        (attention(OpKind::Attention, 16384), 3693.1),
        (attention(OpKind::AttentionGradient, 8192), 2781.1),
        (attention(OpKind::AttentionGradient, 16384), 10382.6),
        (Work::Copy { bytes: Bytes(1 << 30) }, 506.0),
        (reduce(1 << 10), 8.5),
        (reduce(1 << 20), 13.6),
        (reduce(1 << 26), 251.5),
        (reduce(1 << 28), 898.8),
        (reduce(1 << 30), 3256.0),
    ];
    for (work, measured) in cases {
        let found = model.price(&work).0.0 * 1e6;
        let error = found / measured - 1.0;
        assert!(error.abs() < 0.35, "{work:?}: {found:.1} µs, measured {measured} µs, off {:.0} %", 100.0 * error);
    }
}
