//! Which stretch of which parameter a rank holds: from elements of whole, unsplit parameters to elements of a buffer.
//!
//! Everything that must not depend on the plan goes through here: initial values, checkpoints, and moves from one
//! plan to another. It counts in elements and knows no device.

use crate::mesh::Mesh;
use crate::program::{Block, BlockParameter, Part};

/// A buffer of a rank that holds a block, or a share of it.
#[derive(Clone, Copy, Debug)]
pub struct Holding<'a> {
    /// All ranks.
    pub mesh: &'a Mesh,
    /// The one that holds it.
    pub rank: u32,
    /// What it holds of the block.
    pub part: Part,
}

/// Elements of a parameter that lie together, in the whole parameter and in the buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece<'a> {
    /// The parameter.
    pub parameter: &'a BlockParameter,
    /// The first element, in the whole parameter.
    pub whole: u64,
    /// The first element, in the buffer.
    pub held: u64,
    /// How many there are.
    pub length: u64,
}

impl Holding<'_> {
    /// Shows all pieces of the block's parameters, in the order in which they lie in the buffer; padding is in none.
    pub fn visit<'a>(&self, block: &'a Block, visitor: &mut dyn FnMut(Piece<'a>)) {
        let (start, end) = self.range(block);
        for parameter in &block.parameters {
            runs(self.mesh, self.rank, parameter, &mut |local, whole, length| {
                let first = (parameter.first + local).max(start);
                let last = (parameter.first + local + length).min(end);
                if first < last {
                    let whole = whole + first - parameter.first - local;
                    visitor(Piece { parameter, whole, held: first - start, length: last - first });
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
    use crate::graph::Init;

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

    #[test]
    fn a_share_is_an_equal_stretch_of_the_block_without_its_padding() {
        let mesh = Mesh::new(1, &[2, 2]);
        let parameter = |name: &str, first, dimensions: Vec<(u64, Vec<usize>)>| BlockParameter {
            name: name.to_owned(),
            first,
            init: Init::Constant { value: 0.0 },
            dimensions,
        };
        // Of a (2 × 4), split in columns over axis 2, four elements; of b, three; one of padding.
        let parameters = vec![parameter("a", 0, vec![(2, vec![]), (4, vec![2])]), parameter("b", 4, vec![(3, vec![])])];
        let block = Block { layer: 0, parameters, decayed: 4, length: 7, padded: 8, shard: vec![1] };
        let pieces = |rank, part| {
            let mut pieces = Vec::new();
            Holding { mesh: &mesh, rank, part }.visit(&block, &mut |piece| {
                pieces.push((piece.parameter.name.as_str(), piece.whole, piece.held, piece.length));
            });
            pieces
        };
        assert_eq!(pieces(1, Part::Share), [("a", 2, 0, 2), ("a", 6, 2, 2)]);
        assert_eq!(pieces(3, Part::Share), [("b", 0, 0, 3)]);
        assert_eq!(pieces(2, Part::Whole), [("a", 0, 0, 2), ("a", 4, 2, 2), ("b", 0, 4, 3)]);
    }
}
