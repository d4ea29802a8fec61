//! Activations of the feed-forward block.
//!
//! - gelu, tanh form (Hendrycks and Gimpel 2016): x/2 · (1 + tanh u) = x · σ(2u), u = √(2/π) · (x + 0.044715 x³).
//! - relu: the larger of x and 0.
//! - swiglu (Shazeer 2020) on [n e f]: silu(gate) · up, where silu(x) = x · σ(x), e = 0 is gate and e = 1 is up.

pub mod cpu;
pub(crate) mod cuda;

#[cfg(test)]
mod tests {
    use super::cpu;
    use crate::oracle::{Random, assert_gradient, assert_near, dot, narrow, widen};

    fn inputs(seed: u64, count: usize) -> Vec<f64> {
        Random::new(seed).values::<f64>(count).iter().map(|x| 6.0 * x).collect()
    }

    fn gelu(x: &[f64]) -> Vec<f64> {
        let mut y = vec![f64::NAN; x.len()];
        cpu::gelu(x, &mut y);
        y
    }

    fn swiglu(width: usize, x: &[f64]) -> Vec<f64> {
        let mut y = vec![f64::NAN; x.len() / 2];
        cpu::swiglu(width, x, &mut y);
        y
    }

    #[test]
    fn gelu_is_its_tanh_form() {
        let x = inputs(13, 100);
        let root = (2.0 / std::f64::consts::PI).sqrt();
        let want: Vec<f64> = x.iter().map(|x| 0.5 * x * (1.0 + (root * (x + 0.044715 * x * x * x)).tanh())).collect();
        assert_near("y", &gelu(&x), &want, 1e-14);
    }

    #[test]
    fn gelu_gradient_is_the_slope() {
        let (x, dy) = (inputs(14, 41), inputs(15, 41));
        let mut dx = vec![f64::NAN; x.len()];
        cpu::gelu_gradient(&x, &dy, &mut dx);
        assert_gradient("x", &x, &dx, |x| dot(&dy, &gelu(x)));
    }

    #[test]
    fn relu_gradient_is_the_slope() {
        let (x, dy) = (inputs(19, 41), inputs(20, 41));
        let mut dx = vec![f64::NAN; x.len()];
        cpu::relu_gradient(&x, &dy, &mut dx);
        let relu = |x: &[f64]| {
            let mut y = vec![f64::NAN; x.len()];
            cpu::relu(x, &mut y);
            y
        };
        assert_gradient("x", &x, &dx, |x| dot(&dy, &relu(x)));
        assert_eq!(relu(&[-1.0, 0.0, 2.0]), [0.0, 0.0, 2.0]);
    }

    #[test]
    fn swiglu_gradient_is_the_slope() {
        for width in [1, 3, 35] {
            let (x, dy) = (inputs(16, 2 * 2 * width), inputs(17, 2 * width));
            let mut dx = vec![f64::NAN; x.len()];
            cpu::swiglu_gradient(width, &x, &dy, &mut dx);
            assert_gradient("x", &x, &dx, |x| dot(&dy, &swiglu(width, x)));
            let want = x[0] / (1.0 + (-x[0]).exp()) * x[width];
            assert_near("y", &swiglu(width, &x)[..1], &[want], 1e-14);
        }
    }

    #[test]
    fn single_precision_agrees_with_double_and_survives_extremes() {
        let x = narrow(&inputs(18, 200));
        let (mut y, mut halves) = (vec![f32::NAN; 200], vec![f32::NAN; 100]);
        cpu::gelu(&x, &mut y);
        assert_near("gelu", &widen(&y), &gelu(&widen(&x)), 1e-6);
        cpu::swiglu(50, &x, &mut halves);
        assert_near("swiglu", &widen(&halves), &swiglu(50, &widen(&x)), 1e-6);
        let x = [-1e4_f32, 1e4];
        let mut y = [f32::NAN; 2];
        cpu::gelu(&x, &mut y);
        assert_near("far gelu", &widen(&y), &[0.0, 1e4], 0.0);
        cpu::gelu_gradient(&x, &[1.0, 1.0], &mut y);
        assert_near("far slope", &widen(&y), &[0.0, 1.0], 0.0);
    }
}
