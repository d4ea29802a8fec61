//! The mesh: ranks arranged along axes, so that a rank is known by its coordinate on each axis.
//!
//! Axis 0, [`Mesh::PIPELINE`], is the pipeline; the others, from the slowest to the fastest, divide the ranks of a stage. A layer's
//! strategy gives each of them to Data or Tensor; layers with unlike degrees share one mesh, whose axes are the
//! factors that their degrees have in common. That is why an axis here is a factor and not a technique.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an exchange is for; also names its stream and its communicator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Ranks that see different sequences.
    Data,
    /// Ranks that share the products of one layer.
    Tensor,
    /// Ranks of different stages.
    Pipeline,
}

impl Axis {
    /// All axes, in a fixed order.
    pub const ALL: [Axis; 3] = [Axis::Data, Axis::Tensor, Axis::Pipeline];

    /// Its word in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Axis::Data => "data",
            Axis::Tensor => "tensor",
            Axis::Pipeline => "pipeline",
        }
    }
}

/// A set of mesh axes, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AxisSet(pub u32);

impl AxisSet {
    /// No axis.
    pub const EMPTY: AxisSet = AxisSet(0);

    /// Just one axis of the mesh.
    pub fn only(axis: usize) -> AxisSet {
        AxisSet(1 << axis)
    }

    /// Whether `axis` is in the set.
    pub fn contains(self, axis: usize) -> bool {
        self.0 & (1 << axis) != 0
    }

    /// In either set.
    pub fn union(self, other: AxisSet) -> AxisSet {
        AxisSet(self.0 | other.0)
    }

    /// In both sets.
    pub fn intersection(self, other: AxisSet) -> AxisSet {
        AxisSet(self.0 & other.0)
    }

    /// In this set and not in the other.
    pub fn minus(self, other: AxisSet) -> AxisSet {
        AxisSet(self.0 & !other.0)
    }

    /// Whether there is no axis in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The axes from the first to the last.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = usize> {
        (0..32).filter(move |&axis| self.contains(axis))
    }
}

impl FromIterator<usize> for AxisSet {
    fn from_iter<I: IntoIterator<Item = usize>>(axes: I) -> AxisSet {
        axes.into_iter().fold(AxisSet::EMPTY, |set, axis| set.union(AxisSet::only(axis)))
    }
}

/// The sizes of all axes; axis 0 is the pipeline, the last axis is the one whose neighbours are closest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    sizes: Vec<u32>,
}

impl Mesh {
    /// The axis along which roles differ.
    pub const PIPELINE: usize = 0;

    /// A mesh of `stages` times the given factors, slowest first.
    pub fn new(stages: u32, factors: &[u32]) -> Mesh {
        assert!(factors.len() < 31, "a mesh has at most 31 axes, not {}", factors.len() + 1);
        let mut sizes = vec![stages];
        sizes.extend_from_slice(factors);
        Mesh { sizes }
    }

    /// The size of each axis.
    pub fn sizes(&self) -> &[u32] {
        &self.sizes
    }

    /// Stages of the pipeline.
    pub fn stages(&self) -> u32 {
        self.sizes[Mesh::PIPELINE]
    }

    /// How many ranks there are.
    pub fn rank_count(&self) -> u32 {
        self.sizes.iter().product()
    }

    /// Ranks in one stage.
    pub fn ranks_per_stage(&self) -> u32 {
        self.sizes[1..].iter().product()
    }

    /// How many ranks differ only along `axes`.
    pub fn extent(&self, axes: AxisSet) -> u32 {
        axes.iter().map(|axis| self.sizes[axis]).product()
    }

    /// Where `rank` stands on `axis`.
    pub fn coordinate(&self, rank: u32, axis: usize) -> u32 {
        let below: u32 = self.sizes[axis + 1..].iter().product();
        rank / below % self.sizes[axis]
    }

    /// The position of `rank` in a split over `axes`, the first of them varying slowest.
    pub fn index(&self, rank: u32, axes: &[usize]) -> u32 {
        axes.iter().fold(0, |index, &axis| index * self.sizes[axis] + self.coordinate(rank, axis))
    }

    /// The ranks that differ from `rank` only along `axes`, in the order of [`Mesh::index`].
    pub fn members(&self, rank: u32, axes: &[usize]) -> Vec<u32> {
        let mut members = vec![rank];
        for &axis in axes {
            let below: u32 = self.sizes[axis + 1..].iter().product();
            members = members
                .iter()
                .flat_map(|&member| {
                    let base = member - self.coordinate(member, axis) * below;
                    (0..self.sizes[axis]).map(move |coordinate| base + coordinate * below)
                })
                .collect();
        }
        members
    }
}

impl fmt::Display for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.sizes.iter().map(u32::to_string).collect();
        f.write_str(&sizes.join("x"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_in_the_order_of_their_index() {
        let mesh = Mesh::new(2, &[2, 3]);
        for rank in 0..mesh.rank_count() {
            for axes in [vec![0], vec![1, 2], vec![2, 1], vec![0, 2]] {
                for (position, member) in mesh.members(rank, &axes).into_iter().enumerate() {
                    assert_eq!(mesh.index(member, &axes), position as u32);
                }
            }
        }
    }
}
