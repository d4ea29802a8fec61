//! What tests compare with: seeded random numbers and finite differences.

pub(crate) use crate::random::Random;

/// Σ a · b, the scalar whose gradient with respect to b is a.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

pub(crate) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

#[track_caller]
pub(crate) fn assert_near(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * (1.0 + want.abs()), "{what}[{i}]: got {got}, want {want}");
    }
}

/// Checks `gradient` against central differences of `scalar` around `at`.
#[track_caller]
pub(crate) fn assert_gradient(what: &str, at: &[f64], gradient: &[f64], mut scalar: impl FnMut(&[f64]) -> f64) {
    // The error of a central difference is step² · f‴ / 6 + rounding / step; this step balances both.
    const STEP: f64 = 1e-5;
    let mut moved = at.to_vec();
    let mut want = Vec::new();
    for i in 0..at.len() {
        moved[i] = at[i] + STEP;
        let above = scalar(&moved);
        moved[i] = at[i] - STEP;
        let below = scalar(&moved);
        moved[i] = at[i];
        want.push((above - below) / (2.0 * STEP));
    }
    assert_near(what, gradient, &want, 1e-7);
}
