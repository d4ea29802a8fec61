//! One case: an operation with random operands.

use ir::graph::Element;
use ir::op::{Activation, Addend, NormKind, Op, Write};
use ir::program::{Kernel, Offset, Operand, Output};

use super::expected;
use super::number::{bytes_of, round};
use crate::adamw::Step;
use crate::random::Random;

/// Tokens of the step that a case belongs to.
const TOKENS: u64 = 1000;
/// The step whose constants updates read; norms of gradients are above and below the largest.
pub(crate) const STEP: Step = Step {
    learning_rate: 3e-3,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.1,
    number: 7,
    gradient_norm_max: 1.0,
};

/// What an operand holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Numbers, rounded as they are stored.
    Floats(Vec<f32>),
    /// Tokens.
    Tokens(Vec<i32>),
}

/// An operation on random operands.
#[derive(Clone, Debug)]
pub struct Case {
    /// The operation and its operands; every binding is one operand.
    pub kernel: Kernel,
    /// Where the part begins.
    pub offsets: Vec<u64>,
    /// Tokens of the step.
    pub tokens: u64,
    /// What is read.
    pub inputs: Vec<Values>,
    /// What outputs hold before, where it counts.
    pub before: Vec<Option<Vec<f32>>>,
    /// The greatest error of each output that still is agreement.
    pub tolerances: Vec<f64>,
}

/// How an operand is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// As activations and parameters are.
    Main,
    /// In single precision.
    Single,
    /// As tokens.
    Tokens,
}

/// What is to be drawn: an operation, how it is stored, and its sizes.
#[derive(Clone, Debug)]
pub struct Form {
    pub(crate) op: Op,
    pub(crate) element: Element,
    pub(crate) write: Write,
    pub(crate) addend: Addend,
    pub(crate) sizes: Vec<(char, u64)>,
    /// Letters of a product's factors and result.
    pub(crate) product: [&'static str; 3],
    /// Elements by which every operand is off a whole 16 bytes.
    pub(crate) shift: u64,
    /// Decides all operands.
    pub(crate) seed: u64,
}

impl Form {
    /// Draws it; equal seeds draw equal cases.
    pub fn case(&self) -> Case {
        Case::new(self, &mut Random::new(self.seed))
    }

    /// The operation with its operands, undrawn.
    pub fn kernel(&self) -> Kernel {
        let (mut inputs, outputs) = operands(self);
        if self.addend == Addend::Present {
            inputs.push(outputs[0]);
        }
        let mut binding = 0;
        let mut place = |&(letters, stored): &Letters| {
            binding += 1;
            self.operand(binding - 1, letters, stored)
        };
        let inputs = inputs.iter().map(&mut place).collect();
        let outputs = outputs.iter().enumerate().map(|(index, letters)| {
            // The gradient of what was normalised is always new.
            let is_new = index == 0 && matches!(self.op, Op::NormGradient(_));
            let write = if is_new { Write::Replace } else { self.write };
            Output { operand: place(letters), write }
        });
        let outputs = outputs.collect();
        let letters = self.op.offsets().iter();
        let offsets = letters.map(|&letter| Offset { letter, axes: Vec::new(), step: 0 }).collect();
        Kernel { op: self.op, inputs, outputs, offsets, workspace: None }
    }

    fn operand(&self, binding: u16, letters: &str, stored: Stored) -> Operand {
        let element = match stored {
            Stored::Main => self.element,
            Stored::Single => Element::F32,
            Stored::Tokens => Element::I32,
        };
        let size = |letter| self.sizes.iter().find(|(other, _)| *other == letter).map_or(1, |&(_, size)| size);
        let dimensions = letters.chars().map(|letter| (letter, size(letter))).collect();
        Operand { binding, offset: self.shift * element.bytes(), element, dimensions }
    }
}

impl Case {
    fn new(form: &Form, random: &mut Random) -> Case {
        let kernel = form.kernel();
        let first = form.op.offsets().iter().map(|&letter| if letter == 's' { 3 } else { 5 }).collect();
        let mut case = Case {
            offsets: first,
            tokens: TOKENS,
            inputs: Vec::new(),
            before: Vec::new(),
            tolerances: kernel.results().map(|output| tolerance(form, output)).collect(),
            kernel,
        };
        case.draw(random);
        case
    }

    /// What each output should be.
    pub fn expected(&self) -> Vec<Vec<f64>> {
        expected::of(self)
    }

    /// An input as it lies in memory.
    pub fn input_bytes(&self, index: usize) -> Vec<u8> {
        match &self.inputs[index] {
            Values::Floats(values) => bytes_of(values, self.kernel.inputs[index].element),
            Values::Tokens(tokens) => tokens.iter().flat_map(|token| token.to_ne_bytes()).collect(),
        }
    }

    /// Sizes, for tables.
    pub fn shape(&self) -> String {
        let ir::profile::Work::Kernel { shape, .. } = self.kernel.work() else { return String::new() };
        let off = self.kernel.operands().any(|operand| operand.offset > 0);
        let plus = match self.kernel.addend_kind() {
            Addend::Absent => "",
            Addend::Present => " plus",
        };
        format!("{shape}{plus}{}", if off { " off" } else { "" })
    }

    /// Draws inputs, then derives those that follow from others.
    fn draw(&mut self, random: &mut Random) {
        let vocabulary = self.size('v') + 12;
        for operand in &self.kernel.inputs {
            let count = operand.elements() as usize;
            self.inputs.push(if operand.element == Element::I32 {
                Values::Tokens(random.tokens(count, vocabulary as usize))
            } else {
                let values = random.values::<f32>(count).into_iter();
                Values::Floats(values.map(|value| round(2.0 * value, operand.element)).collect())
            });
        }
        for (index, operand) in self.kernel.results().enumerate() {
            let counts = expected::reads_before(&self.kernel, index);
            self.before.push(counts.then(|| random.values(operand.elements() as usize)));
        }
        expected::derive(self);
    }

    pub(crate) fn size(&self, letter: char) -> u64 {
        self.kernel.sizes().get(&letter).copied().unwrap_or(1)
    }

    pub(crate) fn set(&mut self, input: usize, values: &[f64]) {
        let element = self.kernel.inputs[input].element;
        self.inputs[input] = Values::Floats(values.iter().map(|&value| round(value as f32, element)).collect());
    }
}

/// How far an output may be off: rounding of sums, of what is stored, and of probabilities between two products.
fn tolerance(form: &Form, output: &Operand) -> f64 {
    let is_attention = matches!(form.op, Op::Attention(_) | Op::AttentionGradient(_));
    match output.element {
        Element::Bf16 if is_attention => 0.03,
        Element::Bf16 => 0.005,
        Element::F32 | Element::I32 => 5e-5,
    }
}

type Letters = (&'static str, Stored);

/// Letters of an operation's inputs and outputs, as `ir::op::Op` names them.
fn operands(form: &Form) -> (Vec<Letters>, Vec<Letters>) {
    use Stored::{Main, Single, Tokens};
    let has_bias = |kind| kind == NormKind::Layer;
    match form.op {
        Op::Embed => (vec![("bs", Tokens), ("vh", Main)], vec![("bsh", Main)]),
        Op::EmbedGradient => (vec![("bs", Tokens), ("bsh", Main)], vec![("vh", Single)]),
        Op::Position => (vec![("bsh", Main), ("ph", Main)], vec![("bsh", Main)]),
        Op::PositionGradient => (vec![("bsh", Main)], vec![("ph", Single)]),
        Op::Norm(norm) if has_bias(norm.kind) => {
            (vec![("bsh", Main), ("h", Main), ("h", Main)], vec![("bsh", Main), ("bs", Single), ("bs", Single)])
        }
        Op::Norm(_) => (vec![("bsh", Main), ("h", Main)], vec![("bsh", Main), ("bs", Single)]),
        Op::NormGradient(norm) if has_bias(norm.kind) => (
            vec![("bsh", Main), ("bsh", Main), ("h", Main), ("bs", Single), ("bs", Single)],
            vec![("bsh", Main), ("h", Single), ("h", Single)],
        ),
        Op::NormGradient(_) => {
            (vec![("bsh", Main), ("bsh", Main), ("h", Main), ("bs", Single)], vec![("bsh", Main), ("h", Single)])
        }
        Op::MatMul => {
            let [a, b, result] = form.product;
            // Gradients of parameters, which lack the batch, are in single precision.
            let stored = if result.contains('b') { Main } else { Single };
            (vec![(a, Main), (b, Main)], vec![(result, stored)])
        }
        Op::Bias => (vec![("bsf", Main), ("f", Main)], vec![("bsf", Main)]),
        Op::BiasGradient => (vec![("bsf", Main)], vec![("f", Single)]),
        Op::Rotary(_) => (vec![("bsgcd", Main)], vec![("bsgcd", Main)]),
        Op::Attention(_) => (vec![("bsgcd", Main)], vec![("bsgrd", Main), ("bsgr", Single)]),
        Op::AttentionGradient(_) => {
            (vec![("bsgrd", Main), ("bsgcd", Main), ("bsgrd", Main), ("bsgr", Single)], vec![("bsgcd", Main)])
        }
        Op::CrossAttention => (vec![("bsgrd", Main), ("btged", Main)], vec![("bsgrd", Main), ("bsgr", Single)]),
        Op::CrossAttentionGradient => (
            vec![("bsgrd", Main), ("bsgrd", Main), ("btged", Main), ("bsgrd", Main), ("bsgr", Single)],
            vec![("bsgrd", Main), ("btged", Main)],
        ),
        Op::Activation(activation) => (vec![(wide(activation), Main)], vec![("bsf", Main)]),
        Op::ActivationGradient(activation) => {
            (vec![("bsf", Main), (wide(activation), Main)], vec![(wide(activation), Main)])
        }
        Op::Add => (vec![("bsh", Main), ("bsh", Main)], vec![("bsh", Main)]),
        Op::RowMax => (vec![("bsv", Main)], vec![("bs", Single)]),
        Op::SumExp => (vec![("bsv", Main), ("bs", Single), ("bs", Tokens)], vec![("bsk", Single)]),
        Op::CrossEntropy { .. } => (vec![("bs", Single), ("bsk", Single)], vec![("", Single)]),
        Op::CrossEntropyGradient => {
            (vec![("bsv", Main), ("bs", Single), ("bsk", Single), ("bs", Tokens)], vec![("bsv", Main)])
        }
        Op::SquareSum { .. } => (vec![("n", Main)], vec![("", Single)]),
        Op::AdamW { .. } => {
            let mut outputs = vec![("n", Single); 3];
            if form.element == Element::Bf16 {
                outputs.push(("n", Main));
            }
            (vec![("n", Single), ("n", Single), ("n", Single), ("n", Single), ("", Single), ("k", Single)], outputs)
        }
        Op::Zero => (vec![], vec![("n", Main)]),
    }
}

fn wide(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu | Activation::Relu => "bsf",
        Activation::SwiGlu => "bsef",
    }
}
