//! The arithmetic of collectives: the same element of every rank's buffer, combined in the order of ranks. That
//! order is the same on every rank, so all of them get equal bytes.

pub mod cpu;

#[cfg(test)]
mod tests {
    use super::cpu;

    #[test]
    fn sums_follow_the_order_of_inputs() {
        let mut out = [f32::NAN];
        // 1e8 + 1 is 1e8 in single precision: only this order keeps the 1.
        cpu::sum_into(&mut out, &[&[1e8], &[-1e8], &[1.0]]);
        assert_eq!(out[0].to_bits(), 1.0_f32.to_bits());
        cpu::sum_into(&mut out, &[&[1.0], &[1e8], &[-1e8]]);
        assert_eq!(out[0].to_bits(), 0.0_f32.to_bits());
    }

    #[test]
    fn the_maximum_is_per_element() {
        let mut out = [f64::NAN; 2];
        cpu::max_into(&mut out, &[&[1.0, 5.0], &[2.0, f64::NEG_INFINITY]]);
        assert_eq!(out.map(f64::to_bits), [2.0, 5.0].map(f64::to_bits));
    }
}
