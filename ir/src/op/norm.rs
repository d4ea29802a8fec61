//! Normalisation over the hidden dimension.

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NormKind {
    /// Mean taken off, divided by the deviation, weight and bias (Ba, Kiros and Hinton 2016).
    Layer,
    /// Divided by the root of the mean square, weight only (Zhang and Sennrich 2019).
    RootMeanSquare,
}

/// A normalisation with its constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Which one.
    pub kind: NormKind,
    /// Added to the variance.
    pub epsilon: f64,
}
