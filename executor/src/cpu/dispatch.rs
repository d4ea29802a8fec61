//! From an operation of a program to the function that computes it.

use ir::op::Storage;
use ir::op::{Activation, Norm, NormKind, Op, Pattern, Rotary, Rotation};
use ir::program::Kernel;
use kernels::adamw::{Constants, Extent, Gradient, State};
use kernels::attention::cross::{self, Cross, CrossSaved};
use kernels::attention::{self, Heads, Scratch};
use kernels::embed::Rows;
use kernels::loss::{self, Shard};
use kernels::matmul::{self, Matrix, MatrixMut, Size};
use kernels::norm::{self, Incoming, Layer, LayerGradient, LayerSaved, Rms, RmsSaved};
use kernels::position::Window;
use kernels::rotary::Angles;
use kernels::{Packed, Write, activation, adamw, add, bias, embed, fill, position, rotary, square_sum};

/// Numbers that products of matrices need beside their operands, on each rank.
pub(crate) const PANELS: usize = matmul::cpu::SCRATCH;

/// What a kernel reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    F32(&'a [f32]),
    I32(&'a [i32]),
}

/// A kernel with its operands; inputs that are overwritten in place are empty.
#[derive(Debug)]
pub(crate) struct Call<'a, 'b> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) inputs: &'a [Input<'b>],
    pub(crate) outputs: &'a mut [&'b mut [f32]],
    /// Where this rank's part begins, for each of the kernel's offsets.
    pub(crate) offsets: &'a [u64],
    pub(crate) workspace: &'a mut [f32],
    pub(crate) panels: &'a mut [f32],
    /// Tokens of the step, over all ranks.
    pub(crate) step_tokens: u64,
}

/// Computes a kernel. Allocates nothing.
///
/// # Panics
/// If operands are not those that the operation defines: programs are compiled from operations.
pub(crate) fn run(mut call: Call<'_, '_>) {
    match call.kernel.op {
        Op::MatMul => product(call),
        Op::Embed => {
            let rows = call.rows();
            embed::cpu::forward(rows, call.tokens(0), call.floats(1), call.outputs[0]);
        }
        Op::EmbedGradient => {
            let rows = call.rows();
            embed::cpu::gradient(rows, call.tokens(0), call.floats(1), call.outputs[0], call.write(0));
        }
        Op::Position => {
            let window = call.window();
            position::cpu::forward(window, call.floats(0), call.floats(1), call.outputs[0]);
        }
        Op::PositionGradient => {
            let window = call.window();
            position::cpu::gradient(window, call.floats(0), call.outputs[0], call.write(0));
        }
        Op::Norm(norm) => normalise(&mut call, norm),
        Op::NormGradient(norm) => normalise_gradient(&mut call, norm),
        Op::Bias => bias::cpu::forward(call.floats(0), call.floats(1), call.outputs[0]),
        Op::BiasGradient => bias::cpu::gradient(call.floats(0), call.outputs[0], call.write(0)),
        Op::Rotary(Rotary { base, scaling, rotation }) => {
            let angles = Angles { theta: base, scaling, first_position: call.offset('s') };
            let packed = call.packed();
            match rotation {
                Rotation::Forward => rotary::cpu::forward(packed, angles, call.floats(0), call.outputs[0]),
                Rotation::Inverse => rotary::cpu::gradient(packed, angles, call.floats(0), call.outputs[0]),
            }
        }
        Op::Attention(pattern) => attend(call, pattern),
        Op::AttentionGradient(pattern) => attend_gradient(call, pattern),
        Op::CrossAttention => cross_attend(call),
        Op::CrossAttentionGradient => cross_attend_gradient(call),
        Op::Activation(activation) => activate(&mut call, activation),
        Op::ActivationGradient(activation) => activate_gradient(&mut call, activation),
        Op::Add => sum(&mut call),
        Op::RowMax => loss::cpu::row_max(call.size('v'), call.floats(0), call.outputs[0]),
        Op::SumExp => {
            let shard = call.shard();
            loss::cpu::sum_exp(shard, call.floats(0), call.floats(1), call.tokens(2), call.outputs[0]);
        }
        Op::CrossEntropy { replicas } => {
            let mut losses = 0.0;
            loss::cpu::cross_entropy(call.floats(0), call.floats(1), &mut losses);
            call.outputs[0][0] += losses / replicas as f32;
        }
        Op::CrossEntropyGradient => {
            let (shard, scale) = (call.shard(), 1.0 / call.step_tokens as f64);
            let [logits, maxima, sums] = [0, 1, 2].map(|input| call.floats(input));
            let saved = loss::Saved { logits, maxima, sums, targets: call.tokens(3) };
            loss::cpu::gradient(shard, saved, scale, call.outputs[0]);
        }
        Op::SquareSum { replicas } => {
            square_sum::cpu::accumulate(call.floats(0), 1.0 / f64::from(replicas), &mut call.outputs[0][0]);
        }
        Op::AdamW { decayed, length } => update(&mut call, decayed, length),
        Op::Zero => call.outputs.iter_mut().for_each(|output| fill::cpu::zero(output)),
    }
}

impl<'b> Call<'_, 'b> {
    fn floats(&self, input: usize) -> &'b [f32] {
        match self.inputs[input] {
            Input::F32(values) => values,
            Input::I32(_) => panic!("input {input} of {} is not of tokens", self.kernel.op.name()),
        }
    }

    fn tokens(&self, input: usize) -> &'b [i32] {
        match self.inputs[input] {
            Input::I32(values) => values,
            Input::F32(_) => panic!("input {input} of {} is of tokens", self.kernel.op.name()),
        }
    }

    /// How an output is written.
    fn write(&self, output: usize) -> Write {
        self.kernel.outputs[output].write
    }

    /// The local size of a letter.
    fn size(&self, letter: char) -> usize {
        let found = self.kernel.operands().flat_map(|operand| &operand.dimensions).find(|(other, _)| *other == letter);
        found.map(|&(_, size)| size as usize).expect("an operation finds its letters in its operands")
    }

    /// Where this rank's part of a letter begins.
    fn offset(&self, letter: char) -> usize {
        let mut offsets = self.kernel.offsets.iter().zip(self.offsets);
        let found = offsets.find(|(offset, _)| offset.letter == letter);
        found.map(|(_, &first)| first as usize).expect("an operation knows where its part begins")
    }

    fn rows(&self) -> Rows {
        Rows { first: self.offset('v'), width: self.size('h') }
    }

    fn window(&self) -> Window {
        Window { first: self.offset('s'), sequence: self.size('s'), width: self.size('h') }
    }

    fn shard(&self) -> Shard {
        Shard { first: self.offset('v'), width: self.size('v') }
    }

    fn cross(&self) -> Cross {
        let [sequence, keys, groups, queries, head] = ['s', 't', 'g', 'r', 'd'].map(|letter| self.size(letter));
        Cross { sequence, keys, groups, queries, head }
    }

    fn packed(&self) -> Packed {
        let [sequence, groups, rows, head] = ['s', 'g', 'c', 'd'].map(|letter| self.size(letter));
        Packed { sequence, groups, queries: rows - 2, head }
    }
}

fn product(call: Call<'_, '_>) {
    let [a, b] = [call.floats(0), call.floats(1)];
    let shape = call.kernel.product();
    let size = Size { rows: shape.rows as usize, inner: shape.inner as usize, columns: shape.columns as usize };
    let a = match shape.a {
        Storage::InnerLast => Matrix::rows(a, size.inner),
        Storage::InnerFirst => Matrix::rows(a, size.rows).transposed(),
    };
    let b = match shape.b {
        Storage::InnerLast => Matrix::rows(b, size.inner).transposed(),
        Storage::InnerFirst => Matrix::rows(b, size.columns),
    };
    let addend = call.kernel.addend_place().map(|place| call.floats(place));
    let c = MatrixMut { values: call.outputs[0], row_stride: size.columns, write: call.kernel.outputs[0].write };
    match addend {
        Some(addend) => matmul::cpu::product_plus(size, [a, b], addend, c, call.panels),
        None => matmul::cpu::product(size, a, b, c, call.panels),
    }
}

fn normalise(call: &mut Call<'_, '_>, Norm { kind, epsilon }: Norm) {
    let [x, weight] = [0, 1].map(|input| call.floats(input));
    match kind {
        NormKind::Layer => {
            let input = Layer { x, weight, bias: call.floats(2), epsilon };
            let [y, mean, deviation] = call.outputs else { panic!("layer-norm has a result and two statistics") };
            norm::cpu::layer(input, y, mean, deviation);
        }
        NormKind::RootMeanSquare => {
            let [y, deviation] = call.outputs else { panic!("rms-norm has a result and a statistic") };
            norm::cpu::rms(Rms { x, weight, epsilon }, y, deviation);
        }
    }
}

fn normalise_gradient(call: &mut Call<'_, '_>, Norm { kind, .. }: Norm) {
    let [dy, x, weight] = [0, 1, 2].map(|input| call.floats(input));
    // That of x is always replaced; those of parameters are written alike.
    let write = call.write(1);
    let incoming = Incoming { dy, addend: call.kernel.addend_place().map(|addend| call.floats(addend)) };
    match kind {
        NormKind::Layer => {
            let saved = LayerSaved { x, weight, mean: call.floats(3), rstd: call.floats(4) };
            let [dx, weight, bias] = call.outputs else { panic!("layer-norm has three gradients") };
            norm::cpu::layer_gradient(saved, incoming, dx, LayerGradient { weight, bias }, write);
        }
        NormKind::RootMeanSquare => {
            let saved = RmsSaved { x, weight, rstd: call.floats(3) };
            let [dx, dweight] = call.outputs else { panic!("rms-norm has two gradients") };
            norm::cpu::rms_gradient(saved, incoming, dx, dweight, write);
        }
    }
}

fn attend(call: Call<'_, '_>, pattern: Pattern) {
    let (heads, qkv) = (Heads { packed: call.packed(), pattern }, call.floats(0));
    let [y, lse] = call.outputs else { panic!("attention has a result and a statistic") };
    attention::cpu::forward(heads, qkv, y, lse, Scratch { scores: call.workspace, product: call.panels });
}

fn attend_gradient(call: Call<'_, '_>, pattern: Pattern) {
    let heads = Heads { packed: call.packed(), pattern };
    let [dy, qkv, y, lse] = [0, 1, 2, 3].map(|input| call.floats(input));
    let scratch = Scratch { scores: call.workspace, product: call.panels };
    attention::cpu::gradient(heads, attention::Saved { qkv, y, lse }, dy, call.outputs[0], scratch);
}

fn cross_attend(call: Call<'_, '_>) {
    let (shape, operands) = (call.cross(), [0, 1].map(|input| call.floats(input)));
    let [y, lse] = call.outputs else { panic!("attention has a result and a statistic") };
    cross::forward(shape, operands, y, lse, call.workspace);
}

fn cross_attend_gradient(call: Call<'_, '_>) {
    let shape = call.cross();
    let [dy, q, kv, y, lse] = [0, 1, 2, 3, 4].map(|input| call.floats(input));
    let [dq, dkv] = call.outputs else { panic!("queries have a gradient, and keys and values") };
    cross::gradient(shape, CrossSaved { q, kv, y, lse }, dy, dq, dkv);
}

fn activate(call: &mut Call<'_, '_>, activation: Activation) {
    let x = call.floats(0);
    match activation {
        Activation::Gelu => activation::cpu::gelu(x, call.outputs[0]),
        Activation::Relu => activation::cpu::relu(x, call.outputs[0]),
        Activation::SwiGlu => activation::cpu::swiglu(call.size('f'), x, call.outputs[0]),
    }
}

fn activate_gradient(call: &mut Call<'_, '_>, activation: Activation) {
    let (x, dy) = (call.floats(1), call.floats(0));
    match activation {
        Activation::Gelu => activation::cpu::gelu_gradient(x, dy, call.outputs[0]),
        Activation::Relu => activation::cpu::relu_gradient(x, dy, call.outputs[0]),
        Activation::SwiGlu => activation::cpu::swiglu_gradient(call.size('f'), x, dy, call.outputs[0]),
    }
}

/// A sum; one of the summands may be the result's own memory.
fn sum(call: &mut Call<'_, '_>) {
    let [a, b] = [call.floats(0), call.floats(1)];
    let y = &mut *call.outputs[0];
    match (a.is_empty(), b.is_empty()) {
        (false, false) => add::cpu::forward(a, b, y),
        (true, _) => add::cpu::accumulate(b, y),
        (false, true) => add::cpu::accumulate(a, y),
    }
}

/// An update; what it updates is mostly in place, else it is copied first. In mixed precision a last output takes the
/// parameters as they are computed with.
fn update(call: &mut Call<'_, '_>, decayed: u64, length: u64) {
    let extent = Extent { first: call.offset('n'), decayed: decayed as usize, length: length as usize };
    let before = [0, 2, 3].map(|input| call.floats(input));
    let [values, square_norm, constants] = [1, 4, 5].map(|input| call.floats(input));
    let gradient = Gradient { values, square_norm: f64::from(square_norm[0]) };
    let constants = constants.try_into().expect("an update reads all constants of a step");
    let constants = Constants::from_numbers(constants);
    let [weight, mean, square, shorter @ ..] = &mut *call.outputs else {
        panic!("adamw updates parameters and two moments")
    };
    for (after, before) in [&mut *weight, &mut *mean, &mut *square].into_iter().zip(before) {
        if !before.is_empty() {
            fill::cpu::copy(before, after);
        }
    }
    adamw::cpu::update(&constants, extent, State { weight, mean, square }, gradient);
    shorter.iter_mut().for_each(|parameters| fill::cpu::copy(weight, parameters));
}
