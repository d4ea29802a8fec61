//! Parameters in the memory of ranks: which parts of them lie where, and what they are at the start.
//!
//! Everything that must not depend on the plan goes through here, in 32 bits. Where parameters are also kept in 16
//! bits to compute with, these are the rounding of the master; reading asks the master, writing gives both.

use std::collections::BTreeMap;
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

/// Elements of which initial values are made at once: 64 MiB, so that each processor has enough of them.
const BLOCK: usize = 1 << 24;

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
                | Content::Patches { .. }
                | Content::Source { .. }
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
                | Content::Patches { .. }
                | Content::Source { .. }
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

/// Gives every rank its parts of the initial values; they depend on the seed, the layer and the name alone. What
/// several ranks hold, or one in several forms, is made once, by all processors, a block at a time.
pub(crate) fn initialise(draft: &Draft, host: &mut dyn Host, seed: Seed) {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let parts = alike(draft, host.ranks());
    let most = parts.iter().map(|parts| parts[0].stretch.length.min(BLOCK as u64)).max().unwrap_or(0);
    let mut values = Vec::new();
    let mut staging = host.staging(most as usize * Element::F32.bytes() as usize);
    for parts in parts {
        let Part { layer, parameter, stretch, .. } = &parts[0];
        let seed = seed.derive(u64::from(*layer)).derive_name(&parameter.name);
        for range in cut(stretch.range(), BLOCK) {
            values.resize((range.end - range.start) as usize, 0.0);
            make(&mut values, workers, (parameter.init, seed), (stretch, range.start));
            let mut made = None;
            for part in &parts {
                if made.replace(part.element) != Some(part.element) {
                    encode(part.element, &values, workers, part.taken_by(values.len(), &mut staging));
                }
                host.write(part.rank, part.place(range.start, values.len()), part.taken_by(values.len(), &mut staging));
            }
        }
    }
}

/// The layer and name of the first parameter on a host's ranks, in the order of layers, whose gradient of the last step
/// had a number that is not finite. Known if the norm of that step was not finite: then no gradient was clipped, and
/// only such numbers have left their mark on running means.
pub(crate) fn first_unsound(draft: &Draft, host: &dyn Host) -> Option<(u32, String)> {
    let mut found: Option<Key> = None;
    let mut values = Vec::new();
    visit(draft, host.ranks(), (Quantity::FirstMoment, Copies::Exact), &mut |part| {
        if found.as_ref().is_some_and(|(layer, _)| *layer <= part.layer) {
            return;
        }
        let is_unsound = chunks(part.stretch.range()).any(|range| {
            values.resize((range.end - range.start) as usize, 0.0);
            part.read(host, range.start, &mut values);
            values.iter().any(|value| !value.is_finite())
        });
        if is_unsound {
            found = Some(part.named());
        }
    });
    found
}

/// All parts of values on some ranks, those of the same elements together, and of these, those in one form.
fn alike(draft: &Draft, ranks: Range<u32>) -> Vec<Vec<Part<'_>>> {
    let mut alike: BTreeMap<_, Vec<Part<'_>>> = BTreeMap::new();
    visit(draft, ranks, (Quantity::Value, Copies::All), &mut |part| {
        let key = (part.layer, part.parameter.name.as_str(), part.stretch.clone());
        alike.entry(key).or_default().push(part);
    });
    let mut alike: Vec<_> = alike.into_values().collect();
    alike.iter_mut().for_each(|parts| parts.sort_by_key(|part| part.element.bytes()));
    alike
}

/// Cuts a range of elements into pieces of at most [`CHUNK`].
pub(crate) fn chunks(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    cut(range, CHUNK)
}

fn cut(range: Range<u64>, length: usize) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(length).map(move |first| first..(first + length as u64).min(end))
}

/// Initial values of a stretch's elements, from the one with the number `first` in its region.
fn make(values: &mut [f32], workers: usize, (init, seed): (Init, Seed), (stretch, first): (&Stretch, u64)) {
    share_out(values, workers, &|skipped, values| {
        let first = first + skipped as u64;
        for run in stretch.runs_of(first..first + values.len() as u64) {
            let start = (run.local - first) as usize;
            let values = &mut values[start..start + run.length as usize];
            values.iter_mut().zip(run.whole..).for_each(|(value, index)| *value = init.value(seed, index));
        }
    });
}

/// Values as they are stored.
pub(crate) fn encode(element: Element, values: &[f32], workers: usize, bytes: &mut [u8]) {
    match element {
        Element::F32 => share_out(bytes.as_chunks_mut().0, workers, &|first, words| {
            words.iter_mut().zip(&values[first..]).for_each(|(word, value)| *word = value.to_ne_bytes());
        }),
        Element::Bf16 => share_out(bytes.as_chunks_mut().0, workers, &|first, words| {
            let rounded = |value: &f32| Bf16::rounded(*value).0.to_ne_bytes();
            words.iter_mut().zip(&values[first..]).for_each(|(word, value)| *word = rounded(value));
        }),
        Element::I32 => unreachable!("parameters are no tokens"),
    }
}

/// Has a space worked on by several processors at once, if it pays; each is told where its part of it begins.
fn share_out<T: Send>(space: &mut [T], workers: usize, work: &(impl Fn(usize, &mut [T]) + Sync)) {
    if space.len() < MANY || workers == 1 {
        return work(0, space);
    }
    let length = space.len().div_ceil(workers);
    thread::scope(|scope| {
        for (index, part) in space.chunks_mut(length).enumerate() {
            scope.spawn(move || work(index * length, part));
        }
    });
}

impl Part<'_> {
    /// What so many of its elements take of a space.
    fn taken_by<'s>(&self, count: usize, space: &'s mut Box<dyn AsMut<[u8]>>) -> &'s mut [u8] {
        &mut (**space).as_mut()[..count * self.element.bytes() as usize]
    }

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
        let mut bytes = vec![0; from.len() * self.element.bytes() as usize];
        encode(self.element, from, 1, &mut bytes);
        host.write(self.rank, self.place(first, from.len()), &bytes);
    }

    fn place(&self, first: u64, count: usize) -> Place {
        let word = self.element.bytes();
        Place { address: self.address + (first - self.stretch.first) * word, bytes: count as u64 * word }
    }
}

#[cfg(test)]
mod tests {
    use ir::region::{Region, Side};

    use super::*;

    #[test]
    fn any_number_of_processors_makes_the_same_values_and_bytes() {
        // The middle columns of a matrix.
        let sides = vec![Side { size: 700, start: 0, length: 700 }, Side { size: 900, start: 200, length: 500 }];
        let whole = Stretch::all(Region { sides });
        let stretch = Stretch { first: 77, length: whole.length - 99, ..whole };
        let (init, seed) = (Init::Normal { deviation: 0.02 }, Seed(3));
        let runs = stretch.runs().flat_map(|run| run.whole..run.whole + run.length);
        let expected: Vec<f32> = runs.map(|index| init.value(seed, index)).collect();
        assert!(expected.len() > MANY);
        for workers in [1, 2, 7] {
            let mut values = vec![0.0; expected.len()];
            make(&mut values, workers, (init, seed), (&stretch, stretch.first));
            assert_eq!(values, expected, "{workers}");
            let mut bytes = vec![0; 4 * values.len()];
            encode(Element::F32, &values, workers, &mut bytes);
            assert!(bytes.iter().eq(expected.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>().iter()));
            bytes.truncate(2 * values.len());
            encode(Element::Bf16, &values, workers, &mut bytes);
            let rounded = |value: &f32| Bf16::rounded(*value).0.to_ne_bytes();
            assert!(bytes.iter().eq(expected.iter().flat_map(rounded).collect::<Vec<u8>>().iter()), "{workers}");
        }
    }
}
