//! The square of a gradient's norm: total += weight · Σ x². Tensors that several ranks hold get a weight of one over
//! their copies, so the sum over ranks counts each element once.

pub mod cpu;
pub(crate) mod cuda;

#[cfg(test)]
mod tests {
    use super::cpu;

    #[test]
    fn squares_are_added_in_double_precision() {
        // A single-precision sum of ones stops at 2^24.
        let values = vec![1.0_f32; (1 << 25) + 2];
        let mut total = 0.0_f32;
        cpu::accumulate(&values, 0.5, &mut total);
        assert_eq!(total.to_bits(), (((1 << 24) + 1) as f32).to_bits());
        cpu::accumulate(&[2.0, 3.0], 1.0, &mut total);
        assert!((total - ((1 << 24) + 14) as f32).abs() <= 2.0, "{total}");
    }
}
