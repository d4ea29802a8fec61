//! Layouts: what is where. From two layouts follows every exchange.
//!
//! A layout says for each dimension of a tensor which mesh axes split it (the first splits coarsest), and over
//! which axes the values are still partial. Data, tensor and sequence parallelism and sharding are not separate
//! mechanisms but layouts; [`Layout::exchanges_to`] turns the difference of two into collectives.

use crate::mesh::AxisSet;
use crate::units::Bytes;

/// How values that lie on several ranks are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reduce {
    /// Added up.
    Sum,
    /// The largest of them.
    Max,
}

/// Which mesh axes split each dimension, and over which axes the values are partial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Layout {
    // Invariant: an axis splits at most one dimension, and is then not partial.
    splits: Vec<Vec<usize>>,
    partial: AxisSet,
    reduce: Reduce,
}

/// What moves data between layouts. Every technique is made of these five.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exchange {
    /// Partial values become whole on every member.
    AllReduce {
        /// The axes of the group, in the order of its members.
        axes: Vec<usize>,
        /// How values are joined.
        reduce: Reduce,
    },
    /// Partial values become whole, and each member keeps its part of `dimension`.
    ReduceScatter {
        /// The axes of the group, in the order of its members.
        axes: Vec<usize>,
        /// The dimension that is cut.
        dimension: usize,
    },
    /// Parts of `dimension` are put together on every member.
    AllGather {
        /// The axes of the group, in the order of its members.
        axes: Vec<usize>,
        /// The dimension that becomes whole.
        dimension: usize,
    },
    /// The cut moves from one dimension to another.
    AllToAll {
        /// The axes of the group, in the order of its members.
        axes: Vec<usize>,
        /// The dimension that becomes whole.
        gathered: usize,
        /// The dimension that is cut.
        split: usize,
    },
    /// Each member keeps its part of `dimension` of what all have; nothing moves.
    Slice {
        /// The axes of the group, in the order of its members.
        axes: Vec<usize>,
        /// The dimension that is cut.
        dimension: usize,
    },
}

impl Exchange {
    /// The axes of the group, in the order of its members.
    pub fn axes(&self) -> &[usize] {
        match self {
            Exchange::AllReduce { axes, .. }
            | Exchange::ReduceScatter { axes, .. }
            | Exchange::AllGather { axes, .. }
            | Exchange::AllToAll { axes, .. }
            | Exchange::Slice { axes, .. } => axes,
        }
    }

    /// Its word in programs, profiles and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Exchange::AllReduce { .. } => "all-reduce",
            Exchange::ReduceScatter { .. } => "reduce-scatter",
            Exchange::AllGather { .. } => "all-gather",
            Exchange::AllToAll { .. } => "all-to-all",
            Exchange::Slice { .. } => "slice",
        }
    }
}

/// What an exchange does: to a layout, to the local shape, to bytes. Nothing else says it.
impl Exchange {
    /// Whether source and destination are one buffer.
    pub fn is_in_place(&self) -> bool {
        matches!(self, Exchange::AllReduce { .. })
    }

    /// Whether anything goes from one member to another; if not, nobody waits for anybody.
    pub fn moves(&self) -> bool {
        !matches!(self, Exchange::Slice { .. })
    }

    /// The dimension that becomes longer on each member, and the one that becomes shorter, by the members of the group.
    fn changed(&self) -> (Option<usize>, Option<usize>) {
        match *self {
            Exchange::AllReduce { .. } => (None, None),
            Exchange::ReduceScatter { dimension, .. } | Exchange::Slice { dimension, .. } => (None, Some(dimension)),
            Exchange::AllGather { dimension, .. } => (Some(dimension), None),
            Exchange::AllToAll { gathered, split, .. } => (Some(gathered), Some(split)),
        }
    }

    /// The layout that it makes of `before`.
    pub fn layout_after(&self, before: &Layout) -> Layout {
        let group: AxisSet = self.axes().iter().copied().collect();
        let (gathered, split) = self.changed();
        let mut splits = before.splits.clone();
        if let Some(dimension) = gathered {
            splits[dimension].retain(|&axis| !group.contains(axis));
        }
        if let Some(dimension) = split {
            splits[dimension].extend(self.axes());
        }
        let partial = match self {
            Exchange::AllReduce { .. } | Exchange::ReduceScatter { .. } => before.partial.minus(group),
            Exchange::AllGather { .. } | Exchange::AllToAll { .. } | Exchange::Slice { .. } => before.partial,
        };
        Layout::new(splits, partial, if partial.is_empty() { Reduce::Sum } else { before.reduce })
    }

    /// A member's local sizes after it, in a group of `ranks`.
    pub fn shape_after(&self, before: &[u64], ranks: u32) -> Vec<u64> {
        let (gathered, split) = self.changed();
        let mut shape = before.to_vec();
        if let Some(dimension) = gathered {
            shape[dimension] *= u64::from(ranks);
        }
        if let Some(dimension) = split {
            shape[dimension] /= u64::from(ranks);
        }
        shape
    }

    /// A member's bytes after it, in a group of `ranks`.
    pub fn bytes_after(&self, before: Bytes, ranks: u32) -> Bytes {
        let ranks = u64::from(ranks);
        match self.changed() {
            (None, None) | (Some(_), Some(_)) => before,
            (Some(_), None) => before * ranks,
            (None, Some(_)) => Bytes(before.0 / ranks),
        }
    }
}

impl Layout {
    /// A layout with the given splits, and values partial over `partial`.
    pub fn new(splits: Vec<Vec<usize>>, partial: AxisSet, reduce: Reduce) -> Layout {
        let mut seen = partial;
        for &axis in splits.iter().flatten() {
            assert!(!seen.contains(axis), "axis {axis} has two uses in one layout");
            seen = seen.union(AxisSet::only(axis));
        }
        Layout { splits, partial, reduce }
    }

    /// The layout of a tensor that every rank has whole.
    pub fn whole(dimensions: usize) -> Layout {
        Layout::new(vec![Vec::new(); dimensions], AxisSet::EMPTY, Reduce::Sum)
    }

    /// The axes that split each dimension.
    pub fn splits(&self) -> &[Vec<usize>] {
        &self.splits
    }

    /// The axes over which values are partial.
    pub fn partial(&self) -> AxisSet {
        self.partial
    }

    /// How partial values are joined.
    pub fn reduce(&self) -> Reduce {
        self.reduce
    }

    /// The same layout once its partial values were joined on every member.
    pub fn reduced(&self) -> Layout {
        Layout { splits: self.splits.clone(), partial: AxisSet::EMPTY, reduce: Reduce::Sum }
    }

    /// The exchanges that turn this layout into `target`, in order. Empty if nothing has to move.
    ///
    /// Splits are compared from the coarsest axis: what both have in common stays, the rest is gathered, and what
    /// only the target has is cut. An axis that is gathered from one dimension and cut from another is an
    /// all-to-all; one that is partial and then cut is a reduce-scatter.
    pub fn exchanges_to(&self, target: &Layout) -> Vec<Exchange> {
        assert_eq!(self.splits.len(), target.splits.len(), "layouts of one tensor have the same dimensions");
        assert!(target.partial.minus(self.partial).is_empty(), "no exchange makes whole values partial");
        let kept: Vec<usize> =
            self.splits.iter().zip(&target.splits).map(|(from, to)| common_prefix(from, to)).collect();
        let mut exchanges = Vec::new();
        let mut cut: Vec<Vec<usize>> = target.splits.iter().zip(&kept).map(|(to, &keep)| to[keep..].to_vec()).collect();
        let mut partial = self.partial.minus(target.partial);
        for (dimension, (from, &keep)) in self.splits.iter().zip(&kept).enumerate() {
            let gathered = &from[keep..];
            if gathered.is_empty() {
                continue;
            }
            let moved = cut.iter().position(|axes| axes.as_slice() == gathered);
            exchanges.push(match moved {
                Some(split) => {
                    cut[split].clear();
                    Exchange::AllToAll { axes: gathered.to_vec(), gathered: dimension, split }
                }
                None => Exchange::AllGather { axes: gathered.to_vec(), dimension },
            });
        }
        for (dimension, axes) in cut.into_iter().enumerate() {
            let set: AxisSet = axes.iter().copied().collect();
            if axes.is_empty() {
                continue;
            }
            let scattered = self.reduce == Reduce::Sum && set.minus(partial).is_empty();
            if scattered {
                partial = partial.minus(set);
            }
            let joined = set.intersection(partial);
            if !scattered && !joined.is_empty() {
                partial = partial.minus(joined);
                exchanges.push(Exchange::AllReduce { axes: joined.iter().collect(), reduce: self.reduce });
            }
            exchanges.push(if scattered {
                Exchange::ReduceScatter { axes, dimension }
            } else {
                Exchange::Slice { axes, dimension }
            });
        }
        if !partial.is_empty() {
            exchanges.push(Exchange::AllReduce { axes: partial.iter().collect(), reduce: self.reduce });
        }
        exchanges
    }
}

fn common_prefix(a: &[usize], b: &[usize]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: usize = 1;
    const TENSOR: usize = 2;

    fn layout(splits: &[&[usize]], partial: &[usize]) -> Layout {
        Layout::new(splits.iter().map(|axes| axes.to_vec()).collect(), partial.iter().copied().collect(), Reduce::Sum)
    }

    fn names(from: Layout, to: Layout) -> Vec<&'static str> {
        from.exchanges_to(&to).iter().map(Exchange::name).collect()
    }

    #[test]
    fn known_techniques_follow_from_layouts() {
        let b: &[usize] = &[DATA];
        let t: &[usize] = &[TENSOR];
        let activation = || layout(&[b, &[], &[]], &[]);
        let sequence = || layout(&[b, t, &[]], &[]);
        let cases: Vec<(&str, Layout, Layout, Vec<&str>)> = vec![
            ("row-parallel product", layout(&[b, &[], &[]], t), activation(), vec!["all-reduce"]),
            ("leaving it, sequence split", layout(&[b, &[], &[]], t), sequence(), vec!["reduce-scatter"]),
            ("entering it, sequence split", sequence(), activation(), vec!["all-gather"]),
            ("data parallel gradient", layout(&[&[]], b), layout(&[&[]], &[]), vec!["all-reduce"]),
            ("sharded gradient", layout(&[&[]], b), layout(&[b], &[]), vec!["reduce-scatter"]),
            ("sharded parameter before use", layout(&[b], &[]), layout(&[&[]], &[]), vec!["all-gather"]),
            ("heads for sequence", layout(&[b, t, &[]], &[]), layout(&[b, &[], t], &[]), vec!["all-to-all"]),
            ("norm weight, sequence split", layout(&[&[]], &[DATA, TENSOR]), layout(&[&[]], &[]), vec!["all-reduce"]),
            (
                "the same, sharded",
                layout(&[&[]], &[DATA, TENSOR]),
                layout(&[b], &[]),
                vec!["reduce-scatter", "all-reduce"],
            ),
            ("own part of a whole", activation(), sequence(), vec!["slice"]),
            ("nothing to do", sequence(), sequence(), vec![]),
        ];
        for (name, from, to, expected) in cases {
            assert_eq!(names(from, to), expected, "{name}");
        }
    }

    #[test]
    fn layers_with_unlike_degrees_trade_batch_for_sequence() {
        let four_by_one = layout(&[&[1, 2], &[], &[]], &[]);
        let two_by_two = layout(&[&[1], &[2], &[]], &[]);
        assert_eq!(
            four_by_one.exchanges_to(&two_by_two),
            [Exchange::AllToAll { axes: vec![2], gathered: 0, split: 1 }]
        );
        assert_eq!(
            two_by_two.exchanges_to(&four_by_one),
            [Exchange::AllToAll { axes: vec![2], gathered: 1, split: 0 }]
        );
    }
}
