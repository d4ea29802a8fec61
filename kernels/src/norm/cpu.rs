//! Row by row. The variance takes a second pass over the row, which is in cache, as one pass would subtract two
//! nearly equal sums.

use super::{Incoming, Layer, LayerGradient, LayerSaved, Rms, RmsSaved};
use crate::lanes::{add_each, prepare, sum, sum_pairs, vectorised};
use crate::{Real, Write};

/// Writes normalised rows to `y`, and their statistics to `mean` and `rstd` [n].
pub fn layer<T: Real>(input: Layer<T>, y: &mut [T], mean: &mut [T], rstd: &mut [T]) {
    let width = check_rows(input.x, input.weight, y, rstd);
    assert_eq!((input.bias.len(), mean.len()), (width, rstd.len()), "bias is [h], mean is [n]");
    let (scale, epsilon) = (T::from_f64(1.0 / width as f64), T::from_f64(input.epsilon));
    vectorised!({
        let rows = input.x.chunks_exact(width).zip(y.chunks_exact_mut(width));
        for ((x, y), (mean, rstd)) in rows.zip(mean.iter_mut().zip(rstd)) {
            let centre = sum(x, |x| x) * scale;
            let variance = sum(x, |x| (x - centre) * (x - centre)) * scale;
            let reciprocal = T::ONE / (variance + epsilon).sqrt();
            for ((y, &x), (&weight, &bias)) in y.iter_mut().zip(x).zip(input.weight.iter().zip(input.bias)) {
                *y = ((x - centre) * reciprocal).mul_add(weight, bias);
            }
            (*mean, *rstd) = (centre, reciprocal);
        }
    });
}

/// Writes the gradient of x to `dx`, what else reaches x added, and of parameters to `parameters` as `write` says.
pub fn layer_gradient<T: Real>(
    saved: LayerSaved<T>,
    Incoming { dy, addend }: Incoming<T>,
    dx: &mut [T],
    parameters: LayerGradient<T>,
    write: Write,
) {
    let width = check_rows(saved.x, saved.weight, dx, saved.rstd);
    assert_eq!((dy.len(), saved.mean.len()), (dx.len(), saved.rstd.len()), "dy is [n h], mean is [n]");
    assert!(addend.is_none_or(|addend| addend.len() == dx.len()), "what is added is [n h]");
    let LayerGradient { weight: dweight, bias: dbias } = parameters;
    assert_eq!((dweight.len(), dbias.len()), (width, width), "parameter gradients are [h]");
    prepare(write, dweight);
    prepare(write, dbias);
    let scale = T::from_f64(1.0 / width as f64);
    vectorised!({
        let statistics = saved.mean.iter().zip(saved.rstd);
        let rows = saved.x.chunks_exact(width).zip(dy.chunks_exact(width));
        for (row, (((x, dy), dx), (&mean, &rstd))) in rows.zip(dx.chunks_exact_mut(width)).zip(statistics).enumerate() {
            // dx holds q until both means are known.
            for ((dx, &dy), &weight) in dx.iter_mut().zip(dy).zip(saved.weight) {
                *dx = dy * weight;
            }
            let q_mean = sum(dx, |q| q) * scale;
            let product_mean = sum_pairs(dx, x, |q, x| q * (x - mean)) * rstd * scale;
            let parameters = dweight.iter_mut().zip(dbias.iter_mut());
            for (((dx, &x), &dy), (dweight, dbias)) in dx.iter_mut().zip(x).zip(dy).zip(parameters) {
                let normal = (x - mean) * rstd;
                *dx = rstd * (*dx - q_mean - normal * product_mean);
                *dweight += dy * normal;
                *dbias += dy;
            }
            if let Some(addend) = addend {
                add_each(dx, &addend[row * width..][..width], |addend| addend);
            }
        }
    });
}

/// Writes normalised rows to `y`, and the reciprocal of their root mean square to `rstd` [n].
pub fn rms<T: Real>(input: Rms<T>, y: &mut [T], rstd: &mut [T]) {
    let width = check_rows(input.x, input.weight, y, rstd);
    let (scale, epsilon) = (T::from_f64(1.0 / width as f64), T::from_f64(input.epsilon));
    vectorised!({
        for ((x, y), rstd) in input.x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(rstd) {
            let reciprocal = T::ONE / (sum(x, |x| x * x) * scale + epsilon).sqrt();
            for ((y, &x), &weight) in y.iter_mut().zip(x).zip(input.weight) {
                *y = x * reciprocal * weight;
            }
            *rstd = reciprocal;
        }
    });
}

/// Writes the gradient of x to `dx`, what else reaches x added, and of the weight to `dweight` as `write` says.
pub fn rms_gradient<T: Real>(
    saved: RmsSaved<T>,
    Incoming { dy, addend }: Incoming<T>,
    dx: &mut [T],
    dweight: &mut [T],
    write: Write,
) {
    let width = check_rows(saved.x, saved.weight, dx, saved.rstd);
    assert_eq!((dy.len(), dweight.len()), (dx.len(), width), "dy is [n h], dweight is [h]");
    assert!(addend.is_none_or(|addend| addend.len() == dx.len()), "what is added is [n h]");
    prepare(write, dweight);
    let scale = T::from_f64(1.0 / width as f64);
    vectorised!({
        let rows = saved.x.chunks_exact(width).zip(dy.chunks_exact(width));
        for (row, (((x, dy), dx), &rstd)) in rows.zip(dx.chunks_exact_mut(width)).zip(saved.rstd).enumerate() {
            for ((dx, &dy), &weight) in dx.iter_mut().zip(dy).zip(saved.weight) {
                *dx = dy * weight;
            }
            let product_mean = sum_pairs(dx, x, |q, x| q * x) * rstd * scale;
            for (((dx, &x), &dy), dweight) in dx.iter_mut().zip(x).zip(dy).zip(dweight.iter_mut()) {
                let normal = x * rstd;
                *dx = rstd * (*dx - normal * product_mean);
                *dweight += dy * normal;
            }
            if let Some(addend) = addend {
                add_each(dx, &addend[row * width..][..width], |addend| addend);
            }
        }
    });
}

/// The width of rows, all sizes agreeing.
fn check_rows<T>(x: &[T], weight: &[T], out: &[T], rstd: &[T]) -> usize {
    let width = weight.len();
    let elements = rstd.len() * width;
    assert_eq!((x.len(), out.len()), (elements, elements), "rows are [n h], rstd is [n], weight is [h]");
    width
}
