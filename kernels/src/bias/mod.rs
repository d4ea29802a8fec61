//! Bias over trailing dimensions: y[n f] = x[n f] + bias[f]. The gradient of x is dy itself, that of bias its sum
//! over leading dimensions.

pub mod cpu;
pub(crate) mod cuda;

#[cfg(test)]
mod tests {
    use super::cpu;
    use crate::Write;
    use crate::oracle::{Random, assert_gradient, assert_near, dot};

    #[test]
    fn the_bias_gradient_is_the_slope() {
        let mut random = Random::new(4);
        let (x, bias): (Vec<f64>, Vec<f64>) = (random.values(3 * 37), random.values(37));
        let dy: Vec<f64> = random.values(x.len());
        let mut dbias = vec![f64::NAN; bias.len()];
        cpu::gradient(&dy, &mut dbias, Write::Replace);
        let mut y = vec![0.0; x.len()];
        assert_gradient("bias", &bias, &dbias, |bias| {
            cpu::forward(&x, bias, &mut y);
            dot(&dy, &y)
        });
        assert_near("y", &y[37 * 2..][..1], &[x[37 * 2] + bias[0]], 1e-12);
        let twice: Vec<f64> = dbias.iter().map(|x| 2.0 * x).collect();
        cpu::gradient(&dy, &mut dbias, Write::Accumulate);
        assert_near("accumulated", &dbias, &twice, 1e-12);
    }
}
