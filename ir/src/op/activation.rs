//! What stands between products: activation functions and residual sums.

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activation {
    /// Gaussian error linear unit, in its tanh form (Hendrycks and Gimpel 2016).
    Gelu,
    /// The larger of x and nothing.
    Relu,
    /// silu(gate) · up (Shazeer 2020).
    SwiGlu,
}
