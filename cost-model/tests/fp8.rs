//! Products in fp8, against what is counted by hand.

mod specimen;

use hetu_cost_model::CostModel;
use ir::cluster::{Cluster, Execution};
use ir::graph::Element;
use ir::layout::Exchange;
use ir::mesh::Axis;
use ir::op::{Op, Write};
use ir::program::{Collective, Kernel, Operand, Output};
use ir::software::{CastParameters, Casts, Fp8, Scaling, Software};
use ir::units::{Bytes, FlopsPerSecond, Seconds};
use specimen::cluster;

/// Sizes of the specimen: positions, inner numbers of the residual stream and of the feed-forward part.
const ROWS: u64 = 4096;
const HIDDEN: u64 = 8192;
const INNER: u64 = 16384;

/// Products at 4 TFLOP/s in fp8, at half of that in bf16; memory at 1 TB/s.
fn device() -> Cluster {
    let mut cluster = cluster(Execution::Concurrent);
    cluster.device.fp8_rate = Some(FlopsPerSecond(4e12));
    cluster.device.issue = Seconds(1e-6);
    cluster
}

fn operand(letters: &str, element: Element) -> Operand {
    let size = |letter| match letter {
        'b' => 1,
        's' => ROWS,
        'f' => INNER,
        _ => HIDDEN,
    };
    let dimensions = letters.chars().map(|letter| (letter, size(letter))).collect();
    Operand { binding: 0, offset: 0, element, dimensions }
}

fn product(a: &str, b: &str, result: (&str, Element)) -> Kernel {
    Kernel {
        op: Op::MatMul,
        inputs: [a, b].map(|letters| operand(letters, Element::Bf16)).into(),
        outputs: vec![Output { operand: operand(result.0, result.1), write: Write::Replace }],
        offsets: Vec::new(),
        workspace: None,
    }
}

fn forward() -> Kernel {
    product("bsh", "fh", ("bsf", Element::Bf16))
}

fn software(fp8: Option<Fp8>) -> Software {
    Software { fp8, ..Software::preset("hetu").expect("it is shipped") }
}

fn fp8(scaling: Scaling, casts: Casts, parameters: CastParameters) -> Option<Fp8> {
    Some(Fp8 { scaling, casts, parameters })
}

fn time(cluster: &Cluster, fp8: Option<Fp8>, kernel: &Kernel) -> f64 {
    CostModel::new(cluster, None).run_by(&software(fp8)).price_kernel(kernel).0.0
}

fn close(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-9, "{found}, not {expected}");
}

#[test]
fn a_product_is_its_operations_at_the_rate_of_fp8_and_the_casts_of_its_factors() {
    let [rows, hidden, inner] = [ROWS, HIDDEN, INNER].map(|size| size as f64);
    let (x, w) = (rows * hidden, inner * hidden);
    // Large products start within 4 µs, a pass over memory within 2.
    let arithmetic = 2.0 * rows * hidden * inner / 4e12 + 4e-6;
    let apart = fp8(Scaling::Current, Casts::Apart, CastParameters::Each);
    // Look: 2 bytes a number; cast: 2 read, 1 written. Of both factors.
    close(time(&device(), apart, &forward()), arithmetic + (x + w) * 5.0 / 1e12 + 4.0 * 2e-6);
    let delayed = fp8(Scaling::Delayed, Casts::Apart, CastParameters::Each);
    close(time(&device(), delayed, &forward()), arithmetic + (x + w) * 3.0 / 1e12 + 2.0 * 2e-6);
    let fused = fp8(Scaling::Current, Casts::Fused, CastParameters::Gathered);
    close(time(&device(), fused, &forward()), arithmetic + x * 3.0 / 1e12 + 2e-6);
    // The gradient of the input: that of the result is cast, the parameter was, and is read the other way.
    let of_input = product("bsf", "fh", ("bsh", Element::Bf16));
    let once = fp8(Scaling::Current, Casts::Apart, CastParameters::Once);
    close(time(&device(), once, &of_input), arithmetic + rows * inner * 5.0 / 1e12 + 2.0 * 2e-6);
    close(time(&device(), apart, &of_input), arithmetic + (rows * inner * 5.0 + w) / 1e12 + 2.0 * 2e-6);
    // The gradient of the parameter reads both the other way: copies that were written beside.
    let of_parameter = product("bsf", "bsh", ("fh", Element::F32));
    close(time(&device(), apart, &of_parameter), arithmetic + (x + rows * inner) / 1e12);
}

#[test]
fn rates_of_fp8_are_those_of_its_software() {
    let mut slow = software(fp8(Scaling::Delayed, Casts::Fused, CastParameters::Once));
    slow.rates.fp8 = 0.5;
    slow.rates.products = 0.5;
    let found = CostModel::new(&device(), None).run_by(&slow).price_kernel(&forward()).0.0;
    let written = (ROWS * HIDDEN) as f64 / 1e12;
    close(found, 2.0 * (ROWS * HIDDEN * INNER) as f64 / 1e12 + 4e-6 + written);
}

#[test]
fn the_head_odd_sizes_and_devices_without_fp8_stay_in_16_bits() {
    let cast = fp8(Scaling::Current, Casts::Apart, CastParameters::Each);
    let usual = |kernel: &Kernel| time(&device(), None, kernel);
    let head = product("bsh", "vh", ("bsv", Element::Bf16));
    assert_eq!(time(&device(), cast, &head).to_bits(), usual(&head).to_bits());
    let mut odd = forward();
    odd.inputs[1].dimensions[0].1 -= 8;
    odd.outputs[0].operand.dimensions[2].1 -= 8;
    assert_eq!(time(&device(), cast, &odd).to_bits(), usual(&odd).to_bits());
    let mut older = device();
    older.device.fp8_rate = None;
    assert_eq!(time(&older, cast, &forward()).to_bits(), usual(&forward()).to_bits());
    assert!(time(&device(), cast, &forward()) < 0.6 * usual(&forward()));
}

#[test]
fn parameters_that_are_cast_before_they_are_gathered_move_one_byte_a_number() {
    let gather = |element| Collective {
        exchange: Exchange::AllGather { axes: vec![1], dimension: 0 },
        axis: Axis::Data,
        shape: vec![1 << 24],
        element,
    };
    let price = |parameters, element| {
        let software = software(fp8(Scaling::Current, Casts::Apart, parameters));
        CostModel::new(&device(), None).run_by(&software).price_collective(&gather(element), 8, 8).0.0
    };
    let whole = price(CastParameters::Each, Element::Bf16);
    close(whole, 7.0 * Bytes(2 << 24).as_f64() / f64::from(1 << 20));
    close(price(CastParameters::Gathered, Element::Bf16), whole / 2.0);
    close(price(CastParameters::Gathered, Element::F32), whole * 2.0);
}
