//! What kernels take in the hands of another trainer: what it stores and passes over beside the programs.
//!
//! Everything here is counted in bytes and operations; [`Software`] says how many.

use ir::cluster::Device;
use ir::graph::{Element, Sizes};
use ir::layout::ExchangeKind;
use ir::mesh::Axis;
use ir::op::Op;
use ir::program::{Collective, Kernel};
use ir::software::{AttentionRate, CastParameters, GradientElement, Scores, Software};
use ir::units::{Bytes, Flops, Seconds};

use crate::{fp8, roofline};

/// Bytes of each score that steps between the products of attention read and write: softmax 2 + 2, dropout 2 + 2 and a
/// mask of 1.
const SCORES_FORWARD: f64 = 9.0;
/// Backward: dropout 2 + 2 and its mask of 1, softmax 4 + 2.
const SCORES_BACKWARD: f64 = 11.0;

/// Of the lesser of arithmetic and memory this much is not hidden behind the larger in products of scores, which are
/// short in one dimension. Published operator profiles (op_profile_gpt of Mist and Aceso, EuroSys 2025 and 2024): six
/// products take 8.4 ms where arithmetic says 4.1 and memory 5.9 (A100), 3.2 where they say 1.2 and 2.0 (V100).
const UNHIDDEN: f64 = 0.75;

/// A kernel of which nothing was measured, as `software` would run it.
pub(crate) fn kernel(device: &Device, software: &Software, kernel: &Kernel) -> Seconds {
    let usual = || roofline::kernel(device, kernel);
    let first = || kernel.operands().next().map_or(0.0, |operand| operand.elements() as f64);
    let and = |time: Seconds, bytes: f64| time + roofline::memory_time(device, Bytes(bytes as u64));
    let beside = |bytes: f64| and(usual(), bytes);
    let product = || fp8::product(device, software, kernel).unwrap_or_else(usual);
    match kernel.op {
        Op::Attention(_) => {
            attention(device, software, kernel, Pass::Forward).unwrap_or_else(usual) * (1.0 / software.rates.attention)
        }
        Op::AttentionGradient(_) => {
            attention(device, software, kernel, Pass::Backward).unwrap_or_else(usual) * (1.0 / software.rates.attention)
        }
        // A block has two norms.
        Op::Norm(_) => beside(first() * software.passes.forward / 2.0),
        Op::NormGradient(_) => beside(first() * software.passes.backward / 2.0),
        Op::RowMax => beside(first() * software.passes.logit),
        Op::MatMul if is_gradient(kernel) => {
            and(product(), kernel.outputs[0].operand.elements() as f64 * software.passes.parameter)
        }
        Op::MatMul => product(),
        Op::CrossAttention
        | Op::CrossAttentionGradient
        | Op::Embed
        | Op::EmbedGradient
        | Op::Position
        | Op::PositionGradient
        | Op::Bias
        | Op::BiasGradient
        | Op::Rotary(_)
        | Op::Activation(_)
        | Op::ActivationGradient(_)
        | Op::Add
        | Op::SumExp
        | Op::CrossEntropy { .. }
        | Op::CrossEntropyGradient
        | Op::SquareSum { .. }
        | Op::AdamW { .. }
        | Op::Zero => usual(),
    }
}

/// Bytes of an operand that has `bytes` in programs, as the software moves it in a collective of a kind.
pub(crate) fn exchanged(software: &Software, collective: &Collective, (kind, bytes): (ExchangeKind, Bytes)) -> Bytes {
    if collective.axis != Axis::Data {
        return bytes;
    }
    let is_gradient =
        collective.element == Element::F32 && matches!(kind, ExchangeKind::AllReduce | ExchangeKind::ReduceScatter);
    let is_parameter = collective.element == Element::Bf16 && kind == ExchangeKind::AllGather;
    let is_cast = software.fp8.is_some_and(|fp8| fp8.parameters == CastParameters::Gathered);
    let is_half = (is_gradient && software.gradients == GradientElement::Half) || (is_parameter && is_cast);
    if is_half { Bytes(bytes.0 / 2) } else { bytes }
}

/// Whether a product is the gradient of a parameter: those are kept in 32 bits, where all else is shorter.
fn is_gradient(kernel: &Kernel) -> bool {
    let elements = [&kernel.inputs[0], &kernel.outputs[0].operand].map(|operand| operand.element);
    elements == [Element::Bf16, Element::F32]
}

#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Forward,
    Backward,
}

/// Attention as the software does it; none if that is as programs say.
fn attention(device: &Device, software: &Software, kernel: &Kernel, pass: Pass) -> Option<Seconds> {
    let forward = |sizes: &Sizes| stored(device, sizes, 2.0, SCORES_FORWARD);
    match software.attention {
        Scores::Fused => {
            let known = software.attention_rates.iter().find(|rate| device.name.starts_with(&rate.device));
            known.map(|rate| fused(device, rate, kernel, pass))
        }
        Scores::Stored | Scores::Repeated => {
            let sizes = kernel.sizes();
            Some(match pass {
                Pass::Forward => forward(&sizes),
                Pass::Backward => {
                    let again = if software.attention == Scores::Repeated { forward(&sizes) } else { Seconds::ZERO };
                    stored(device, &sizes, 4.0, SCORES_BACKWARD) + again
                }
            })
        }
    }
}

fn fused(device: &Device, rate: &AttentionRate, kernel: &Kernel, pass: Pass) -> Seconds {
    let rate = if pass == Pass::Forward { rate.forward } else { rate.backward };
    roofline::fixed(device) + (kernel.flops() / rate).max(roofline::memory_time(device, kernel.bytes()))
}

/// So many products of all queries and keys, each of which reads or writes all scores, and the steps between them.
fn stored(device: &Device, sizes: &Sizes, products: f64, bytes: f64) -> Seconds {
    let [b, s, g, c, d] = ['b', 's', 'g', 'c', 'd'].map(|letter| sizes[&letter] as f64);
    let (heads, element) = (g * (c - 2.0), Element::Bf16);
    let scores = b * heads * s * s;
    let rate = roofline::product_rate(device, element).0 * aligned_share(sizes[&'d']);
    let arithmetic = Flops(2.0 * scores * d).0 / rate;
    let moved = scores * element.bytes() as f64 + 2.0 * b * s * heads * d * element.bytes() as f64;
    let moved = roofline::memory_time(device, Bytes(moved as u64)).0;
    let product = arithmetic.max(moved) + UNHIDDEN * arithmetic.min(moved);
    let steps = roofline::memory_time(device, Bytes((scores * bytes) as u64));
    roofline::fixed(device) * (2.0 * products) + Seconds(product * products) + steps
}

/// What is left of the rate of products whose rows begin at no multiple of 16 bytes: matrix units cannot load them.
/// Fitted on published runs with heads of 108, 150 and 450, beside the same with 144 and 224 (BigScience 2022, A100): no
/// published kernel has such sizes.
const UNALIGNED: f64 = 1.0 / 12.0;

fn aligned_share(size: u64) -> f64 {
    if size.is_multiple_of(8) { 1.0 } else { UNALIGNED }
}
