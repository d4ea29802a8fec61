//! What a product takes in fp8, in the hands of a trainer: on faster cores, behind the casts of its factors.
//!
//! A factor is cast where a product reads it with its inner dimension last. Where it is read the other way, by products of
//! the backward pass, a second copy is: matrix units of Hopper read factors of one byte only with the inner dimension last.

use ir::cluster::Device;
use ir::graph::Element;
use ir::op::{Op, Storage};
use ir::program::{Kernel, Operand};
use ir::software::{CastParameters, Casts, Fp8, Scaling, Software};
use ir::units::{Bytes, FlopsPerSecond, Seconds};

use crate::roofline;
use crate::shape::product_sizes;

/// Bytes of a number before it is cast.
const BEFORE: f64 = 2.0;
/// And behind.
const BEHIND: f64 = 1.0;

/// Products of other sizes stay in 16 bits: rows of factors begin at multiples of 16 bytes.
const UNIT: u64 = 16;

/// The time of a product with the casts that it needs; none if it runs in 16 bits: by the software, by its own kind, or
/// because the device has no cores for it.
pub(crate) fn product(device: &Device, software: &Software, kernel: &Kernel) -> Option<Seconds> {
    let (fp8, best) = (software.fp8?, device.fp8_rate?);
    let factors = factors(kernel)?;
    let rate = FlopsPerSecond(best.0 * device.product_efficiency * software.rates.fp8);
    let saved: f64 = factors.iter().map(|(factor, _)| factor.elements() as f64 * (BEFORE - BEHIND)).sum();
    let bytes = kernel.bytes().saturating_sub(Bytes(saved as u64));
    let product = roofline::product_time(device, product_sizes(&kernel.product()), rate, bytes);
    Some(factors.iter().fold(product, |total, &(factor, storage)| {
        let Passes { bytes, launches } = passes(fp8, factor, storage);
        let moved = roofline::memory_time(device, Bytes((factor.elements() as f64 * bytes) as u64));
        total + moved + roofline::fixed(device) * f64::from(launches)
    }))
}

/// Kernels that the host starts for the casts of a product, besides the product.
pub(crate) fn launches(device: &Device, software: &Software, kernel: &Kernel) -> u32 {
    let (Some(fp8), Some(_), Some(factors)) = (software.fp8, device.fp8_rate, factors(kernel)) else { return 0 };
    factors.iter().map(|&(factor, storage)| passes(fp8, factor, storage).launches).sum()
}

/// The factors of a product that may run in fp8: one with a parameter of a block, and none of the head.
fn factors(kernel: &Kernel) -> Option<[(&Operand, Storage); 2]> {
    if kernel.op != Op::MatMul {
        return None;
    }
    let product = kernel.product();
    let is_even = [product.rows, product.columns, product.inner].iter().all(|size| size.is_multiple_of(UNIT));
    let is_head = kernel.operands().any(|operand| has(operand, 'v'));
    let factors = [(&kernel.inputs[0], product.a), (&kernel.inputs[1], product.b)];
    let are_short = factors.iter().all(|(factor, _)| factor.element == Element::Bf16);
    (is_even && !is_head && are_short).then_some(factors)
}

fn has(operand: &Operand, letter: char) -> bool {
    operand.dimensions.iter().any(|&(other, _)| other == letter)
}

/// What passes over a factor before a product reads it.
struct Passes {
    /// For each number.
    bytes: f64,
    launches: u32,
}

const NOTHING: Passes = Passes { bytes: 0.0, launches: 0 };

fn passes(fp8: Fp8, factor: &Operand, storage: Storage) -> Passes {
    // Each reads all numbers; the last writes them.
    let launches = match fp8.scaling {
        Scaling::Current => 2,
        Scaling::Delayed => 1,
    };
    let cast = |launches: u32, reads: u32| Passes { bytes: BEFORE * f64::from(reads) + BEHIND, launches };
    let beside = Passes { bytes: BEHIND, launches: 0 };
    // Activations and their gradients are of a batch, parameters are not.
    match (has(factor, 'b'), storage) {
        (true, Storage::InnerLast) => match fp8.casts {
            Casts::Apart => cast(launches, launches),
            Casts::Fused => cast(launches - 1, launches - 1),
        },
        (true, Storage::InnerFirst) => beside,
        (false, storage) => match (fp8.parameters, storage) {
            (CastParameters::Each, Storage::InnerLast) => cast(launches, launches),
            (CastParameters::Each, Storage::InnerFirst) => beside,
            (CastParameters::Once, _) | (CastParameters::Gathered, Storage::InnerLast) => NOTHING,
            (CastParameters::Gathered, Storage::InnerFirst) => Passes { bytes: 2.0 * BEHIND, launches: 1 },
        },
    }
}

#[cfg(test)]
mod tests {
    use ir::cluster::Cluster;
    use ir::program::Output;

    use super::*;

    #[test]
    fn the_host_starts_a_kernel_for_each_pass_over_a_factor() {
        let device = Cluster::preset("H100").expect("it is shipped").device;
        let operand = |letters: &str| {
            let dimensions = letters.chars().map(|letter| (letter, 64)).collect();
            Operand { binding: 0, offset: 0, element: Element::Bf16, dimensions }
        };
        let product = |[a, b, result]: [&str; 3]| Kernel {
            op: Op::MatMul,
            inputs: vec![operand(a), operand(b)],
            outputs: vec![Output { operand: operand(result), write: ir::op::Write::Replace }],
            offsets: Vec::new(),
            workspace: None,
        };
        let started = |scaling, casts, parameters, letters| {
            let fp8 = Some(Fp8 { scaling, casts, parameters });
            let software = Software { fp8, ..Software::preset("hetu").expect("it is shipped") };
            launches(&device, &software, &product(letters))
        };
        let forward = ["bsh", "fh", "bsf"];
        let of_input = ["bsf", "fh", "bsh"];
        assert_eq!(started(Scaling::Current, Casts::Apart, CastParameters::Each, forward), 4);
        assert_eq!(started(Scaling::Current, Casts::Fused, CastParameters::Once, forward), 1);
        assert_eq!(started(Scaling::Delayed, Casts::Fused, CastParameters::Gathered, forward), 0);
        assert_eq!(started(Scaling::Delayed, Casts::Fused, CastParameters::Gathered, of_input), 1);
        assert_eq!(started(Scaling::Current, Casts::Apart, CastParameters::Each, ["bsf", "bsh", "fh"]), 0);
        assert_eq!(started(Scaling::Current, Casts::Apart, CastParameters::Each, ["bsh", "vh", "bsv"]), 0);
    }
}
