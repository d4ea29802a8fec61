//! Normalisation of rows of width h.
//!
//! - Layer (Ba et al. 2016): y = (x − mean) · rstd · weight + bias, rstd = 1 / √(mean((x − mean)²) + ε).
//! - Rms (Zhang and Sennrich 2019): y = x · rstd · weight, rstd = 1 / √(mean(x²) + ε).
//!
//! With x̂ = (x − mean) · rstd and q = dy · weight, the gradients are
//! dx = rstd · (q − mean(q) − x̂ · mean(q · x̂)), where Rms lacks the middle term, dweight = Σ dy · x̂, dbias = Σ dy.
//! What reaches x by another way may be added to dx at once.

pub mod cpu;
pub(crate) mod cuda;

#[cfg(test)]
mod tests;

/// What layer normalisation reads.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a, T> {
    /// Rows [n h].
    pub x: &'a [T],
    /// Scale [h].
    pub weight: &'a [T],
    /// Shift [h].
    pub bias: &'a [T],
    /// ε, added to the variance.
    pub epsilon: f64,
}

/// What the gradient of layer normalisation needs from the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct LayerSaved<'a, T> {
    /// Rows [n h].
    pub x: &'a [T],
    /// Scale [h].
    pub weight: &'a [T],
    /// Mean of each row [n].
    pub mean: &'a [T],
    /// Reciprocal standard deviation of each row [n].
    pub rstd: &'a [T],
}

/// Gradients that reach a normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a, T> {
    /// Of the result [n h].
    pub dy: &'a [T],
    /// Of x by another way, added to the gradient of x [n h]; none if there is no other way.
    pub addend: Option<&'a [T]>,
}

/// Where parameter gradients of layer normalisation go.
#[derive(Debug)]
pub struct LayerGradient<'a, T> {
    /// Gradient of the scale [h].
    pub weight: &'a mut [T],
    /// Gradient of the shift [h].
    pub bias: &'a mut [T],
}

/// What root-mean-square normalisation reads.
#[derive(Clone, Copy, Debug)]
pub struct Rms<'a, T> {
    /// Rows [n h].
    pub x: &'a [T],
    /// Scale [h].
    pub weight: &'a [T],
    /// ε, added to the mean square.
    pub epsilon: f64,
}

/// What the gradient of root-mean-square normalisation needs from the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct RmsSaved<'a, T> {
    /// Rows [n h].
    pub x: &'a [T],
    /// Scale [h].
    pub weight: &'a [T],
    /// Reciprocal root mean square of each row [n].
    pub rstd: &'a [T],
}
