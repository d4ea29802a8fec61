//! Loops over slices that become vector code, and sums whose order does not depend on the machine.

use ir::op::Write;

use crate::Real;

/// How many partial sums a reduction keeps. Fixed, so that every instruction set adds in the same order; enough to
/// hide the latency of an addition in the widest registers.
const LANES: usize = 32;

/// Runs a block compiled for the best instruction set that this processor has.
///
/// The block and all that it calls must be inlined, which is why this is a macro: what stays a function of its own is
/// compiled for the baseline, where a fused multiply-add is a library call and loops run a hundred times slower.
macro_rules! vectorised {
    ($body:block) => {
        $crate::lanes::dispatch(
            #[inline(always)]
            || $body,
        )
    };
}
pub(crate) use vectorised;

/// What [`vectorised`] calls. The bound makes the closure an `FnOnce` and nothing more: any other is called through a
/// shim, which is not always inlined.
#[inline(always)]
pub(crate) fn dispatch<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// Makes `out` ready to be added to: content that does not count becomes zeros.
pub(crate) fn prepare<T: Real>(write: Write, out: &mut [T]) {
    match write {
        Write::Replace => out.fill(T::ZERO),
        Write::Accumulate => {}
    }
}

/// Σ term(a, b) over the pairs of two slices of equal length.
#[inline(always)]
pub(crate) fn sum_pairs<T: Real>(a: &[T], b: &[T], term: impl Fn(T, T) -> T) -> T {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [T::ZERO; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += term(a, b);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += term(a, b);
    }
    fold(lanes, |x, y| x + y)
}

/// Σ term(value).
#[inline(always)]
pub(crate) fn sum<T: Real>(values: &[T], term: impl Fn(T) -> T) -> T {
    sum_pairs(values, values, |value, _| term(value))
}

/// Σ value² in double precision.
#[inline(always)]
pub(crate) fn sum_squares<T: Real>(values: &[T]) -> f64 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value.to_f64() * value.to_f64();
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value.to_f64() * value.to_f64();
    }
    fold(lanes, |x, y| x + y)
}

/// The greatest value, −∞ if there is none.
#[inline(always)]
pub(crate) fn max<T: Real>(values: &[T]) -> T {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [T::LOWEST; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = lane.or_greater(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = lane.or_greater(value);
    }
    fold(lanes, T::or_greater)
}

/// Adds `term(a)` to each element of `out`.
#[inline(always)]
pub(crate) fn add_each<T: Real>(out: &mut [T], a: &[T], term: impl Fn(T) -> T) {
    for (out, &a) in out.iter_mut().zip(a) {
        *out += term(a);
    }
}

/// Combines lane i with lane i + half, until one is left.
#[inline(always)]
fn fold<T: Real>(mut lanes: [T; LANES], combine: impl Fn(T, T) -> T) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = combine(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}
