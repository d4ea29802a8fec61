//! Regions of whole, unsplit tensors: a range of each dimension. What splits over mesh axes leaves on a rank is one.
//!
//! Elements of a region are numbered as they lie, the last dimension fastest; a stretch of these numbers is what a
//! share or a file holds. Two stretches of one tensor meet in runs that lie together in both.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// One dimension of a tensor, and the range of it that is in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "[u64; 3]", into = "[u64; 3]")]
pub struct Side {
    /// Of the whole tensor.
    pub size: u64,
    /// The first index in the region.
    pub start: u64,
    /// How many indices are in it.
    pub length: u64,
}

/// In files three numbers: there are many.
impl From<[u64; 3]> for Side {
    fn from([size, start, length]: [u64; 3]) -> Side {
        Side { size, start, length }
    }
}

impl From<Side> for [u64; 3] {
    fn from(Side { size, start, length }: Side) -> [u64; 3] {
        [size, start, length]
    }
}

/// A range of each dimension, outermost first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Region {
    /// One for each dimension.
    pub sides: Vec<Side>,
}

/// A stretch of the elements of a region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    /// Where in the whole tensor.
    pub region: Region,
    /// The first element, in the region.
    pub first: u64,
    /// How many elements there are.
    pub length: u64,
}

/// Elements that lie together both in a region and in its whole tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first element, in the region.
    pub local: u64,
    /// The first element, in the whole tensor.
    pub whole: u64,
    /// How many there are.
    pub length: u64,
}

/// The runs of a stretch, in order of both regions and wholes.
#[derive(Clone, Debug)]
pub struct Runs {
    /// Dimensions whose index differs from run to run, outermost first.
    outer: Vec<Side>,
    /// Elements from one row of the innermost of `outer` to the next, in the whole.
    stride: u64,
    /// Elements of a row before the region.
    offset: u64,
    /// Elements of a full run.
    length: u64,
    next: u64,
    end: u64,
}

impl Region {
    /// How many elements the region has.
    pub fn elements(&self) -> u64 {
        self.sides.iter().map(|side| side.length).product()
    }

    /// How many elements the whole tensor has.
    pub fn whole(&self) -> u64 {
        self.sides.iter().map(|side| side.size).product()
    }

    /// The sizes of the whole tensor.
    pub fn shape(&self) -> Vec<u64> {
        self.sides.iter().map(|side| side.size).collect()
    }

    /// Whether two regions of one tensor have elements in common.
    pub fn meets(&self, other: &Region) -> bool {
        self.sides.len() == other.sides.len()
            && self
                .sides
                .iter()
                .zip(&other.sides)
                .all(|(a, b)| a.size == b.size && a.start < b.start + b.length && b.start < a.start + a.length)
    }
}

impl Stretch {
    /// All elements of a region.
    pub fn all(region: Region) -> Stretch {
        Stretch { first: 0, length: region.elements(), region }
    }

    /// Its elements, in the region.
    pub fn range(&self) -> Range<u64> {
        self.first..self.first + self.length
    }

    /// Whether it is inside of its region, and the region inside of the tensor, and no count overflows.
    pub fn is_sound(&self) -> bool {
        let product = |of: fn(&Side) -> u64| {
            self.region.sides.iter().try_fold(1_u64, |product, side| product.checked_mul(of(side)))
        };
        let is_inside = |side: &Side| side.start.checked_add(side.length).is_some_and(|end| end <= side.size);
        let (whole, elements) = (product(|side| side.size), product(|side| side.length));
        let end = self.first.checked_add(self.length);
        self.length > 0
            && self.region.sides.iter().all(is_inside)
            && whole.is_some_and(|whole| whole < 1 << 60)
            && end.zip(elements).is_some_and(|(end, elements)| end <= elements)
    }

    /// Its runs.
    pub fn runs(&self) -> Runs {
        self.runs_of(self.range())
    }

    /// The runs of a part of it.
    pub fn runs_of(&self, range: Range<u64>) -> Runs {
        let sides = &self.region.sides;
        // Behind the last dimension that is cut, all is whole and lies together.
        let cut = sides.iter().rposition(|side| side.length < side.size).unwrap_or(0);
        let (outer, inner) = sides.split_at(cut);
        let behind: u64 = inner.iter().skip(1).map(|side| side.size).product();
        let first = inner.first();
        Runs {
            outer: outer.to_vec(),
            stride: first.map_or(1, |side| side.size) * behind,
            offset: first.map_or(0, |side| side.start) * behind,
            length: first.map_or(1, |side| side.length) * behind,
            next: range.start,
            end: range.end,
        }
    }
}

impl Iterator for Runs {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        if self.next >= self.end {
            return None;
        }
        let local = self.next;
        let (mut row, within) = (local / self.length, local % self.length);
        let (mut whole, mut stride) = (self.offset + within, self.stride);
        for side in self.outer.iter().rev() {
            whole += (side.start + row % side.length) * stride;
            row /= side.length;
            stride *= side.size;
        }
        let length = (self.length - within).min(self.end - local);
        self.next += length;
        Some(Run { local, whole, length })
    }
}

/// Elements that two stretches of one tensor have in common, and that lie together in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// The first, in the first region.
    pub here: u64,
    /// The first, in the second region.
    pub there: u64,
    /// How many there are.
    pub length: u64,
}

/// Finds where runs meet those of another stretch, when the first come in order.
#[derive(Clone, Debug)]
pub struct Meetings {
    runs: Runs,
    now: Option<Run>,
}

impl Meetings {
    /// With the runs of this stretch.
    pub fn with(stretch: &Stretch) -> Meetings {
        let mut runs = stretch.runs();
        let now = runs.next();
        Meetings { runs, now }
    }

    /// Shows what `run` has in common with the other stretch. No run may begin before the end of an earlier one.
    pub fn meet(&mut self, run: Run, visitor: &mut dyn FnMut(Meeting)) {
        let end = run.whole + run.length;
        while let Some(other) = self.now {
            let other_end = other.whole + other.length;
            let (first, last) = (run.whole.max(other.whole), end.min(other_end));
            if first < last {
                let (here, there) = (run.local + first - run.whole, other.local + first - other.whole);
                visitor(Meeting { here, there, length: last - first });
            }
            if other_end > end {
                return;
            }
            self.now = self.runs.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(sides: &[(u64, Range<u64>)]) -> Region {
        let side =
            |&(size, ref range): &(u64, Range<u64>)| Side { size, start: range.start, length: range.end - range.start };
        Region { sides: sides.iter().map(side).collect() }
    }

    fn elements(stretch: &Stretch) -> Vec<u64> {
        stretch.runs().flat_map(|run| run.whole..run.whole + run.length).collect()
    }

    #[test]
    fn a_region_lies_in_runs_as_long_as_can_be() {
        let middle = Stretch::all(region(&[(2, 0..2), (4, 1..3), (3, 0..3)]));
        let runs: Vec<Run> = middle.runs().collect();
        assert_eq!(runs, [Run { local: 0, whole: 3, length: 6 }, Run { local: 6, whole: 15, length: 6 }]);
        assert_eq!(elements(&Stretch::all(region(&[(2, 0..2), (4, 2..4)]))), [2, 3, 6, 7]);
        assert_eq!(elements(&Stretch::all(region(&[(4, 1..3), (2, 0..2)]))), [2, 3, 4, 5]);
        assert_eq!(elements(&Stretch::all(region(&[]))), [0], "a single number");
        let part = Stretch { first: 1, length: 2, region: region(&[(2, 0..2), (4, 2..4)]) };
        assert_eq!(elements(&part), [3, 6]);
    }

    #[test]
    fn stretches_meet_in_what_both_have() {
        let shape = [4_u64, 3, 4];
        let cuts = |size: u64| [0..size, 0..size / 2, size / 2..size, 1..size];
        let mut all = Vec::new();
        for (a, b, c) in cuts(4)
            .iter()
            .flat_map(|a| cuts(3).map(|b| (a.clone(), b)))
            .flat_map(|(a, b)| cuts(4).map(|c| (a.clone(), b.clone(), c)))
        {
            let region = region(&[(shape[0], a), (shape[1], b), (shape[2], c)]);
            let count = region.elements();
            all.push(Stretch::all(region.clone()));
            if count > 2 {
                all.push(Stretch { region, first: 1, length: count - 2 });
            }
        }
        for one in &all {
            for other in &all {
                let mut found = Vec::new();
                let mut meetings = Meetings::with(other);
                for run in one.runs() {
                    meetings.meet(run, &mut |meeting| {
                        let there: Vec<u64> = other
                            .runs_of(meeting.there..meeting.there + meeting.length)
                            .flat_map(|run| run.whole..run.whole + run.length)
                            .collect();
                        let here: Vec<u64> = one
                            .runs_of(meeting.here..meeting.here + meeting.length)
                            .flat_map(|run| run.whole..run.whole + run.length)
                            .collect();
                        assert_eq!(here, there, "{one:?} {other:?}");
                        found.extend(here);
                    });
                }
                let others = elements(other);
                let expected: Vec<u64> = elements(one).into_iter().filter(|it| others.contains(it)).collect();
                assert_eq!(found, expected, "{one:?} {other:?}");
                assert!(expected.is_empty() || one.region.meets(&other.region));
            }
        }
    }

    #[test]
    fn unsound_stretches_are_known() {
        let whole = region(&[(4, 0..4), (2, 0..2)]);
        assert!(Stretch::all(whole.clone()).is_sound());
        assert!(!Stretch { region: whole.clone(), first: 7, length: 2 }.is_sound());
        assert!(!Stretch { region: whole, first: u64::MAX, length: 2 }.is_sound());
        assert!(!Stretch::all(Region { sides: vec![Side { size: 2, start: 1, length: 2 }] }).is_sound());
        let huge = Side { size: u64::MAX, start: 0, length: u64::MAX };
        assert!(!Stretch { region: Region { sides: vec![huge, huge] }, first: 0, length: 1 }.is_sound());
    }
}
