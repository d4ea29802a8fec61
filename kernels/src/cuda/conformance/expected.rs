//! What the reference says, in double precision.

use ir::op::Storage;
use ir::op::{Activation, Norm, NormKind, Op, Pattern, Rotary, Rotation, Write};
use ir::program::Kernel;

use super::case::{Case, STEP, Values};
use crate::adamw::{Constants, Extent, Gradient, State};
use crate::attention::{self, Heads, Scratch};
use crate::embed::Rows;
use crate::loss::{self, Shard};
use crate::matmul::{self, Matrix, MatrixMut, Size};
use crate::norm::{self, Incoming, Layer, LayerGradient, LayerSaved, Rms, RmsSaved};
use crate::position::Window;
use crate::rotary::Angles;
use crate::{Packed, activation, adamw, add, bias, embed, position, rotary};

/// Whether an output's old content counts.
pub(crate) fn reads_before(kernel: &Kernel, output: usize) -> bool {
    match kernel.op {
        Op::CrossEntropy { .. } | Op::SquareSum { .. } => true,
        Op::MatMul | Op::BiasGradient | Op::EmbedGradient | Op::PositionGradient | Op::NormGradient(_) => {
            kernel.outputs[output].write == Write::Accumulate
        }
        Op::Embed
        | Op::Position
        | Op::Norm(_)
        | Op::Bias
        | Op::Rotary(_)
        | Op::Attention(_)
        | Op::AttentionGradient(_)
        | Op::CrossAttention
        | Op::CrossAttentionGradient
        | Op::Activation(_)
        | Op::ActivationGradient(_)
        | Op::Add
        | Op::RowMax
        | Op::SumExp
        | Op::CrossEntropyGradient
        | Op::AdamW { .. }
        | Op::Zero => false,
    }
}

/// All outputs of a case.
pub(crate) fn of(case: &Case) -> Vec<Vec<f64>> {
    let mut outputs: Vec<Vec<f64>> = case
        .kernel
        .results()
        .zip(&case.before)
        .map(|(operand, before)| {
            let count = operand.elements() as usize;
            before.as_ref().map_or(vec![f64::NAN; count], |before| widen(before))
        })
        .collect();
    let write = case.kernel.outputs.last().map_or(Write::Replace, |output| output.write);
    Reference { case, write }.run(&mut outputs);
    outputs
}

/// Sets inputs that follow from others, as they do in a program.
pub(crate) fn derive(case: &mut Case) {
    let reference = Reference { case, write: Write::Replace };
    match case.kernel.op {
        Op::NormGradient(norm) => {
            let statistics = reference.statistics(norm);
            for (index, values) in statistics.iter().enumerate() {
                case.set(3 + index, values);
            }
        }
        Op::AttentionGradient(pattern) => {
            let [y, lse] = reference.attention(pattern, 1);
            case.set(2, &y);
            case.set(3, &lse);
        }
        Op::SumExp => {
            let maxima = reference.maxima();
            case.set(1, &maxima);
        }
        Op::CrossEntropyGradient => {
            let maxima = reference.maxima();
            case.set(1, &maxima);
            let sums = Reference { case, write: Write::Replace }.sums(3);
            case.set(2, &sums);
        }
        Op::CrossEntropy { .. } => {
            let sums: Vec<f64> = reference.floats(1).iter().map(|value| value.abs() + 1.0).collect();
            case.set(1, &sums);
        }
        Op::AdamW { .. } => {
            let squares: Vec<f64> = reference.floats(3).iter().map(|value| value.abs()).collect();
            let square_norm: Vec<f64> = reference.floats(4).iter().map(|value| value.abs()).collect();
            case.set(3, &squares);
            case.set(4, &square_norm);
            case.set(5, &Constants::new(&STEP).numbers());
        }
        Op::Embed
        | Op::EmbedGradient
        | Op::Position
        | Op::PositionGradient
        | Op::Norm(_)
        | Op::MatMul
        | Op::Bias
        | Op::BiasGradient
        | Op::Rotary(_)
        | Op::Attention(_)
        | Op::CrossAttention
        | Op::CrossAttentionGradient
        | Op::Activation(_)
        | Op::ActivationGradient(_)
        | Op::Add
        | Op::RowMax
        | Op::SquareSum { .. }
        | Op::Zero => {}
    }
}

#[derive(Clone, Copy)]
struct Reference<'a> {
    case: &'a Case,
    write: Write,
}

impl Reference<'_> {
    fn run(self, outputs: &mut [Vec<f64>]) {
        let size = |letter| self.case.size(letter) as usize;
        let [out, rest @ ..] = outputs else { return };
        match self.case.kernel.op {
            Op::MatMul => self.product(out),
            Op::Embed => embed::cpu::forward(self.rows(), self.tokens(0), &self.floats(1), out),
            Op::EmbedGradient => embed::cpu::gradient(self.rows(), self.tokens(0), &self.floats(1), out, self.write),
            Op::Position => position::cpu::forward(self.window(), &self.floats(0), &self.floats(1), out),
            Op::PositionGradient => position::cpu::gradient(self.window(), &self.floats(0), out, self.write),
            Op::Norm(norm) => self.norm(norm, out, rest),
            Op::NormGradient(norm) => self.norm_gradient(norm, out, rest),
            Op::Bias => bias::cpu::forward(&self.floats(0), &self.floats(1), out),
            Op::BiasGradient => bias::cpu::gradient(&self.floats(0), out, self.write),
            Op::Rotary(rotary) => self.rotary(rotary, out),
            Op::Attention(pattern) => {
                let [y, lse] = self.attention(pattern, 0);
                (*out, rest[0]) = (y, lse);
            }
            Op::AttentionGradient(pattern) => self.attention_gradient(pattern, out),
            Op::CrossAttention | Op::CrossAttentionGradient => panic!("no device is asked for it"),
            Op::Activation(Activation::Relu) => activation::cpu::relu(&self.floats(0), out),
            Op::ActivationGradient(Activation::Relu) => {
                activation::cpu::relu_gradient(&self.floats(1), &self.floats(0), out);
            }
            Op::Activation(Activation::Gelu) => activation::cpu::gelu(&self.floats(0), out),
            Op::Activation(Activation::SwiGlu) => activation::cpu::swiglu(size('f'), &self.floats(0), out),
            Op::ActivationGradient(Activation::Gelu) => {
                activation::cpu::gelu_gradient(&self.floats(1), &self.floats(0), out);
            }
            Op::ActivationGradient(Activation::SwiGlu) => {
                activation::cpu::swiglu_gradient(size('f'), &self.floats(1), &self.floats(0), out);
            }
            Op::Add => add::cpu::forward(&self.floats(0), &self.floats(1), out),
            Op::RowMax => *out = self.maxima(),
            Op::SumExp => *out = self.sums(2),
            Op::CrossEntropy { replicas } => {
                let mut losses = 0.0;
                loss::cpu::cross_entropy(&self.floats(0), &self.floats(1), &mut losses);
                out[0] += losses / f64::from(replicas);
            }
            Op::CrossEntropyGradient => self.loss_gradient(out),
            Op::SquareSum { replicas } => {
                let squares: f64 = self.floats(0).iter().map(|value| value * value).sum();
                out[0] += squares / f64::from(replicas);
            }
            Op::AdamW { decayed, length } => self.update(decayed, length, out, rest),
            Op::Zero => out.fill(0.0),
        }
    }

    fn floats(&self, input: usize) -> Vec<f64> {
        match &self.case.inputs[input] {
            Values::Floats(values) => widen(values),
            Values::Tokens(_) => panic!("input {input} is of tokens"),
        }
    }

    /// What is added to the first output.
    fn addend(&self) -> Option<Vec<f64>> {
        self.case.kernel.addend_place().map(|input| self.floats(input))
    }

    fn tokens(&self, input: usize) -> &[i32] {
        match &self.case.inputs[input] {
            Values::Tokens(tokens) => tokens,
            Values::Floats(_) => panic!("input {input} is not of tokens"),
        }
    }

    fn first(&self) -> usize {
        self.case.offsets[0] as usize
    }

    fn rows(&self) -> Rows {
        Rows { first: self.first(), width: self.case.size('h') as usize }
    }

    fn window(&self) -> Window {
        let [sequence, width] = ['s', 'h'].map(|letter| self.case.size(letter) as usize);
        Window { first: self.first(), sequence, width }
    }

    fn shard(&self) -> Shard {
        Shard { first: self.first(), width: self.case.size('v') as usize }
    }

    fn packed(&self) -> Packed {
        let [sequence, groups, slots, head] = ['s', 'g', 'c', 'd'].map(|letter| self.case.size(letter) as usize);
        Packed { sequence, groups, queries: slots - 2, head }
    }

    fn product(&self, out: &mut [f64]) {
        let shape = self.case.kernel.product();
        let size = Size { rows: shape.rows as usize, inner: shape.inner as usize, columns: shape.columns as usize };
        let [a, b] = [self.floats(0), self.floats(1)];
        let a = match shape.a {
            Storage::InnerLast => Matrix::rows(&a, size.inner),
            Storage::InnerFirst => Matrix::rows(&a, size.rows).transposed(),
        };
        let b = match shape.b {
            Storage::InnerLast => Matrix::rows(&b, size.inner).transposed(),
            Storage::InnerFirst => Matrix::rows(&b, size.columns),
        };
        let out = MatrixMut { values: out, row_stride: size.columns, write: self.write };
        let mut scratch = vec![0.0; matmul::cpu::SCRATCH];
        match self.addend() {
            Some(addend) => matmul::cpu::product_plus(size, [a, b], &addend, out, &mut scratch),
            None => matmul::cpu::product(size, a, b, out, &mut scratch),
        }
    }

    fn norm(&self, Norm { kind, epsilon }: Norm, y: &mut [f64], rest: &mut [Vec<f64>]) {
        let (x, weight) = (&self.floats(0), &self.floats(1));
        match (kind, rest) {
            (NormKind::Layer, [mean, deviation]) => {
                norm::cpu::layer(Layer { x, weight, bias: &self.floats(2), epsilon }, y, mean, deviation);
            }
            (NormKind::RootMeanSquare, [deviation]) => norm::cpu::rms(Rms { x, weight, epsilon }, y, deviation),
            (NormKind::Layer | NormKind::RootMeanSquare, _) => panic!("a normalisation has its statistics"),
        }
    }

    /// The mean, if there is one, and the inverse deviation of the rows of input 1.
    fn statistics(&self, Norm { kind, epsilon }: Norm) -> Vec<Vec<f64>> {
        let (x, weight) = (&self.floats(1), &self.floats(2));
        let rows = x.len() / weight.len();
        let (mut y, mut mean, mut deviation) = (vec![0.0; x.len()], vec![0.0; rows], vec![0.0; rows]);
        match kind {
            NormKind::Layer => {
                norm::cpu::layer(Layer { x, weight, bias: weight, epsilon }, &mut y, &mut mean, &mut deviation);
                vec![mean, deviation]
            }
            NormKind::RootMeanSquare => {
                norm::cpu::rms(Rms { x, weight, epsilon }, &mut y, &mut deviation);
                vec![deviation]
            }
        }
    }

    fn norm_gradient(&self, norm: Norm, dx: &mut [f64], rest: &mut [Vec<f64>]) {
        let (dy, x, weight, addend) = (&self.floats(0), &self.floats(1), &self.floats(2), self.addend());
        let incoming = Incoming { dy, addend: addend.as_deref() };
        match (norm.kind, rest) {
            (NormKind::Layer, [dweight, dbias]) => {
                let saved = LayerSaved { x, weight, mean: &self.floats(3), rstd: &self.floats(4) };
                norm::cpu::layer_gradient(
                    saved,
                    incoming,
                    dx,
                    LayerGradient { weight: dweight, bias: dbias },
                    self.write,
                );
            }
            (NormKind::RootMeanSquare, [dweight]) => {
                let saved = RmsSaved { x, weight, rstd: &self.floats(3) };
                norm::cpu::rms_gradient(saved, incoming, dx, dweight, self.write);
            }
            (NormKind::Layer | NormKind::RootMeanSquare, _) => panic!("a normalisation has gradients of parameters"),
        }
    }

    fn rotary(&self, Rotary { base, scaling, rotation }: Rotary, out: &mut [f64]) {
        let angles = Angles { theta: base, scaling, first_position: self.case.offsets[0] as usize };
        match rotation {
            Rotation::Forward => rotary::cpu::forward(self.packed(), angles, &self.floats(0), out),
            Rotation::Inverse => rotary::cpu::gradient(self.packed(), angles, &self.floats(0), out),
        }
    }

    /// Result and log-sum-exp of the packed rows of an input.
    fn attention(&self, pattern: Pattern, input: usize) -> [Vec<f64>; 2] {
        let (heads, qkv) = (Heads { packed: self.packed(), pattern }, self.floats(input));
        let outputs = qkv.len() / heads.packed.row() * heads.packed.query_row();
        let (mut y, mut lse) = (vec![f64::NAN; outputs], vec![f64::NAN; outputs / heads.packed.head]);
        let (mut scores, mut product) = scratch(heads.packed);
        let scratch = Scratch { scores: &mut scores, product: &mut product };
        attention::cpu::forward(heads, &qkv, &mut y, &mut lse, scratch);
        [y, lse]
    }

    fn attention_gradient(&self, pattern: Pattern, out: &mut [f64]) {
        let heads = Heads { packed: self.packed(), pattern };
        let [dy, qkv, y, lse] = [0, 1, 2, 3].map(|input| self.floats(input));
        let (mut scores, mut product) = scratch(heads.packed);
        let scratch = Scratch { scores: &mut scores, product: &mut product };
        attention::cpu::gradient(heads, attention::Saved { qkv: &qkv, y: &y, lse: &lse }, &dy, out, scratch);
    }

    fn maxima(&self) -> Vec<f64> {
        let (width, logits) = (self.case.size('v') as usize, self.floats(0));
        let mut maxima = vec![f64::NAN; logits.len() / width];
        loss::cpu::row_max(width, &logits, &mut maxima);
        maxima
    }

    fn sums(&self, targets: usize) -> Vec<f64> {
        let maxima = self.floats(1);
        let mut sums = vec![f64::NAN; 2 * maxima.len()];
        loss::cpu::sum_exp(self.shard(), &self.floats(0), &maxima, self.tokens(targets), &mut sums);
        sums
    }

    fn loss_gradient(&self, out: &mut [f64]) {
        let [logits, maxima, sums] = [0, 1, 2].map(|input| self.floats(input));
        let saved = loss::Saved { logits: &logits, maxima: &maxima, sums: &sums, targets: self.tokens(3) };
        loss::cpu::gradient(self.shard(), saved, 1.0 / self.case.tokens as f64, out);
    }

    fn update(&self, decayed: u64, length: u64, weight: &mut Vec<f64>, rest: &mut [Vec<f64>]) {
        let extent = Extent { first: self.first(), decayed: decayed as usize, length: length as usize };
        let [mean, square, copies @ ..] = rest else { panic!("an update has two moments") };
        (*weight, *mean, *square) = (self.floats(0), self.floats(2), self.floats(3));
        let gradient = Gradient { values: &self.floats(1), square_norm: self.floats(4)[0] };
        adamw::cpu::update(&Constants::new(&STEP), extent, State { weight, mean, square }, gradient);
        for copy in copies {
            copy.clone_from(weight);
        }
    }
}

fn scratch(packed: Packed) -> (Vec<f64>, Vec<f64>) {
    (vec![f64::NAN; attention::cpu::scores(packed)], vec![f64::NAN; matmul::cpu::SCRATCH])
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}
