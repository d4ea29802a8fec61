//! Exchanges as the library of collectives knows them, which sees flat memory only: what to copy before, what to call,
//! and what to copy after.
//!
//! A collective along the first dimension is flat by itself. Along an inner one, the parts of each member are first put
//! together, or the parts from each member taken apart after.

use ir::layout::{Exchange, Reduce};
use ir::program::Collective;
use kernels::reorder::Reorder;

/// An exchange of a group of several members, for one of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flat {
    /// From the source into staging.
    pub(crate) pack: Option<Reorder>,
    pub(crate) call: Call,
    /// From staging into the destination.
    pub(crate) unpack: Option<Reorder>,
}

/// What members do together. Counts are numbers of one member's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Joins so many numbers, in place.
    AllReduce { count: u64, reduce: Reduce },
    /// Every member gives so many.
    AllGather { count: u64 },
    /// Every member gets so many.
    ReduceScatter { count: u64 },
    /// Every member gives every other so many.
    AllToAll { count: u64 },
    /// Nothing moves between members.
    Local,
}

impl Flat {
    /// The exchange for the member at a position among so many.
    pub(crate) fn new(collective: &Collective, members: u64, position: u64) -> Flat {
        let word = collective.element.bytes();
        let shape = &collective.shape;
        let elements: u64 = shape.iter().product();
        let only = |call| Flat { pack: None, call, unpack: None };
        match collective.exchange {
            Exchange::AllReduce { reduce, .. } => only(Call::AllReduce { count: elements, reduce }),
            Exchange::AllGather { dimension, .. } => {
                let [outer, size, inner] = around(shape, dimension);
                let unpack = spread(members, outer, size * inner * word);
                Flat { unpack, ..only(Call::AllGather { count: elements }) }
            }
            Exchange::ReduceScatter { dimension, .. } => {
                let [outer, size, inner] = around(shape, dimension);
                let pack = spread(outer, members, size / members * inner * word);
                Flat { pack, ..only(Call::ReduceScatter { count: elements / members }) }
            }
            Exchange::AllToAll { gathered, split, .. } => {
                let [outer, size, inner] = around(shape, split);
                let pack = spread(outer, members, size / members * inner * word);
                let mut part = shape.clone();
                part[split] /= members;
                let [outer, size, inner] = around(&part, gathered);
                let unpack = spread(members, outer, size * inner * word);
                Flat { pack, call: Call::AllToAll { count: elements / members }, unpack }
            }
            Exchange::Slice { dimension, .. } => {
                let [outer, size, inner] = around(shape, dimension);
                let run = size / members * inner * word;
                let whole = size * inner * word;
                // As an unpacking, whose staging is the source itself.
                let cut = Reorder { counts: [outer, 1], run, first: position * run, from: [whole, 0], to: [run, 0] };
                Flat { unpack: Some(cut), ..only(Call::Local) }
            }
        }
    }

    /// Staging before and after the call, in bytes: none where it reads the source and writes the destination.
    pub(crate) fn staging(&self) -> [u64; 2] {
        let after = match self.call {
            Call::Local => 0,
            Call::AllReduce { .. } | Call::AllGather { .. } | Call::ReduceScatter { .. } | Call::AllToAll { .. } => {
                self.unpack.map_or(0, |reorder| reorder.bytes())
            }
        };
        [self.pack.map_or(0, |reorder| reorder.bytes()), after]
    }
}

/// `[a][b][run]` to `[b][a][run]`, where that is not the same.
fn spread(a: u64, b: u64, run: u64) -> Option<Reorder> {
    (a > 1 && b > 1 && run > 0).then(|| Reorder::swap([a, b], run))
}

/// Elements before, along and behind a dimension.
fn around(shape: &[u64], dimension: usize) -> [u64; 3] {
    [shape[..dimension].iter().product(), shape[dimension], shape[dimension + 1..].iter().product()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::graph::Element;
    use ir::mesh::Axis;

    const MEMBERS: u64 = 2;
    const SHAPE: [u64; 3] = [2, 4, 6];

    /// What each member has after it, done in memory as the library would; numbers are their place and their member.
    fn run(exchange: &Exchange) -> Vec<Vec<u8>> {
        let collective =
            Collective { exchange: exchange.clone(), axis: Axis::Data, shape: SHAPE.to_vec(), element: Element::F32 };
        let elements = SHAPE.iter().product::<u64>();
        let packed: Vec<(Flat, Vec<u8>)> = (0..MEMBERS)
            .map(|member| {
                let flat = Flat::new(&collective, MEMBERS, member);
                let source: Vec<u8> =
                    (0..elements).flat_map(|at| (at * 10 + member).to_ne_bytes()[..4].to_vec()).collect();
                let packed = flat.pack.map_or(source.clone(), |pack| applied(&pack, &source));
                (flat, packed)
            })
            .collect();
        let own = |member: u64| {
            let (flat, source) = &packed[member as usize];
            let parts = |count: u64, index: &dyn Fn(u64) -> (u64, u64)| -> Vec<u8> {
                let bytes = (count * 4) as usize;
                let part = |from: u64| {
                    let (from, place) = index(from);
                    packed[from as usize].1[place as usize * bytes..][..bytes].to_vec()
                };
                (0..MEMBERS).flat_map(part).collect()
            };
            let after = match flat.call {
                Call::AllGather { count } => parts(count, &|from| (from, 0)),
                Call::AllToAll { count } => parts(count, &|from| (from, member)),
                // Parts side by side instead of their sum, so that one sees whose they are.
                Call::ReduceScatter { count } => parts(count, &|from| (from, member)),
                Call::Local => source.clone(),
                Call::AllReduce { .. } => unreachable!("an all-reduce is flat"),
            };
            flat.unpack.map_or(after.clone(), |unpack| applied(&unpack, &after))
        };
        (0..MEMBERS).map(own).collect()
    }

    fn applied(reorder: &Reorder, from: &[u8]) -> Vec<u8> {
        let mut to = vec![0; reorder.bytes() as usize];
        reorder.apply(from, &mut to);
        to
    }

    fn numbers(bytes: &[u8]) -> Vec<u32> {
        bytes.as_chunks().0.iter().map(|&word| u32::from_ne_bytes(word)).collect()
    }

    /// All places of a shape, the last dimension fastest.
    fn places(shape: &[u64]) -> Vec<Vec<u64>> {
        let longer = |places: Vec<Vec<u64>>, &size: &u64| {
            let each = |place: &Vec<u64>| (0..size).map(|at| [place.as_slice(), &[at]].concat()).collect::<Vec<_>>();
            places.iter().flat_map(each).collect()
        };
        shape.iter().fold(vec![Vec::new()], longer)
    }

    fn source(place: &[u64], member: u64) -> u32 {
        (place.iter().zip(SHAPE).fold(0, |index, (at, size)| index * size + at) * 10 + member) as u32
    }

    #[test]
    fn exchanges_of_every_dimension_put_numbers_where_they_belong() {
        let axes = || vec![1];
        for dimension in 0..3 {
            let part = SHAPE[dimension] / MEMBERS;
            let gathered = run(&Exchange::AllGather { axes: axes(), dimension });
            let sliced = run(&Exchange::Slice { axes: axes(), dimension });
            let scattered = run(&Exchange::ReduceScatter { axes: axes(), dimension });
            for member in 0..MEMBERS {
                let mut shape = SHAPE;
                shape[dimension] *= MEMBERS;
                let expected = places(&shape).into_iter().map(|mut place| {
                    let from = place[dimension] / SHAPE[dimension];
                    place[dimension] %= SHAPE[dimension];
                    source(&place, from)
                });
                assert_eq!(numbers(&gathered[member as usize]), expected.collect::<Vec<_>>(), "gather {dimension}");
                let mut shape = SHAPE;
                shape[dimension] = part;
                let cut = |from: u64| {
                    places(&shape).into_iter().map(move |mut place| {
                        place[dimension] += member * part;
                        source(&place, from)
                    })
                };
                assert_eq!(numbers(&sliced[member as usize]), cut(member).collect::<Vec<_>>(), "slice {dimension}");
                let expected: Vec<u32> = (0..MEMBERS).flat_map(cut).collect();
                assert_eq!(numbers(&scattered[member as usize]), expected, "scatter {dimension}");
            }
        }
    }

    #[test]
    fn a_cut_moves_from_any_dimension_to_any_other() {
        for gathered in 0..3 {
            for split in (0..3).filter(|&split| split != gathered) {
                let found = run(&Exchange::AllToAll { axes: vec![1], gathered, split });
                let mut shape = SHAPE;
                shape[gathered] *= MEMBERS;
                shape[split] /= MEMBERS;
                for member in 0..MEMBERS {
                    let expected = places(&shape).into_iter().map(|mut place| {
                        let from = place[gathered] / SHAPE[gathered];
                        place[gathered] %= SHAPE[gathered];
                        place[split] += member * shape[split];
                        source(&place, from)
                    });
                    assert_eq!(numbers(&found[member as usize]), expected.collect::<Vec<_>>(), "{gathered} {split}");
                }
            }
        }
    }
}
