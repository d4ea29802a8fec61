//! Parameters in the memory of ranks: which parts of them lie where, and what they are at the start.
//!
//! Everything that must not depend on the plan goes through here, in 32 bits. Where parameters are also kept in 16
//! bits to compute with, these are the rounding of the master; reading asks the master, writing gives both.

use std::num::NonZero;
use std::ops::Range;
use std::thread;

use ir::graph::{Element, Init};
use ir::program::{Action, BlockId, BlockParameter, Content, Draft, Role};
use ir::region::Stretch;
use ir::seed::Seed;
use ir::shares::{Holding, Piece};
use kernels::bf16::Bf16;
use serde::{Deserialize, Serialize};

use crate::host::{Host, Place};
use crate::moves::Key;

/// Elements from which it pays to ask other processors for help.
const MANY: usize = 1 << 18;

/// Elements that go through the memory of the process at once: 4 MiB.
pub(crate) const CHUNK: usize = 1 << 20;

/// What there is one of for each element of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quantity {
    /// Its value.
    Value,
    /// The running mean of its gradient.
    FirstMoment,
    /// The running mean of its squared gradient.
    SecondMoment,
}

impl Quantity {
    /// All of them.
    pub(crate) const ALL: [Quantity; 3] = [Quantity::Value, Quantity::FirstMoment, Quantity::SecondMoment];
}

/// Where an element is kept more than once on a rank, which of these are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// The most exact one.
    Exact,
    /// All of them.
    All,
}

/// Elements of a quantity that lie together on a rank.
#[derive(Clone, Debug)]
pub(crate) struct Part<'a> {
    /// The layer of the parameter.
    pub(crate) layer: u32,
    /// The parameter.
    pub(crate) parameter: &'a BlockParameter,
    /// Which elements of it.
    pub(crate) stretch: Stretch,
    /// The rank that holds them.
    pub(crate) rank: u32,
    /// Where the first is.
    address: u64,
    /// How they are stored there.
    element: Element,
}

/// Shows all parts of a quantity on some ranks, rank by rank; elements that several ranks hold are shown for each.
pub(crate) fn visit<'a>(
    draft: &'a Draft,
    ranks: Range<u32>,
    (quantity, copies): (Quantity, Copies),
    visitor: &mut dyn FnMut(Part<'a>),
) {
    let mut of_role: Option<(&Role, Vec<Element>)> = None;
    for rank in ranks {
        let role = draft.role(rank);
        let (_, elements) = match of_role.take_if(|(other, _)| std::ptr::eq(*other, role)) {
            Some(known) => of_role.insert(known),
            None => of_role.insert((role, elements(draft, role))),
        };
        for (buffer, &element) in role.buffers.iter().zip(elements.iter()) {
            let (found, id, part) = match buffer.content {
                Content::Parameters { block, .. } if copies == Copies::Exact && has_master(role, block) => continue,
                Content::Parameters { block, part } | Content::Master { block, part } => (Quantity::Value, block, part),
                Content::FirstMoment { block, part } => (Quantity::FirstMoment, block, part),
                Content::SecondMoment { block, part } => (Quantity::SecondMoment, block, part),
                Content::Value
                | Content::Tokens(_)
                | Content::Targets(_)
                | Content::Boundary
                | Content::Scalars
                | Content::Constants => continue,
            };
            if found != quantity {
                continue;
            }
            let block = &draft.blocks[id.index()];
            Holding { mesh: &draft.mesh, rank, part }.visit(block, &mut |Piece { parameter, stretch, held }| {
                let address = buffer.address + held * element.bytes();
                visitor(Part { layer: block.layer, parameter, stretch, rank, address, element });
            });
        }
    }
}

/// Numbers of a pattern of noise.
const NOISE: u64 = 1 << 19;
/// Their deviation: that of usual initial parameters.
const NOISE_DEVIATION: f64 = 0.02;

/// Fills what is resident with small random numbers. In 16 bits each; two of them together are such a number in 32
/// bits, whose first half counts. Second moments stay zero, as they are never negative.
pub(crate) fn make_noise(draft: &Draft, host: &mut dyn Host, seed: Seed) {
    let number = |index| Bf16::rounded((seed.normal(index) * NOISE_DEVIATION) as f32).0.to_ne_bytes();
    let pattern: Vec<u8> = (0..NOISE).flat_map(number).collect();
    for rank in host.ranks() {
        for buffer in &draft.role(rank).buffers {
            match buffer.content {
                Content::Parameters { .. }
                | Content::Master { .. }
                | Content::FirstMoment { .. }
                | Content::Boundary => host.fill(rank, Place::of(buffer), &pattern),
                Content::Value
                | Content::SecondMoment { .. }
                | Content::Tokens(_)
                | Content::Targets(_)
                | Content::Scalars
                | Content::Constants => {}
            }
        }
    }
}

fn has_master(role: &Role, of: BlockId) -> bool {
    role.buffers.iter().any(|buffer| matches!(buffer.content, Content::Master { block, .. } if block == of))
}

/// How each buffer's numbers are stored, as its first use says; in 32 bits what is not used.
fn elements(draft: &Draft, role: &Role) -> Vec<Element> {
    let mut elements = vec![None; role.buffers.len()];
    for instr in &role.code {
        for (binding, id) in role.operands(instr).iter().enumerate() {
            let found = match instr.action {
                Action::Compute(id) => {
                    let kernels = draft.fragments[id.index()].kernels.iter();
                    let mut operands = kernels.flat_map(|kernel| kernel.operands());
                    operands.find(|operand| usize::from(operand.binding) == binding).map(|operand| operand.element)
                }
                Action::Exchange(id) => Some(draft.collectives[id.index()].element),
                Action::Send(_) | Action::Receive(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => None,
            };
            let element = &mut elements[id.index()];
            *element = element.or(found);
        }
    }
    elements.into_iter().map(|element| element.unwrap_or(Element::F32)).collect()
}

/// Gives every rank its parts of the initial values; they depend on the seed, the layer and the name alone.
pub(crate) fn initialise(draft: &Draft, host: &mut dyn Host, seed: Seed) {
    visit(draft, host.ranks(), (Quantity::Value, Copies::All), &mut |part| {
        let seed = seed.derive(u64::from(part.layer)).derive_name(&part.parameter.name);
        let stretch = &part.stretch;
        for range in chunks(stretch.range()) {
            for run in stretch.runs_of(range) {
                let found = values(part.parameter.init, seed, run.whole..run.whole + run.length);
                part.write(host, run.local, &found);
            }
        }
    });
}

/// Cuts a range of elements into pieces of at most [`CHUNK`].
pub(crate) fn chunks(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(CHUNK).map(move |first| first..(first + CHUNK as u64).min(end))
}

/// Initial values of elements; many of them by all processors, as each depends on its index alone.
fn values(init: Init, seed: Seed, indices: Range<u64>) -> Vec<f32> {
    let mut values = vec![0.0; (indices.end - indices.start) as usize];
    let fill = |first: u64, values: &mut [f32]| {
        values.iter_mut().zip(first..).for_each(|(value, index)| *value = init.value(seed, index));
    };
    if values.len() < MANY {
        fill(indices.start, &mut values);
        return values;
    }
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let part = values.len().div_ceil(workers);
    thread::scope(|scope| {
        for (values, first) in values.chunks_mut(part).zip((indices.start..).step_by(part)) {
            scope.spawn(move || fill(first, values));
        }
    });
    values
}

impl Part<'_> {
    /// What it is a part of.
    pub(crate) fn key(&self) -> (u32, &str) {
        (self.layer, &self.parameter.name)
    }

    /// The same, to keep.
    pub(crate) fn named(&self) -> Key {
        (self.layer, self.parameter.name.clone())
    }

    /// Copies elements from the one with the number `first` in the region, as the rank has them.
    pub(crate) fn read(&self, host: &dyn Host, first: u64, into: &mut [f32]) {
        let mut bytes = vec![0; into.len() * self.element.bytes() as usize];
        host.read(self.rank, self.place(first, into.len()), &mut bytes);
        match self.element {
            Element::F32 => {
                let (words, _) = bytes.as_chunks();
                into.iter_mut().zip(words).for_each(|(value, &word)| *value = f32::from_ne_bytes(word));
            }
            Element::Bf16 => {
                let (words, _) = bytes.as_chunks();
                let widened = |&word| Bf16(u16::from_ne_bytes(word)).widened();
                into.iter_mut().zip(words).for_each(|(value, word)| *value = widened(word));
            }
            Element::I32 => unreachable!("parameters are no tokens"),
        }
    }

    /// Replaces elements from the one with the number `first` in the region.
    pub(crate) fn write(&self, host: &mut dyn Host, first: u64, from: &[f32]) {
        let bytes: Vec<u8> = match self.element {
            Element::F32 => from.iter().flat_map(|value| value.to_ne_bytes()).collect(),
            Element::Bf16 => from.iter().flat_map(|&value| Bf16::rounded(value).0.to_ne_bytes()).collect(),
            Element::I32 => unreachable!("parameters are no tokens"),
        };
        host.write(self.rank, self.place(first, from.len()), &bytes);
    }

    fn place(&self, first: u64, count: usize) -> Place {
        let word = self.element.bytes();
        Place { address: self.address + (first - self.stretch.first) * word, bytes: count as u64 * word }
    }
}
