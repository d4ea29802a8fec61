//! Element by element.

use crate::Real;
use crate::lanes::vectorised;

/// 2 · √(2/π) and the factor of x³ in gelu's argument.
const GELU_SCALE: f64 = 1.595_769_121_605_730_9;
const GELU_CUBE: f64 = 0.044_715;

/// Writes gelu(x) to `y`.
pub fn gelu<T: Real>(x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "x and y have one shape");
    let (scale, cube) = (T::from_f64(GELU_SCALE), T::from_f64(GELU_CUBE));
    vectorised!({
        for (y, &x) in y.iter_mut().zip(x) {
            let argument = scale * x * (cube * x).mul_add(x, T::ONE);
            *y = x * argument.sigmoid();
        }
    });
}

/// Writes dy · gelu'(x) to `dx`.
pub fn gelu_gradient<T: Real>(x: &[T], dy: &[T], dx: &mut [T]) {
    assert_eq!((x.len(), dy.len()), (dx.len(), dx.len()), "x, dy and dx have one shape");
    let (scale, cube) = (T::from_f64(GELU_SCALE), T::from_f64(GELU_CUBE));
    let cube_slope = T::from_f64(3.0 * GELU_CUBE);
    vectorised!({
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            let gate = (scale * x * (cube * x).mul_add(x, T::ONE)).sigmoid();
            let slope = scale * (cube_slope * x).mul_add(x, T::ONE);
            *dx = dy * (x * gate * (T::ONE - gate)).mul_add(slope, gate);
        }
    });
}

/// Writes the larger of x and 0 to `y`.
pub fn relu<T: Real>(x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "x and y have one shape");
    vectorised!({
        for (y, &x) in y.iter_mut().zip(x) {
            *y = if x > T::ZERO { x } else { T::ZERO };
        }
    });
}

/// Writes dy to `dx` where x is above 0, elsewhere 0.
pub fn relu_gradient<T: Real>(x: &[T], dy: &[T], dx: &mut [T]) {
    assert_eq!((x.len(), dy.len()), (dx.len(), dx.len()), "x, dy and dx have one shape");
    vectorised!({
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = if x > T::ZERO { dy } else { T::ZERO };
        }
    });
}

/// Writes silu(gate) · up to `y` [n f], of x [n e f].
pub fn swiglu<T: Real>(width: usize, x: &[T], y: &mut [T]) {
    check_halves(width, x, y);
    vectorised!({
        for (x, y) in x.chunks_exact(2 * width).zip(y.chunks_exact_mut(width)) {
            let (gates, ups) = x.split_at(width);
            for ((y, &gate), &up) in y.iter_mut().zip(gates).zip(ups) {
                *y = gate * gate.sigmoid() * up;
            }
        }
    });
}

/// Writes the gradient of x [n e f] to `dx`, of dy [n f].
pub fn swiglu_gradient<T: Real>(width: usize, x: &[T], dy: &[T], dx: &mut [T]) {
    check_halves(width, x, dy);
    assert_eq!(x.len(), dx.len(), "x and dx have one shape");
    vectorised!({
        let rows = x.chunks_exact(2 * width).zip(dy.chunks_exact(width));
        for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(2 * width)) {
            let (gates, ups) = x.split_at(width);
            let (dgates, dups) = dx.split_at_mut(width);
            let outputs = dgates.iter_mut().zip(dups);
            for (((dgate, dup), &dy), (&gate, &up)) in outputs.zip(dy).zip(gates.iter().zip(ups)) {
                let open = gate.sigmoid();
                *dgate = dy * up * open * (gate * (T::ONE - open) + T::ONE);
                *dup = dy * gate * open;
            }
        }
    });
}

fn check_halves<T>(width: usize, halves: &[T], whole: &[T]) {
    assert_eq!(halves.len(), 2 * whole.len(), "gate and up are twice the output");
    assert!(whole.len().is_multiple_of(width), "{} elements are no whole rows of {width}", whole.len());
}
