//! Where each parameter lies: from an element of the whole, unsplit parameter to places in the arenas.
//!
//! Everything that must not depend on the plan goes through here: initial values, checkpoints, and copies between
//! sessions of different programs.

use std::collections::BTreeMap;

use ir::mesh::Mesh;
use ir::program::{Block, BlockParameter, Content, Draft, Part};
use ir::seed::Seed;

use crate::cpu::arena::{Memory, Place};

const WORD: u64 = size_of::<f32>() as u64;

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

/// Elements of a parameter that lie together, in the whole parameter and on a rank.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    /// The layer of the parameter.
    pub(crate) layer: u32,
    /// The parameter.
    pub(crate) parameter: &'a BlockParameter,
    /// The first element, in the whole parameter.
    pub(crate) first: u64,
    /// The rank that holds it.
    pub(crate) rank: u32,
    /// Where.
    pub(crate) place: Place,
}

/// Shows all pieces of a quantity, rank by rank; elements that several ranks hold are shown for each.
pub(crate) fn visit<'a>(draft: &'a Draft, quantity: Quantity, visitor: &mut dyn FnMut(Piece<'a>)) {
    for rank in 0..draft.mesh.rank_count() {
        for buffer in &draft.roles[draft.mesh.coordinate(rank, 0) as usize].buffers {
            let (found, id, part) = match buffer.content {
                Content::Parameters { block, part } | Content::Master { block, part } => (Quantity::Value, block, part),
                Content::FirstMoment { block, part } => (Quantity::FirstMoment, block, part),
                Content::SecondMoment { block, part } => (Quantity::SecondMoment, block, part),
                Content::Value | Content::Tokens(_) | Content::Targets(_) | Content::Boundary | Content::Scalars => {
                    continue;
                }
            };
            if found == quantity {
                let holding = Holding { mesh: &draft.mesh, rank, address: buffer.address, part };
                holding.visit(&draft.blocks[id.index()], visitor);
            }
        }
    }
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

/// Puts a quantity together from the parts of all ranks.
pub(crate) fn gather(draft: &Draft, memory: &Memory<'_>, quantity: Quantity) -> Wholes {
    let mut wholes = Wholes::new();
    visit(draft, quantity, &mut |piece| {
        let whole = wholes.entry(piece.key()).or_insert_with(|| {
            let shape = piece.shape();
            Whole { values: vec![0.0; shape.iter().product::<u64>() as usize], shape }
        });
        let first = piece.first as usize;
        whole.values[first..first + piece.place.elements as usize]
            .copy_from_slice(memory.read(piece.rank, piece.place));
    });
    wholes
}

/// Gives every rank its parts of a quantity. Ends with the first piece that `wholes` lacks, or has in another shape.
pub(crate) fn scatter(
    draft: &Draft,
    memory: &mut Memory<'_>,
    quantity: Quantity,
    wholes: &Wholes,
) -> Result<(), Mismatch> {
    let mut result = Ok(());
    visit(draft, quantity, &mut |piece| {
        let found = wholes.get(&piece.key()).filter(|whole| whole.shape == piece.shape());
        match found {
            _ if result.is_err() => {}
            None => result = Err(Mismatch { layer: piece.layer, name: piece.parameter.name.clone() }),
            Some(whole) => {
                let first = piece.first as usize;
                let values = &whole.values[first..first + piece.place.elements as usize];
                memory.write(piece.rank, piece.place).copy_from_slice(values);
            }
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

impl Piece<'_> {
    fn key(&self) -> (u32, String) {
        (self.layer, self.parameter.name.clone())
    }

    fn shape(&self) -> Vec<u64> {
        self.parameter.dimensions.iter().map(|&(size, _)| size).collect()
    }
}

/// Gives every rank its parts of the initial values; they depend on the seed, the layer and the name alone.
pub(crate) fn initialise(draft: &Draft, memory: &mut Memory<'_>, seed: Seed) {
    visit(draft, Quantity::Value, &mut |piece| {
        let seed = seed.derive(u64::from(piece.layer)).derive_name(&piece.parameter.name);
        let values = memory.write::<f32>(piece.rank, piece.place);
        for (index, value) in (piece.first..).zip(values) {
            *value = piece.parameter.init.value(seed, index);
        }
    });
}

/// Zeroes all resident buffers of all ranks, padding included.
pub(crate) fn clear(draft: &Draft, memory: &mut Memory<'_>) {
    for rank in 0..draft.mesh.rank_count() {
        let role = &draft.roles[draft.mesh.coordinate(rank, 0) as usize];
        for buffer in role.buffers.iter().filter(|buffer| buffer.is_resident()) {
            memory.write::<f32>(rank, Place { address: buffer.address, elements: buffer.bytes.0 / WORD }).fill(0.0);
        }
    }
}

/// A buffer that holds a block, or a share of it.
struct Holding<'a> {
    mesh: &'a Mesh,
    rank: u32,
    address: u64,
    part: Part,
}

impl Holding<'_> {
    fn visit<'a>(&self, block: &'a Block, visitor: &mut dyn FnMut(Piece<'a>)) {
        let (start, end) = self.range(block);
        for parameter in &block.parameters {
            runs(self.mesh, self.rank, parameter, &mut |local, whole, length| {
                let first = (parameter.first + local).max(start);
                let last = (parameter.first + local + length).min(end);
                if first < last {
                    let place = Place { address: self.address + (first - start) * WORD, elements: last - first };
                    let first = whole + first - parameter.first - local;
                    visitor(Piece { layer: block.layer, parameter, first, rank: self.rank, place });
                }
            });
        }
    }

    /// Elements of the block that the buffer holds.
    fn range(&self, block: &Block) -> (u64, u64) {
        match self.part {
            Part::Whole => (0, block.padded),
            Part::Share => {
                let shares: u64 = block.shard.iter().map(|&axis| u64::from(self.mesh.sizes()[axis])).product();
                let share = block.padded / shares;
                let index = u64::from(self.mesh.index(self.rank, &block.shard));
                (index * share, (index + 1) * share)
            }
        }
    }
}

/// Shows a rank's part of a parameter as runs: start in the part, start in the whole, and length.
fn runs(mesh: &Mesh, rank: u32, parameter: &BlockParameter, visitor: &mut dyn FnMut(u64, u64, u64)) {
    let local = |&(size, ref axes): &(u64, Vec<usize>)| {
        size / axes.iter().map(|&axis| u64::from(mesh.sizes()[axis])).product::<u64>()
    };
    // Behind the last dimension that is split, all is whole and lies together.
    let split = parameter.dimensions.iter().rposition(|(_, axes)| !axes.is_empty());
    let (outer, inner) = parameter.dimensions.split_at(split.unwrap_or(0));
    let length: u64 = inner.iter().map(local).product();
    let rows: u64 = outer.iter().map(local).product();
    for row in 0..rows {
        let (mut rest, mut whole) = (row, 0);
        let mut stride: u64 = inner.iter().map(|&(size, _)| size).product();
        for dimension in outer.iter().rev() {
            let size = local(dimension);
            whole += (u64::from(mesh.index(rank, &dimension.1)) * size + rest % size) * stride;
            rest /= size;
            stride *= dimension.0;
        }
        if let Some((dimension, behind)) = inner.split_first() {
            let behind: u64 = behind.iter().map(|&(size, _)| size).product();
            whole += u64::from(mesh.index(rank, &dimension.1)) * local(dimension) * behind;
        }
        visitor(row * length, whole, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::graph::Init;

    /// What a rank's part holds, as indices of the whole.
    fn part(mesh: &Mesh, rank: u32, dimensions: &[(u64, &[usize])]) -> Vec<u64> {
        let parameter = BlockParameter {
            name: "w".to_owned(),
            first: 0,
            init: Init::Constant { value: 0.0 },
            dimensions: dimensions.iter().map(|&(size, axes)| (size, axes.to_vec())).collect(),
        };
        let mut part = Vec::new();
        runs(mesh, rank, &parameter, &mut |local, whole, length| {
            assert_eq!(local, part.len() as u64);
            part.extend(whole..whole + length);
        });
        part
    }

    #[test]
    fn a_part_is_cut_out_of_the_whole_along_each_split_dimension() {
        let mesh = Mesh::new(1, &[2, 2]);
        assert_eq!(part(&mesh, 3, &[(2, &[]), (3, &[])]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(part(&mesh, 1, &[(4, &[2]), (2, &[])]), [4, 5, 6, 7]);
        assert_eq!(part(&mesh, 1, &[(2, &[]), (4, &[2])]), [2, 3, 6, 7]);
        assert_eq!(part(&mesh, 2, &[(4, &[1, 2]), (1, &[])]), [2]);
        assert_eq!(part(&mesh, 2, &[(2, &[1]), (2, &[]), (2, &[2])]), [4, 6]);
    }
}
