//! The learning rate of each step.

use ir::model::Training;

/// The part of the largest rate at which training ends.
const FINAL_PART: f64 = 0.1;

/// The learning rate of a step, from 0, in a training of `steps`: it rises linearly over the warm-up, then falls
/// along half a cosine (Loshchilov and Hutter 2017) to a tenth.
pub fn learning_rate(training: &Training, step: u64, steps: u64) -> f64 {
    let warmup = training.warmup_steps;
    if step < warmup {
        return training.learning_rate * (step + 1) as f64 / warmup as f64;
    }
    let part = (step - warmup) as f64 / steps.saturating_sub(warmup + 1).max(1) as f64;
    let fall = (1.0 + (std::f64::consts::PI * part.min(1.0)).cos()) / 2.0;
    training.learning_rate * (FINAL_PART + (1.0 - FINAL_PART) * fall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::model::Precision;

    #[test]
    fn the_rate_rises_to_its_largest_and_falls_to_a_tenth() {
        let training = Training {
            batch: 1,
            precision: Precision::Full,
            learning_rate: 2.0,
            warmup_steps: 4,
            weight_decay: 0.0,
            gradient_norm_max: 1.0,
            betas: [0.9, 0.95],
            epsilon: 1e-8,
        };
        let rates: Vec<f64> = (0..12).map(|step| learning_rate(&training, step, 11)).collect();
        let expected = [0.5, 1.0, 1.5, 2.0, 2.0];
        assert!(rates.iter().zip(expected).all(|(rate, expected)| (rate - expected).abs() < 1e-12), "{rates:?}");
        assert!(rates[4..].windows(2).all(|pair| pair[1] <= pair[0]), "{rates:?}");
        assert!((rates[7] - 1.1).abs() < 1e-12 && (rates[10] - 0.2).abs() < 1e-12, "{rates:?}");
        assert!((rates[11] - 0.2).abs() < 1e-12, "past the end it stays: {rates:?}");
    }
}
