//! Parameters in the memory of ranks: initial values, and whole parameters put together and taken apart.
//!
//! Everything that must not depend on the plan goes through here, in 32 bits. Where parameters are also kept in 16
//! bits to compute with, these are the rounding of the master; reading asks the master, writing gives both.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::thread;

use ir::graph::{Element, Init};
use ir::program::{Action, BlockId, BlockParameter, Content, Draft, Role};
use ir::seed::Seed;
use ir::shares::Holding;
use kernels::bf16::Bf16;

use crate::host::{Host, Place};

/// Elements from which it pays to ask other processors for help.
const MANY: usize = 1 << 18;

/// What there is one of for each element of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// Elements of a parameter that lie together, in the whole parameter and on a rank.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    /// The layer of the parameter.
    pub(crate) layer: u32,
    /// The parameter.
    pub(crate) parameter: &'a BlockParameter,
    /// The first element, in the whole parameter.
    pub(crate) first: u64,
    /// How many there are.
    pub(crate) length: u64,
    /// The rank that holds it.
    pub(crate) rank: u32,
    /// Where.
    place: Place,
    /// How it is stored there.
    element: Element,
}

/// Shows all pieces of a quantity on some ranks, rank by rank; elements that several ranks hold are shown for each.
pub(crate) fn visit<'a>(
    draft: &'a Draft,
    ranks: Range<u32>,
    (quantity, copies): (Quantity, Copies),
    visitor: &mut dyn FnMut(Piece<'a>),
) {
    for rank in ranks {
        let role = draft.role(rank);
        let elements = elements(draft, role);
        for (buffer, element) in role.buffers.iter().zip(elements) {
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
            Holding { mesh: &draft.mesh, rank, part }.visit(block, &mut |piece| {
                let word = element.bytes();
                let place = Place { address: buffer.address + piece.held * word, bytes: piece.length * word };
                let (layer, parameter, first, length) = (block.layer, piece.parameter, piece.whole, piece.length);
                visitor(Piece { layer, parameter, first, length, rank, place, element });
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

/// A whole, unsplit parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Whole {
    /// The size of each dimension.
    pub(crate) shape: Vec<u64>,
    /// Its elements.
    pub(crate) values: Vec<f32>,
}

/// Whole parameters by layer and name.
pub(crate) type Wholes = BTreeMap<(u32, String), Whole>;

/// Puts a quantity together from the parts of all ranks of the host.
pub(crate) fn gather(draft: &Draft, host: &dyn Host, quantity: Quantity) -> Wholes {
    let mut wholes = Wholes::new();
    visit(draft, host.ranks(), (quantity, Copies::Exact), &mut |piece| {
        let whole = wholes.entry(piece.key()).or_insert_with(|| {
            let shape = piece.shape();
            Whole { values: vec![0.0; shape.iter().product::<u64>() as usize], shape }
        });
        piece.read(host, &mut whole.values[piece.range()]);
    });
    wholes
}

/// Gives every rank of the host its parts of a quantity. Ends with the first piece that `wholes` lacks, or has in
/// another shape.
pub(crate) fn scatter(draft: &Draft, host: &mut dyn Host, quantity: Quantity, wholes: &Wholes) -> Result<(), Mismatch> {
    let mut result = Ok(());
    visit(draft, host.ranks(), (quantity, Copies::All), &mut |piece| {
        let found = wholes.get(&piece.key()).filter(|whole| whole.shape == piece.shape());
        match found {
            _ if result.is_err() => {}
            None => result = Err(Mismatch { layer: piece.layer, name: piece.parameter.name.clone() }),
            Some(whole) => piece.write(host, &whole.values[piece.range()]),
        }
    });
    result
}

/// A parameter that is missing, or of another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) layer: u32,
    pub(crate) name: String,
}

/// Gives every rank its parts of the initial values; they depend on the seed, the layer and the name alone.
pub(crate) fn initialise(draft: &Draft, host: &mut dyn Host, seed: Seed) {
    visit(draft, host.ranks(), (Quantity::Value, Copies::All), &mut |piece| {
        let seed = seed.derive(u64::from(piece.layer)).derive_name(&piece.parameter.name);
        let indices = piece.first..piece.first + piece.length;
        piece.write(host, &values(piece.parameter.init, seed, indices));
    });
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

impl Piece<'_> {
    /// So many of its elements from one of them on.
    pub(crate) fn part(self, skipped: u64, length: u64) -> Self {
        let word = self.element.bytes();
        let place = Place { address: self.place.address + skipped * word, bytes: length * word };
        Piece { first: self.first + skipped, length, place, ..self }
    }

    /// Its elements, as the rank has them.
    pub(crate) fn read(&self, host: &dyn Host, into: &mut [f32]) {
        let mut bytes = vec![0; self.place.bytes as usize];
        host.read(self.rank, self.place, &mut bytes);
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

    /// Gives the rank its elements.
    pub(crate) fn write(&self, host: &mut dyn Host, from: &[f32]) {
        let bytes: Vec<u8> = match self.element {
            Element::F32 => from.iter().flat_map(|value| value.to_ne_bytes()).collect(),
            Element::Bf16 => from.iter().flat_map(|&value| Bf16::rounded(value).0.to_ne_bytes()).collect(),
            Element::I32 => unreachable!("parameters are no tokens"),
        };
        host.write(self.rank, self.place, &bytes);
    }

    /// The layer and the name of its parameter.
    pub(crate) fn key(&self) -> (u32, String) {
        (self.layer, self.parameter.name.clone())
    }

    /// The sizes of its parameter.
    pub(crate) fn shape(&self) -> Vec<u64> {
        self.parameter.dimensions.iter().map(|&(size, _)| size).collect()
    }

    /// Its elements in the whole parameter.
    pub(crate) fn range(&self) -> Range<usize> {
        self.first as usize..(self.first + self.length) as usize
    }
}
