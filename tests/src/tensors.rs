//! Parameters and moments as tests compare them.

use executor::{Tensor, Tensors};

/// The parameter, of those that count, that differs most from that of others, and by what part of its largest element.
///
/// # Panics
/// If they are not of the same model.
pub fn farthest(found: &Tensors, expected: &Tensors, counts: impl Fn(&str) -> bool) -> (String, f64) {
    assert!(found.keys().eq(expected.keys()), "one model has the same parameters");
    let parameters = expected.iter().filter(|(name, _)| !name.ends_with(" moment") && counts(name));
    let difference = |(name, expected): (&String, &Tensor)| {
        let expected = &expected.values;
        let largest = expected.iter().fold(0.0, |largest, value| value.abs().max(largest));
        let pairs = found[name].values.iter().zip(expected);
        // A sum, so that what is no number is not lost.
        let most =
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |most: f32, next| if next <= most { most } else { next });
        (name.clone(), f64::from(most / largest))
    };
    parameters.map(difference).max_by(|a, b| a.1.total_cmp(&b.1)).expect("a model has parameters")
}
