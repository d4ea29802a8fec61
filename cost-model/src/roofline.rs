//! What a kernel must cost when nobody measured it: the slower of arithmetic and memory (Williams et al. 2009).

use ir::cluster::{Device, Execution};
use ir::graph::Element;
use ir::op::{Op, OpKind, Write};
use ir::profile::{LetterSizes, Shape};
use ir::program::{Kernel, Operand};
use ir::units::{Bytes, BytesPerSecond, Flops, FlopsPerSecond, Seconds};

use crate::shape::{amount, elements, product_sizes};

/// From start to end of a kernel that does nothing. It is what makes small kernels inefficient: with `fixed · rate`
/// of work a kernel reaches half the rate of large ones. About 2 µs on GPUs of the last years; a call on CPUs.
pub(crate) fn fixed(device: &Device) -> Seconds {
    match device.execution {
        Execution::Concurrent => Seconds(2e-6),
        Execution::Shared { .. } => Seconds(1e-7),
    }
}

/// The same for products, whose few large tiles leave most of a GPU idle when they are small: on an H200 products of
/// 512, 1024 and 2048 cubed take 6.4, 7.4 and 29 µs (cuBLASLt 13.1, bf16).
fn product_fixed(device: &Device) -> Seconds {
    match device.execution {
        Execution::Concurrent => Seconds(4e-6),
        Execution::Shared { .. } => fixed(device),
    }
}

/// Matrix units work on tiles: a product is as dear as its sizes rounded up to this many rows and columns.
fn tile(device: &Device) -> f64 {
    match device.execution {
        Execution::Concurrent => 64.0,
        Execution::Shared { .. } => 4.0,
    }
}

/// Attention interleaves its products with exponentials. Of the rate of large products it reaches 0.70 to 0.83 forward
/// and 0.55 to 0.74 backward (cuDNN 9.19 on an H200, causal, 2048 to 16384 positions of size 128).
const ATTENTION_FORWARD: f64 = 0.77;
const ATTENTION_BACKWARD: f64 = 0.65;

/// A kernel as its numbers say.
pub(crate) fn kernel(device: &Device, kernel: &Kernel) -> Seconds {
    let element = kernel.operands().next().map_or(Element::F32, |operand| operand.element);
    match kernel.op {
        Op::MatMul => product_time(device, product_sizes(&kernel.product()), element, kernel.bytes()),
        Op::Attention(_) | Op::CrossAttention => {
            arithmetic_time(device, kernel.flops(), ATTENTION_FORWARD, element, kernel.bytes())
        }
        Op::AttentionGradient(_) | Op::CrossAttentionGradient => {
            arithmetic_time(device, kernel.flops(), ATTENTION_BACKWARD, element, kernel.bytes())
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

/// Queries and their results, and the keys and values of another sequence.
fn cross_elements(sizes: &LetterSizes) -> f64 {
    2.0 * elements(sizes, &['t', 'e']) + elements(sizes, &['s', 'r'])
}

/// A kernel of which only the key in a profile is known. Coarser than [`kernel`]: attention is taken to be causal, and
/// what is no product to read two operands of its size and write one.
pub(crate) fn named(device: &Device, op: OpKind, element: Element, shape: &Shape) -> Seconds {
    let bytes = |elements: f64| Bytes((elements * element.bytes() as f64) as u64);
    let sizes = match shape {
        Shape::Product(product) => {
            let [m, n, k] = product_sizes(product);
            return product_time(device, [m, n, k], element, bytes(m * k + k * n + m * n));
        }
        Shape::Letters(sizes) => sizes,
    };
    let amount = amount(op, sizes);
    match op {
        OpKind::Attention => {
            let bytes = bytes(elements(sizes, &['r']));
            arithmetic_time(device, Flops(2.0 * amount), ATTENTION_FORWARD, element, bytes)
        }
        OpKind::AttentionGradient => {
            let bytes = bytes(3.0 * elements(sizes, &['r']));
            arithmetic_time(device, Flops(5.0 * amount), ATTENTION_BACKWARD, element, bytes)
        }
        OpKind::CrossAttention => {
            let bytes = bytes(cross_elements(sizes));
            arithmetic_time(device, Flops(4.0 * amount), ATTENTION_FORWARD, element, bytes)
        }
        OpKind::CrossAttentionGradient => {
            let bytes = bytes(3.0 * cross_elements(sizes));
            arithmetic_time(device, Flops(10.0 * amount), ATTENTION_BACKWARD, element, bytes)
        }
        OpKind::Embed
        | OpKind::EmbedGradient
        | OpKind::Position
        | OpKind::PositionGradient
        | OpKind::Norm(_)
        | OpKind::NormGradient(_)
        | OpKind::MatMul
        | OpKind::Bias
        | OpKind::BiasGradient
        | OpKind::Rotary
        | OpKind::Activation(_)
        | OpKind::ActivationGradient(_)
        | OpKind::Add
        | OpKind::RowMax
        | OpKind::SumExp
        | OpKind::CrossEntropy
        | OpKind::CrossEntropyGradient
        | OpKind::SquareSum
        | OpKind::AdamW
        | OpKind::Zero => streaming_time(device, Flops(8.0 * amount), bytes(3.0 * amount)),
    }
}

/// A copy inside the device: as much is read as is written.
pub(crate) fn copy(device: &Device, bytes: Bytes) -> Seconds {
    streaming_time(device, Flops(0.0), bytes * 2)
}

/// Bytes that are read and written. Tables are looked up: of each only as many rows as the other operands have.
fn touched(kernel: &Kernel) -> Bytes {
    let table_letter = match kernel.op {
        Op::Embed | Op::EmbedGradient => 'v',
        Op::Position | Op::PositionGradient => 'p',
        Op::Norm(_)
        | Op::NormGradient(_)
        | Op::MatMul
        | Op::Bias
        | Op::BiasGradient
        | Op::Rotary(_)
        | Op::Attention(_)
        | Op::AttentionGradient(_)
        | Op::CrossAttention
        | Op::CrossAttentionGradient
        | Op::Activation(_)
        | Op::ActivationGradient(_)
        | Op::Add
        | Op::RowMax
        | Op::SumExp
        | Op::CrossEntropy { .. }
        | Op::CrossEntropyGradient
        | Op::SquareSum { .. }
        | Op::AdamW { .. }
        | Op::Zero => return kernel.bytes(),
    };
    let is_table = |operand: &Operand| operand.dimensions.iter().any(|&(letter, _)| letter == table_letter);
    let rows = kernel.operands().filter(|operand| !is_table(operand)).map(Operand::bytes).max().unwrap_or(Bytes::ZERO);
    // A table that is added to is read and written; one that is replaced is written whole.
    let added = kernel.outputs.iter().filter(|output| output.write == Write::Accumulate);
    let tables = kernel.inputs.iter().map(|table| (table, 1)).chain(added.map(|output| (&output.operand, 2)));
    tables
        .filter(|(table, _)| is_table(table))
        .fold(kernel.bytes(), |total, (table, times)| total.saturating_sub(table.bytes().saturating_sub(rows) * times))
}

fn product_time(device: &Device, [m, n, k]: [f64; 3], element: Element, bytes: Bytes) -> Seconds {
    let tile = tile(device);
    let padded = 2.0 * (m / tile).ceil() * tile * (n / tile).ceil() * tile * k;
    let time = arithmetic_time(device, Flops(padded), 1.0, element, bytes);
    time - fixed(device) + product_fixed(device)
}

/// What reaches `share` of the rate of large products.
fn arithmetic_time(device: &Device, flops: Flops, share: f64, element: Element, bytes: Bytes) -> Seconds {
    let rate = FlopsPerSecond(product_rate(device, element).0 * share);
    fixed(device) + (flops / rate).max(memory_time(device, bytes))
}

/// What large products reach.
pub(crate) fn product_rate(device: &Device, element: Element) -> FlopsPerSecond {
    let best = if element == Element::Bf16 { device.bf16_rate } else { device.f32_rate };
    FlopsPerSecond(best.0 * device.product_efficiency)
}

fn streaming_time(device: &Device, flops: Flops, bytes: Bytes) -> Seconds {
    let rate = FlopsPerSecond(device.f32_rate.0 * device.product_efficiency);
    fixed(device) + (flops / rate).max(memory_time(device, bytes))
}

pub(crate) fn memory_time(device: &Device, bytes: Bytes) -> Seconds {
    bytes / BytesPerSecond(device.memory_rate.0 * device.memory_efficiency)
}
