//! What a kernel must cost when nobody measured it: the slower of arithmetic and memory (Williams et al. 2009).

use ir::cluster::{Device, Execution};
use ir::graph::Element;
use ir::op::Op;
use ir::program::Kernel;
use ir::units::{Bytes, BytesPerSecond, Flops, FlopsPerSecond, Seconds};

use crate::shape::Shape;

/// From start to end of a kernel that does nothing. It is what makes small kernels inefficient: at `fixed · rate`
/// operations a kernel reaches half of what large ones reach. About 2 µs on GPUs of the last years, as vendors' guides
/// and every profile of tiny kernels show; a call of a function on CPUs.
fn fixed(device: &Device) -> Seconds {
    match device.execution {
        Execution::Concurrent => Seconds(2e-6),
        Execution::Shared { .. } => Seconds(1e-7),
    }
}

/// Matrix units work on tiles: a product is as dear as its sizes rounded up to this many rows and columns.
fn tile(device: &Device) -> f64 {
    match device.execution {
        Execution::Concurrent => 64.0,
        Execution::Shared { .. } => 4.0,
    }
}

/// Attention interleaves its products with exponentials: at best 73 % of the peak where plain products reach 80 to
/// 90 % (Dao 2023, §4.1).
const ATTENTION_EFFICIENCY: f64 = 0.8;

/// A kernel as its numbers say.
pub(crate) fn kernel(device: &Device, kernel: &Kernel) -> Seconds {
    let element = kernel.inputs.first().or(kernel.outputs.first()).map_or(Element::F32, |operand| operand.element);
    match kernel.op {
        Op::MatMul => {
            let product = kernel.product();
            let sizes = [product.rows, product.columns, product.inner].map(|size| size as f64);
            product_time(device, sizes, element.name(), kernel.bytes())
        }
        Op::Attention(_) | Op::AttentionGradient(_) => {
            attention_time(device, kernel.flops(), element.name(), kernel.bytes())
        }
        Op::Embed
        | Op::EmbedGradient
        | Op::Position
        | Op::PositionGradient
        | Op::Norm(_)
        | Op::NormGradient(_)
        | Op::Bias
        | Op::BiasGradient
        | Op::Rotary(_)
        | Op::Activation(_)
        | Op::ActivationGradient(_)
        | Op::Add
        | Op::RowMax
        | Op::SumExp
        | Op::CrossEntropy { .. }
        | Op::CrossEntropyGradient
        | Op::SquareSum { .. }
        | Op::AdamW { .. }
        | Op::Zero => streaming_time(device, kernel.flops(), touched(kernel)),
    }
}

/// A kernel of which only the key in a profile is known. Coarser than [`kernel`]: other operations than products are
/// taken to read two operands of their size, and write one.
pub(crate) fn named(device: &Device, op: &str, element: &str, shape: &Shape) -> Seconds {
    let size = if element == Element::Bf16.name() { 2.0 } else { 4.0 };
    let bytes = |elements: f64| Bytes((elements * size) as u64);
    match op {
        "matmul" => {
            let [m, n, k] = shape.product();
            product_time(device, [m, n, k], element, bytes(m * k + k * n + m * n))
        }
        "attention" => attention_time(device, Flops(2.0 * shape.amount(op)), element, bytes(shape.elements(&['r']))),
        "attention-gradient" => {
            attention_time(device, Flops(5.0 * shape.amount(op)), element, bytes(3.0 * shape.elements(&['r'])))
        }
        _ => streaming_time(device, Flops(8.0 * shape.amount(op)), bytes(3.0 * shape.amount(op))),
    }
}

/// A copy inside the device: as much is read as is written.
pub(crate) fn copy(device: &Device, bytes: Bytes) -> Seconds {
    streaming_time(device, Flops(0.0), bytes * 2)
}

/// Tables are looked up: of each only as many rows are touched as the other operands have.
fn touched(kernel: &Kernel) -> Bytes {
    let lookup = matches!(kernel.op, Op::Embed | Op::Position);
    if !lookup {
        return kernel.bytes();
    }
    let rows: Bytes = kernel.outputs.iter().map(|operand| operand.bytes()).sum();
    let table = kernel.inputs.get(1).map_or(Bytes::ZERO, |operand| operand.bytes());
    kernel.bytes().saturating_sub(table) + table.min(rows)
}

fn product_time(device: &Device, [m, n, k]: [f64; 3], element: &str, bytes: Bytes) -> Seconds {
    let tile = tile(device);
    let padded = 2.0 * (m / tile).ceil() * tile * (n / tile).ceil() * tile * k;
    let rate = product_rate(device, element, 1.0);
    fixed(device) + (Flops(padded) / rate).max(memory_time(device, bytes))
}

fn attention_time(device: &Device, flops: Flops, element: &str, bytes: Bytes) -> Seconds {
    let rate = product_rate(device, element, ATTENTION_EFFICIENCY);
    fixed(device) + (flops / rate).max(memory_time(device, bytes))
}

fn streaming_time(device: &Device, flops: Flops, bytes: Bytes) -> Seconds {
    let rate = FlopsPerSecond(device.f32_rate.0 * device.product_efficiency);
    fixed(device) + (flops / rate).max(memory_time(device, bytes))
}

fn product_rate(device: &Device, element: &str, share: f64) -> FlopsPerSecond {
    let best = if element == Element::Bf16.name() { device.bf16_rate } else { device.f32_rate };
    FlopsPerSecond(best.0 * device.product_efficiency * share)
}

fn memory_time(device: &Device, bytes: Bytes) -> Seconds {
    bytes / BytesPerSecond(device.memory_rate.0 * device.memory_efficiency)
}
