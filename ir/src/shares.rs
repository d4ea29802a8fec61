//! Which stretch of which parameter a rank holds: from elements of whole, unsplit parameters to elements of a buffer.
//!
//! Everything that must not depend on the plan goes through here: initial values, checkpoints, and moves from one
//! plan to another. It counts in elements and knows no device.

use crate::mesh::Mesh;
use crate::program::{Block, BlockParameter, Part};
use crate::region::{Region, Side, Stretch};

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

/// Elements of a parameter that lie together in the buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece<'a> {
    /// The parameter.
    pub parameter: &'a BlockParameter,
    /// Which elements, of what the rank would have of the whole parameter.
    pub stretch: Stretch,
    /// The first element, in the buffer.
    pub held: u64,
}

impl Holding<'_> {
    /// Shows the pieces of the block's parameters, at most one of each, in the order in which they lie in the buffer;
    /// padding is in none.
    pub fn visit<'a>(&self, block: &'a Block, visitor: &mut dyn FnMut(Piece<'a>)) {
        let (start, end) = self.range(block);
        for parameter in &block.parameters {
            let region = region(self.mesh, self.rank, parameter);
            let first = parameter.first.max(start);
            let last = (parameter.first + region.elements()).min(end);
            if first < last {
                let stretch = Stretch { region, first: first - parameter.first, length: last - first };
                visitor(Piece { parameter, stretch, held: first - start });
            }
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

/// What splits over mesh axes leave of a parameter on a rank.
fn region(mesh: &Mesh, rank: u32, parameter: &BlockParameter) -> Region {
    let side = |&(size, ref axes): &(u64, Vec<usize>)| {
        let length = size / axes.iter().map(|&axis| u64::from(mesh.sizes()[axis])).product::<u64>();
        Side { size, start: u64::from(mesh.index(rank, axes)) * length, length }
    };
    Region { sides: parameter.dimensions.iter().map(side).collect() }
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
        let stretch = Stretch::all(region(mesh, rank, &parameter));
        stretch.runs().flat_map(|run| run.whole..run.whole + run.length).collect()
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
                let elements: Vec<u64> =
                    piece.stretch.runs().flat_map(|run| run.whole..run.whole + run.length).collect();
                pieces.push((piece.parameter.name.as_str(), piece.held, elements));
            });
            pieces
        };
        assert_eq!(pieces(1, Part::Share), [("a", 0, vec![2, 3, 6, 7])]);
        assert_eq!(pieces(3, Part::Share), [("b", 0, vec![0, 1, 2])]);
        assert_eq!(pieces(2, Part::Whole), [("a", 0, vec![0, 1, 4, 5]), ("b", 4, vec![0, 1, 2])]);
    }
}
