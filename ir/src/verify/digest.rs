//! A number that is equal for equal drafts, on all machines.
//!
//! FNV-1a over 64-bit words in place of bytes, with a fold of the upper half into the lower after each word, because
//! multiplication alone carries bits only upwards. Every list is preceded by its length and every variant by a
//! number of its own, so that different drafts give different words.

use crate::graph::{Element, Init};
use crate::layout::{Exchange, Reduce};
use crate::op::{Activation, NormKind, Op, Pattern, Rotation, Scaling, Write};
use crate::program::{
    Access, Action, Block, Buffer, Collective, Content, Direction, Draft, Fragment, Instr, Kernel, Operand, Part,
    Phase, Role, Rows, Transfer,
};

/// The digest of a draft, from those of its roles.
pub(super) fn of(draft: &Draft, roles: &[u64]) -> u64 {
    let mut digest = Digest::new();
    digest.list(draft.mesh.sizes(), |digest, &size| digest.word(u64::from(size)));
    digest.word(u64::from(draft.step.microbatches));
    digest.word(draft.step.sequences);
    digest.word(draft.step.sequence);
    digest.list(&draft.fragments, fragment);
    digest.list(&draft.collectives, collective);
    digest.list(&draft.blocks, block);
    digest.list(&draft.transfers, transfer);
    digest.list(&draft.role_of, |digest, role| digest.word(u64::from(role.0)));
    digest.list(roles, |digest, &role| digest.word(role));
    digest.0
}

/// The digest of one role.
pub(super) fn of_role(role: &Role) -> u64 {
    let mut digest = Digest::new();
    digest.word(u64::from(role.id.0));
    digest.list(&role.stages, |digest, stage| digest.word(u64::from(stage.0)));
    digest.word(role.arena.0);
    digest.word(role.live_bound.0);
    digest.list(&role.buffers, buffer);
    digest.list(&role.code, |digest, instr| instruction(digest, role, instr));
    digest.0
}

struct Digest(u64);

impl Digest {
    fn new() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }

    fn word(&mut self, word: u64) {
        let product = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 = product ^ product >> 32;
    }

    fn text(&mut self, text: &str) {
        self.list(text.as_bytes(), |digest, &byte| digest.word(u64::from(byte)));
    }

    fn list<T>(&mut self, items: &[T], item: impl Fn(&mut Digest, &T)) {
        self.word(items.len() as u64);
        items.iter().for_each(|value| item(self, value));
    }

    fn axes(&mut self, axes: &[usize]) {
        self.list(axes, |digest, &axis| digest.word(axis as u64));
    }

    fn optional(&mut self, value: Option<u64>) {
        self.word(u64::from(value.is_some()));
        self.word(value.unwrap_or(0));
    }
}

fn element(element: Element) -> u64 {
    match element {
        Element::F32 => 0,
        Element::Bf16 => 1,
        Element::I32 => 2,
    }
}

fn block(digest: &mut Digest, block: &Block) {
    digest.word(u64::from(block.layer));
    digest.word(block.decayed);
    digest.word(block.length);
    digest.word(block.padded);
    digest.axes(&block.shard);
    digest.list(&block.parameters, |digest, parameter| {
        digest.text(&parameter.name);
        digest.word(parameter.first);
        let (kind, number) = match parameter.init {
            Init::Normal { deviation } => (0, deviation),
            Init::Constant { value } => (1, value),
        };
        digest.word(kind);
        digest.word(number.to_bits());
        digest.list(&parameter.dimensions, |digest, (size, axes)| {
            digest.word(*size);
            digest.axes(axes);
        });
    });
}

fn collective(digest: &mut Digest, collective: &Collective) {
    let words = match collective.exchange {
        Exchange::AllReduce { reduce: Reduce::Sum, .. } => [0, 0, 0],
        Exchange::AllReduce { reduce: Reduce::Max, .. } => [0, 1, 0],
        Exchange::ReduceScatter { dimension, .. } => [1, dimension, 0],
        Exchange::AllGather { dimension, .. } => [2, dimension, 0],
        Exchange::AllToAll { gathered, split, .. } => [3, gathered, split],
        Exchange::Slice { dimension, .. } => [4, dimension, 0],
    };
    words.into_iter().for_each(|word| digest.word(word as u64));
    digest.axes(collective.exchange.axes());
    digest.word(collective.axis as u64);
    digest.list(&collective.shape, |digest, &size| digest.word(size));
    digest.word(element(collective.element));
}

fn transfer(digest: &mut Digest, transfer: &Transfer) {
    let Transfer { from, to, direction, microbatch, layer } = *transfer;
    digest.word(u64::from(from.0) | u64::from(to.0) << 32);
    let backward = match direction {
        Direction::Forward => 0,
        Direction::Backward => 1,
    };
    digest.word(backward | u64::from(layer) << 1 | microbatch.map_or(0, |one| u64::from(one) + 1) << 17);
}

fn fragment(digest: &mut Digest, fragment: &Fragment) {
    digest.text(&fragment.name);
    digest.list(&fragment.bindings, |digest, binding| {
        digest.word(binding.bytes.0);
        digest.word(match binding.access {
            Access::Read => 0,
            Access::Write => 1,
            Access::Update => 2,
        });
    });
    digest.list(&fragment.kernels, kernel);
    digest.optional(fragment.scratch.map(u64::from));
    digest.word(fragment.scratch_bound.0);
}

fn kernel(digest: &mut Digest, kernel: &Kernel) {
    digest.text(kernel.op.name());
    attributes(digest, &kernel.op);
    digest.list(&kernel.inputs, operand);
    digest.list(&kernel.outputs, |digest, output| {
        operand(digest, &output.operand);
        digest.word(match output.write {
            Write::Replace => 0,
            Write::Accumulate => 1,
        });
    });
    digest.list(&kernel.offsets, |digest, offset| {
        digest.word(u64::from(offset.letter));
        digest.axes(&offset.axes);
        digest.word(offset.step);
    });
    digest.list(kernel.workspace.as_slice(), operand);
}

/// What the name of an operation does not say.
fn attributes(digest: &mut Digest, op: &Op) {
    match *op {
        Op::Norm(norm) | Op::NormGradient(norm) => {
            digest.word(match norm.kind {
                NormKind::Layer => 0,
                NormKind::RootMeanSquare => 1,
            });
            digest.word(norm.epsilon.to_bits());
        }
        Op::Rotary(rotary) => {
            digest.word(rotary.base.to_bits());
            digest.word(match rotary.rotation {
                Rotation::Forward => 0,
                Rotation::Inverse => 1,
            });
            // Nothing where nothing is scaled, so that digests of such programs stay what they were.
            if let Some(scaling) = rotary.scaling {
                let Scaling { factor, low_frequency_factor, high_frequency_factor, original_sequence } = scaling;
                for number in [factor, low_frequency_factor, high_frequency_factor] {
                    digest.word(number.to_bits());
                }
                digest.word(original_sequence);
            }
        }
        Op::Attention(pattern) | Op::AttentionGradient(pattern) => digest.word(match pattern {
            Pattern::Causal => 0,
            Pattern::Full => 1,
        }),
        Op::Activation(activation) | Op::ActivationGradient(activation) => digest.word(match activation {
            Activation::Gelu => 0,
            Activation::SwiGlu => 1,
            Activation::Relu => 2,
        }),
        Op::CrossEntropy { replicas } | Op::SquareSum { replicas } => digest.word(u64::from(replicas)),
        Op::AdamW { decayed, length } => {
            digest.word(decayed);
            digest.word(length);
        }
        Op::Embed
        | Op::EmbedGradient
        | Op::Position
        | Op::PositionGradient
        | Op::MatMul
        | Op::CrossAttention
        | Op::CrossAttentionGradient
        | Op::Bias
        | Op::BiasGradient
        | Op::Add
        | Op::RowMax
        | Op::SumExp
        | Op::CrossEntropyGradient
        | Op::Zero => {}
    }
}

fn operand(digest: &mut Digest, operand: &Operand) {
    digest.word(u64::from(operand.binding));
    digest.word(operand.offset);
    digest.word(element(operand.element));
    digest.list(&operand.dimensions, |digest, &(letter, size)| {
        digest.word(u64::from(letter));
        digest.word(size);
    });
}

fn buffer(digest: &mut Digest, buffer: &Buffer) {
    digest.word(buffer.bytes.0);
    digest.word(buffer.address);
    let rows = |digest: &mut Digest, rows: &Rows| {
        digest.word(u64::from(rows.microbatch));
        digest.axes(&rows.axes);
        digest.word(rows.sequences);
    };
    let (kind, block, part) = match &buffer.content {
        Content::Value => return digest.word(0),
        Content::Scalars => return digest.word(1),
        Content::Boundary => return digest.word(8),
        Content::Constants => return digest.word(9),
        Content::Tokens(tokens) => {
            digest.word(2);
            return rows(digest, tokens);
        }
        Content::Patches { rows: of, numbers } => {
            digest.word(10);
            digest.word(*numbers);
            return rows(digest, of);
        }
        Content::Source { rows: of, numbers } => {
            digest.word(11);
            digest.word(*numbers);
            return rows(digest, of);
        }
        Content::Targets(targets) => {
            digest.word(3);
            return rows(digest, targets);
        }
        Content::Parameters { block, part } => (4, block, part),
        Content::Master { block, part } => (5, block, part),
        Content::FirstMoment { block, part } => (6, block, part),
        Content::SecondMoment { block, part } => (7, block, part),
    };
    digest.word(kind);
    digest.word(u64::from(block.0));
    digest.word(match part {
        Part::Whole => 0,
        Part::Share => 1,
    });
}

/// Two words and one for each two operands.
fn instruction(digest: &mut Digest, role: &Role, instr: &Instr) {
    let (kind, number) = match instr.action {
        Action::Compute(id) => (0, id.0),
        Action::Exchange(id) => (1, id.0),
        Action::Send(id) => (2, id.0),
        Action::Receive(id) => (3, id.0),
        Action::Free => (4, 0),
        Action::Signal(id) => (5, id.0),
        Action::Wait(id) => (6, id.0),
    };
    let phase = match instr.span.phase {
        Phase::Forward => 0,
        Phase::Backward => 1,
        Phase::Update => 2,
    };
    let place = |part: Option<u16>| part.map_or(0, |part| u64::from(part) + 1);
    let span = place(instr.span.microbatch) | place(instr.span.layer) << 17 | phase << 34;
    digest.word(span | (instr.stream.index() as u64) << 36 | kind << 39);
    digest.word(u64::from(number) | u64::from(instr.operands.1) << 32);
    for pair in role.operands(instr).chunks(2) {
        digest.word(u64::from(pair[0].0) | pair.get(1).map_or(0, |id| u64::from(id.0)) << 32);
    }
}
