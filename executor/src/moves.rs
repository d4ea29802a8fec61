//! Parameters handed from whoever has them to the ranks that hold them, a chunk at a time: neither side knows how the
//! other spreads them, and no whole parameter is ever in one place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ir::program::Draft;
use ir::region::{Meetings, Stretch};

use crate::host::Host;
use crate::parameters::{Copies, Part, Quantity, visit};

/// A layer, and the name of a parameter of it.
pub(crate) type Key = (u32, String);

/// Parts of one quantity by layer and name.
pub(crate) type Parts<'a> = BTreeMap<(u32, &'a str), Vec<Part<'a>>>;

/// All parts on these ranks, in every form in which they are kept there.
pub(crate) fn all(draft: &Draft, ranks: Range<u32>, quantity: Quantity) -> Parts<'_> {
    let mut parts = Parts::new();
    visit(draft, ranks, (quantity, Copies::All), &mut |part| {
        parts.entry((part.layer, part.parameter.name.as_str())).or_default().push(part);
    });
    parts
}

/// The parts that one of `ranks` stands for: each element is in the parts of exactly one of all `among`, the lowest
/// that has it.
pub(crate) fn owned<'a>(draft: &'a Draft, ranks: &Range<u32>, among: Range<u32>, quantity: Quantity) -> Vec<Part<'a>> {
    let mut seen = BTreeSet::new();
    let mut owned = Vec::new();
    visit(draft, among, (quantity, Copies::Exact), &mut |part| {
        let key = (part.layer, part.parameter.name.as_str(), part.stretch.clone());
        if seen.insert(key) && ranks.contains(&part.rank) {
            owned.push(part);
        }
    });
    owned
}

/// A stretch on its way to all parts that have some of it.
pub(crate) struct Pouring<'p, 'a> {
    from: &'p Stretch,
    takers: Vec<(&'p Part<'a>, Meetings)>,
}

impl<'p, 'a> Pouring<'p, 'a> {
    /// To those parts, all of the stretch's tensor.
    pub(crate) fn new(from: &'p Stretch, parts: &'p [Part<'a>]) -> Pouring<'p, 'a> {
        let takers = parts.iter().filter(|part| part.stretch.region.meets(&from.region));
        Pouring { from, takers: takers.map(|part| (part, Meetings::with(&part.stretch))).collect() }
    }

    /// Whether nobody has any of it.
    pub(crate) fn is_unasked(&self) -> bool {
        self.takers.is_empty()
    }

    /// Hands over the next elements, from the one with the number `first` in the region; gives back how many were
    /// taken, by all parts together.
    pub(crate) fn pour(&mut self, host: &mut dyn Host, first: u64, values: &[f32]) -> u64 {
        let mut taken = 0;
        for run in self.from.runs_of(first..first + values.len() as u64) {
            for (part, meetings) in &mut self.takers {
                meetings.meet(run, &mut |meeting| {
                    let start = (meeting.here - first) as usize;
                    part.write(host, meeting.there, &values[start..start + meeting.length as usize]);
                    taken += meeting.length;
                });
            }
        }
        taken
    }
}

/// Counts what was taken, so that nothing is missing in the end.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<Key, u64>);

impl Tally {
    /// So many elements of a parameter were taken.
    pub(crate) fn add(&mut self, (layer, name): (u32, &str), taken: u64) {
        *self.0.entry((layer, name.to_owned())).or_default() += taken;
    }

    /// The parameters of which the parts did not get all, in order.
    pub(crate) fn missing(&self, parts: &Parts<'_>) -> impl Iterator<Item = Key> {
        let asked = |parts: &Vec<Part<'_>>| parts.iter().map(|part| part.stretch.length).sum::<u64>();
        let own = parts.iter().map(move |(&(layer, name), parts)| ((layer, name.to_owned()), asked(parts)));
        own.filter(|(key, asked)| self.0.get(key) != Some(asked)).map(|(key, _)| key)
    }
}
