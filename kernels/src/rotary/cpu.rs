//! Position by position: sines once, then all sequences and heads.

use super::Angles;
use crate::lanes::vectorised;
use crate::{Packed, Real};

/// Pairs of the largest head there is room for.
const PAIRS_MAX: usize = 256;

/// Writes `x` with queries and keys rotated to `y`.
///
/// # Panics
/// If the head size is odd or over 512.
pub fn forward<T: Real>(packed: Packed, angles: Angles, x: &[T], y: &mut [T]) {
    rotate(packed, angles, T::ONE, x, y);
}

/// Writes the gradient to `dx`: a rotation's transpose is the rotation back.
///
/// # Panics
/// If the head size is odd or over 512.
pub fn gradient<T: Real>(packed: Packed, angles: Angles, dy: &[T], dx: &mut [T]) {
    rotate(packed, angles, -T::ONE, dy, dx);
}

fn rotate<T: Real>(packed: Packed, angles: Angles, direction: T, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "x and y have one shape");
    let Packed { sequence, groups, queries, head } = packed;
    let (batch, pairs, row) = (packed.batch(x.len()), head / 2, packed.row());
    assert!(head.is_multiple_of(2) && pairs <= PAIRS_MAX, "head size {head} is even and at most {}", 2 * PAIRS_MAX);
    let (mut frequencies, mut cosines, mut sines) = ([0.0; PAIRS_MAX], [T::ZERO; PAIRS_MAX], [T::ZERO; PAIRS_MAX]);
    for (i, frequency) in frequencies[..pairs].iter_mut().enumerate() {
        *frequency = angles.frequency(i, head);
    }
    for position in 0..sequence {
        for i in 0..pairs {
            let (sine, cosine) = (frequencies[i] * (angles.first_position + position) as f64).sin_cos();
            (cosines[i], sines[i]) = (T::from_f64(cosine), T::from_f64(sine) * direction);
        }
        vectorised!({
            for b in 0..batch {
                let start = (b * sequence + position) * row;
                for group in 0..groups {
                    let slots = start + group * (queries + 2) * head;
                    for slot in (slots..).step_by(head).take(queries + 1) {
                        turn(&x[slot..][..head], &mut y[slot..][..head], &cosines[..pairs], &sines[..pairs]);
                    }
                    let value = slots + (queries + 1) * head;
                    y[value..][..head].copy_from_slice(&x[value..][..head]);
                }
            }
        });
    }
}

#[inline(always)]
fn turn<T: Real>(x: &[T], y: &mut [T], cosines: &[T], sines: &[T]) {
    let (x_first, x_second) = x.split_at(cosines.len());
    let (y_first, y_second) = y.split_at_mut(cosines.len());
    let turns = cosines.iter().zip(sines);
    for (((y0, y1), (&x0, &x1)), (&cosine, &sine)) in
        y_first.iter_mut().zip(y_second).zip(x_first.iter().zip(x_second)).zip(turns)
    {
        *y0 = x0 * cosine - x1 * sine;
        *y1 = x1 * cosine + x0 * sine;
    }
}
