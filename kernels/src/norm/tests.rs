//! Normalisation against its definition and finite differences.

use super::{Incoming, Layer, LayerGradient, LayerSaved, Rms, RmsSaved, cpu};
use crate::Write;
use crate::oracle::{Random, assert_gradient, assert_near, dot, narrow, widen};

const EPSILON: f64 = 1e-5;

struct Case {
    x: Vec<f64>,
    weight: Vec<f64>,
    bias: Vec<f64>,
    dy: Vec<f64>,
    width: usize,
}

fn case(seed: u64, rows: usize, width: usize) -> Case {
    let mut random = Random::new(seed);
    let (x, dy) = (random.values(rows * width), random.values(rows * width));
    Case { x, dy, weight: random.values(width), bias: random.values(width), width }
}

fn layer(x: &[f64], weight: &[f64], bias: &[f64]) -> [Vec<f64>; 3] {
    let rows = x.len() / weight.len();
    let (mut y, mut mean, mut rstd) = (vec![f64::NAN; x.len()], vec![f64::NAN; rows], vec![f64::NAN; rows]);
    cpu::layer(Layer { x, weight, bias, epsilon: EPSILON }, &mut y, &mut mean, &mut rstd);
    [y, mean, rstd]
}

fn rms(x: &[f64], weight: &[f64]) -> [Vec<f64>; 2] {
    let (mut y, mut rstd) = (vec![f64::NAN; x.len()], vec![f64::NAN; x.len() / weight.len()]);
    cpu::rms(Rms { x, weight, epsilon: EPSILON }, &mut y, &mut rstd);
    [y, rstd]
}

#[test]
fn layer_rows_have_mean_zero_and_variance_one_before_scale_and_shift() {
    let Case { x, width, .. } = case(5, 4, 70);
    let [y, ..] = layer(&x, &vec![1.0; width], &vec![0.0; width]);
    for row in y.chunks_exact(width) {
        assert_near("mean", &[row.iter().sum::<f64>() / width as f64], &[0.0], 1e-12);
        assert_near("variance", &[dot(row, row) / width as f64], &[1.0], 1e-4);
    }
}

#[test]
fn layer_gradients_are_slopes() {
    for (rows, width) in [(1, 1), (2, 3), (3, 33)] {
        let Case { x, weight, bias, dy, .. } = case(6, rows, width);
        let [_, mean, rstd] = layer(&x, &weight, &bias);
        let saved = LayerSaved { x: &x, weight: &weight, mean: &mean, rstd: &rstd };
        let alone = Incoming { dy: &dy, addend: None };
        let (mut dx, mut dweight, mut dbias) = (vec![f64::NAN; x.len()], vec![f64::NAN; width], vec![f64::NAN; width]);
        let parameters = LayerGradient { weight: &mut dweight, bias: &mut dbias };
        cpu::layer_gradient(saved, alone, &mut dx, parameters, Write::Replace);
        assert_gradient("x", &x, &dx, |x| dot(&dy, &layer(x, &weight, &bias)[0]));
        assert_gradient("weight", &weight, &dweight, |weight| dot(&dy, &layer(&x, weight, &bias)[0]));
        assert_gradient("bias", &bias, &dbias, |bias| dot(&dy, &layer(&x, &weight, bias)[0]));

        let twice = |values: &[f64]| values.iter().map(|x| 2.0 * x).collect::<Vec<_>>();
        let (weight_twice, bias_twice) = (twice(&dweight), twice(&dbias));
        let parameters = LayerGradient { weight: &mut dweight, bias: &mut dbias };
        let slope = dx.clone();
        cpu::layer_gradient(saved, Incoming { addend: Some(&x), ..alone }, &mut dx, parameters, Write::Accumulate);
        assert_near("with an addend", &dx, &slope.iter().zip(&x).map(|(a, b)| a + b).collect::<Vec<_>>(), 1e-12);
        assert_near("accumulated weight", &dweight, &weight_twice, 1e-12);
        assert_near("accumulated bias", &dbias, &bias_twice, 1e-12);
    }
}

#[test]
fn rms_gradients_are_slopes() {
    for (rows, width) in [(1, 1), (2, 3), (3, 33)] {
        let Case { x, weight, dy, .. } = case(7, rows, width);
        let [_, rstd] = rms(&x, &weight);
        let (mut dx, mut dweight) = (vec![f64::NAN; x.len()], vec![f64::NAN; width]);
        let saved = RmsSaved { x: &x, weight: &weight, rstd: &rstd };
        let alone = Incoming { dy: &dy, addend: None };
        cpu::rms_gradient(saved, alone, &mut dx, &mut dweight, Write::Replace);
        assert_gradient("x", &x, &dx, |x| dot(&dy, &rms(x, &weight)[0]));
        assert_gradient("weight", &weight, &dweight, |weight| dot(&dy, &rms(&x, weight)[0]));
        let twice: Vec<f64> = dweight.iter().map(|x| 2.0 * x).collect();
        let slope = dx.clone();
        cpu::rms_gradient(saved, Incoming { addend: Some(&x), ..alone }, &mut dx, &mut dweight, Write::Accumulate);
        assert_near("with an addend", &dx, &slope.iter().zip(&x).map(|(a, b)| a + b).collect::<Vec<_>>(), 1e-12);
        assert_near("accumulated weight", &dweight, &twice, 1e-12);
    }
}

#[test]
fn rms_rows_have_mean_square_one_before_scale() {
    let Case { x, width, .. } = case(8, 3, 50);
    let [y, _] = rms(&x, &vec![1.0; width]);
    for row in y.chunks_exact(width) {
        assert_near("mean square", &[dot(row, row) / width as f64], &[1.0], 1e-4);
    }
}

#[test]
fn single_precision_agrees_with_double() {
    let Case { x, weight, bias, .. } = case(9, 5, 257);
    // A large common offset is what naive variances fail on.
    let x: Vec<f64> = widen(&narrow(&x.iter().map(|x| x + 100.0).collect::<Vec<_>>()));
    let (weight, bias) = (widen(&narrow(&weight)), widen(&narrow(&bias)));
    let [want, ..] = layer(&x, &weight, &bias);
    let (x_single, weight_single, bias_single) = (narrow(&x), narrow(&weight), narrow(&bias));
    let input = Layer { x: &x_single, weight: &weight_single, bias: &bias_single, epsilon: EPSILON };
    let (mut y, mut mean, mut rstd) = (vec![f32::NAN; x.len()], vec![f32::NAN; 5], vec![f32::NAN; 5]);
    cpu::layer(input, &mut y, &mut mean, &mut rstd);
    assert_near("layer", &widen(&y), &want, 1e-4);
    let [want, _] = rms(&x, &weight);
    cpu::rms(Rms { x: &x_single, weight: &weight_single, epsilon: EPSILON }, &mut y, &mut rstd);
    assert_near("rms", &widen(&y), &want, 1e-6);
}
