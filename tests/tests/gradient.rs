//! Gradients are slopes: along each parameter's gradient, the loss of the whole model rises as fast as the gradient is
//! long. The slope is measured by changing parameters, so nothing here knows how a gradient is computed.

use executor::{Backend, Session, Tensor, Tensors};
use hetu_tests::notation::plan;
use hetu_tests::specimen;
use hetu_tests::training::{compiled, load, step};
use ir::model::Model;

/// Distance from the middle to where losses are taken.
const REACH: f64 = 0.02;
/// How many times nearer they are taken if something bends between.
const BEND: f64 = 8.0;
/// Relative difference of slope and gradient. Losses are sums in 32 bits, and slopes are not straight.
const TOLERANCE: f64 = 0.02;
/// Shorter gradients than this drown in the rounding of losses.
const LEAST: f64 = 2e-3;
/// Initial matrices are so small that hardly any attention is paid; larger ones show more.
const ENLARGED: f32 = 12.0;

/// A session whose parameters are given.
struct Probe {
    model: Model,
    session: Session,
}

impl Probe {
    fn new(model: Model, text: &str) -> Probe {
        let programs = compiled(&model.graph(), &plan(model.training.batch, text));
        let session = load(&model, &programs, Backend::Shuffle { seed: 5 });
        Probe { model, session }
    }

    fn tensors(&self) -> Tensors {
        self.session.tensors()
    }

    /// The loss and gradient norm with these parameters, on the tokens of the first step.
    fn ask(&mut self, tensors: &Tensors) -> (f64, f64) {
        self.session.begin_with(tensors);
        let result = step(&self.model, &mut self.session);
        (result.loss, result.gradient_norm)
    }
}

fn length(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The parts of a gradient that are tried alone: of packed products each of their rows of heads, else the whole.
fn parts(name: &str, shape: &[u64], gradient: &[f64]) -> Vec<Vec<f64>> {
    if !name.contains("attention in") {
        return vec![gradient.to_vec()];
    }
    let inner: u64 = shape[2..].iter().product();
    let of = |part: u64| {
        let masked = gradient.iter().enumerate();
        masked.map(|(index, &value)| if index as u64 / inner % shape[1] == part { value } else { 0.0 }).collect()
    };
    (0..shape[1]).map(of).collect()
}

/// Checks every parameter; returns how many parts had a gradient long enough.
fn assert_slopes(mut probe: Probe) -> usize {
    let mut middle = probe.tensors();
    for (name, Tensor { values, .. }) in &mut middle {
        if ["matrix", "table", "positions"].iter().any(|end| name.ends_with(end)) {
            values.iter_mut().for_each(|value| *value *= ENLARGED);
        }
    }
    let (_, norm) = probe.ask(&middle);
    // The first moment after one step is this part of the gradient (Kingma and Ba 2015).
    let part = 1.0 - probe.model.training.betas[0];
    let after = probe.tensors();
    let mut square = 0.0;
    let mut tried = 0;
    for (name, Tensor { shape, values: moment }) in
        after.iter().filter_map(|(name, tensor)| Some((name.strip_suffix("/first moment")?, tensor)))
    {
        let gradient: Vec<f64> = moment.iter().map(|&value| f64::from(value) / part).collect();
        square += length(&gradient).powi(2);
        for direction in parts(name, shape, &gradient) {
            let expected = length(&direction);
            if expected < LEAST {
                continue;
            }
            tried += 1;
            let mut loss = |reach: f64| {
                let mut moved = middle.clone();
                let values = &mut moved.get_mut(name).expect("a moment has its parameter").values;
                values.iter_mut().zip(&direction).for_each(|(value, by)| *value += (reach * by / expected) as f32);
                probe.ask(&moved).0
            };
            let mut slope = |reach: f64| (loss(reach) - loss(-reach)) / (2.0 * reach);
            let is_near = |slope: f64| (slope / expected - 1.0).abs() < TOLERANCE;
            // Where a function has a bend, the slope is that of both sides, but for a shorter reach.
            let slopes = [slope(REACH), slope(REACH / BEND)];
            assert!(slopes.into_iter().any(is_near), "{name}: slopes {slopes:?}, gradient {expected}");
        }
    }
    assert!((square.sqrt() / norm - 1.0).abs() < 1e-5, "{} is not the norm {norm}", square.sqrt());
    tried
}

/// A model whose gradients are never clipped.
fn unclipped(model: Model) -> Model {
    let training = ir::model::Training { gradient_norm_max: 1e9, ..model.training.clone() };
    Model { training, ..model }
}

#[test]
fn a_llama_s_gradients_are_slopes() {
    let one = assert_slopes(Probe::new(unclipped(specimen::llama()), "5: d1"));
    let text = "2+3: d2 / t2 split full / d2 parameters / t2 selective / d2";
    let four = assert_slopes(Probe::new(unclipped(specimen::llama()), text));
    // A block has two norms, four rows of heads, and three other matrices; outside are table, norm and matrix.
    assert_eq!([one, four], [3 * (2 + 4 + 3) + 3; 2], "every parameter is tried");
}

#[test]
fn a_gpt_s_gradients_are_slopes() {
    let one = assert_slopes(Probe::new(unclipped(specimen::gpt()), "5: d1"));
    let text = "1+4: d2 t2 split / d4 parameters / t4 / d2 t2 full / d2 t2 split";
    let eight = assert_slopes(Probe::new(unclipped(specimen::gpt()), text));
    // A block has two norms, three rows of heads of which that of the keys has a bias without effect, and three other
    // matrices, each with its bias; outside are table, positions and norm.
    assert_eq!([one, eight], [3 * (4 + 3 + 2 + 6) + 2 + 2; 2], "every parameter is tried");
}

#[test]
fn gradients_of_encoders_and_models_of_images_are_slopes() {
    for model in [specimen::bert(), specimen::vit(), specimen::swin()] {
        let layers = model.layer_count();
        let tried = assert_slopes(Probe::new(unclipped(model), &format!("{layers}: d1")));
        assert!(tried > 8 * layers as usize, "{tried} parameters were tried");
    }
}

#[test]
fn gradients_of_an_encoder_with_a_decoder_are_slopes() {
    let one = assert_slopes(Probe::new(unclipped(specimen::t5()), "7: d1"));
    let text = "2+2+3: d2 / t2 split full / d2 parameters / d2 full / t2 selective / t2 split full / d2";
    let six = assert_slopes(Probe::new(unclipped(specimen::t5()), text));
    // A block has two norms, three rows of heads and three other matrices; one that looks at others a norm and three
    // matrices more; outside are the table and two norms.
    assert_eq!([one, six], [4 * (2 + 3 + 3) + 2 * 4 + 3; 2], "every parameter is tried");
}
