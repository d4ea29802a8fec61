//! Sum of two tensors, as of a residual branch with its stream. Both gradients are dy itself.

pub mod cpu;
pub(crate) mod cuda;

#[cfg(test)]
mod tests {
    use super::cpu;

    #[test]
    fn a_sum_in_place_equals_a_sum_aside() {
        let (a, b) = ([1.0_f32, 2.0, 3.0], [10.0_f32, 20.0, 30.0]);
        let mut y = [f32::NAN; 3];
        cpu::forward(&a, &b, &mut y);
        let mut place = a;
        cpu::accumulate(&b, &mut place);
        assert_eq!(
            (y.map(f32::to_bits), place.map(f32::to_bits)),
            ([11.0, 22.0, 33.0].map(f32::to_bits), y.map(f32::to_bits))
        );
    }
}
