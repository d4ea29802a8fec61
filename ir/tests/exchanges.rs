//! Exchanges, applied to numbers, turn what ranks hold under one layout into what they hold under another.

mod common;

use common::Random;
use hetu_ir::layout::{Exchange, Layout, Reduce};
use hetu_ir::mesh::{AxisSet, Mesh};

/// What one rank holds of a tensor: local sizes and numbers, row-major.
#[derive(Clone, Debug, PartialEq)]
struct Local {
    shape: Vec<u64>,
    values: Vec<i64>,
}

impl Local {
    /// The numbers by their places.
    fn of(shape: &[u64], value: impl Fn(&[u64]) -> i64) -> Local {
        let count: u64 = shape.iter().product();
        let place = |mut index: u64| {
            let mut place = vec![0; shape.len()];
            for (place, &size) in place.iter_mut().zip(shape).rev() {
                *place = index % size;
                index /= size;
            }
            place
        };
        Local { shape: shape.to_vec(), values: (0..count).map(|index| value(&place(index))).collect() }
    }

    fn at(&self, place: &[u64]) -> i64 {
        let index = place.iter().zip(&self.shape).fold(0, |index, (&place, &size)| index * size + place);
        self.values[index as usize]
    }

    /// One of `parts` equal parts of a dimension.
    fn part(&self, dimension: usize, index: u64, parts: u64) -> Local {
        let mut shape = self.shape.clone();
        shape[dimension] /= parts;
        let first = index * shape[dimension];
        Local::of(&shape, |place| {
            let mut place = place.to_vec();
            place[dimension] += first;
            self.at(&place)
        })
    }

    /// Parts of a dimension put together.
    fn joined(parts: &[Local], dimension: usize) -> Local {
        let mut shape = parts[0].shape.clone();
        let own = shape[dimension];
        shape[dimension] *= parts.len() as u64;
        Local::of(&shape, |place| {
            let mut place = place.to_vec();
            let from = place[dimension] / own;
            place[dimension] %= own;
            parts[from as usize].at(&place)
        })
    }

    fn sum(parts: &[Local]) -> Local {
        Local::of(&parts[0].shape, |place| parts.iter().map(|part| part.at(place)).sum())
    }
}

/// What a rank holds of a tensor whose element at a place is `value`. The first rank along partial axes has a rest that
/// makes the sum right; the others have something.
fn held(mesh: &Mesh, rank: u32, layout: &Layout, whole: &[u64], value: &dyn Fn(&[u64]) -> i64) -> Local {
    let parts = |axes: &Vec<usize>| axes.iter().map(|&axis| u64::from(mesh.sizes()[axis])).product::<u64>();
    let shape: Vec<u64> = whole.iter().zip(layout.splits()).map(|(size, axes)| size / parts(axes)).collect();
    let first: Vec<u64> =
        shape.iter().zip(layout.splits()).map(|(size, axes)| size * u64::from(mesh.index(rank, axes))).collect();
    let partial: Vec<usize> = layout.partial().iter().collect();
    let (index, count) = (i64::from(mesh.index(rank, &partial)), i64::from(mesh.extent(layout.partial())));
    Local::of(&shape, |place| {
        let place: Vec<u64> = place.iter().zip(&first).map(|(place, first)| place + first).collect();
        match index {
            0 => value(&place) - (1..count).map(|other| 7 * other).sum::<i64>(),
            other => 7 * other,
        }
    })
}

/// The definition of each exchange, member by member.
fn applied(mesh: &Mesh, exchange: &Exchange, before: &[Local]) -> Vec<Local> {
    let after = |rank: u32| {
        let members = mesh.members(rank, exchange.axes());
        let held: Vec<Local> = members.iter().map(|&member| before[member as usize].clone()).collect();
        let (own, count) = (u64::from(mesh.index(rank, exchange.axes())), members.len() as u64);
        match *exchange {
            Exchange::AllReduce { .. } => Local::sum(&held),
            Exchange::ReduceScatter { dimension, .. } => Local::sum(&held).part(dimension, own, count),
            Exchange::AllGather { dimension, .. } => Local::joined(&held, dimension),
            Exchange::AllToAll { gathered, split, .. } => {
                let parts: Vec<Local> = held.iter().map(|held| held.part(split, own, count)).collect();
                Local::joined(&parts, gathered)
            }
            Exchange::Slice { dimension, .. } => before[rank as usize].part(dimension, own, count),
        }
    };
    (0..mesh.rank_count()).map(after).collect()
}

/// A layout that uses some of the axes; where each is used is drawn.
fn layout(random: &mut Random, mesh: &Mesh, dimensions: usize, may_be_partial: AxisSet) -> Layout {
    let mut splits = vec![Vec::new(); dimensions];
    let mut partial = AxisSet::EMPTY;
    let mut axes: Vec<usize> = (1..mesh.sizes().len()).collect();
    while let Some(axis) = (!axes.is_empty()).then(|| axes.remove(random.below(axes.len()))) {
        match random.below(dimensions + 2) {
            use_of if use_of < dimensions => splits[use_of].push(axis),
            use_of if use_of == dimensions && may_be_partial.contains(axis) => {
                partial = partial.union(AxisSet::only(axis));
            }
            _ => {}
        }
    }
    Layout::new(splits, partial, Reduce::Sum)
}

#[test]
fn exchanges_turn_one_layout_into_another() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let sizes: Vec<u32> = (0..1 + random.below(3)).map(|_| 2 + random.below(2) as u32).collect();
        let mesh = Mesh::new(1, &sizes);
        // Every axis cuts every dimension evenly.
        let whole: Vec<u64> = vec![u64::from(sizes.iter().product::<u32>()); 1 + random.below(3)];
        let all: AxisSet = (1..=sizes.len()).collect();
        let from = layout(&mut random, &mesh, whole.len(), all);
        let to = layout(&mut random, &mesh, whole.len(), from.partial());
        let value = |place: &[u64]| place.iter().fold(1, |value, &place| value * 31 + place as i64);
        let hold = |layout: &Layout| -> Vec<Local> {
            (0..mesh.rank_count()).map(|rank| held(&mesh, rank, layout, &whole, &value)).collect()
        };
        let (mut locals, mut reached) = (hold(&from), from.clone());
        for exchange in from.exchanges_to(&to) {
            let ranks = mesh.extent(exchange.axes().iter().copied().collect());
            let expected = exchange.shape_after(&locals[0].shape, ranks);
            locals = applied(&mesh, &exchange, &locals);
            assert_eq!(locals[0].shape, expected, "seed {seed}: {exchange:?}");
            reached = exchange.layout_after(&reached);
        }
        assert_eq!((reached.splits(), reached.partial()), (to.splits(), to.partial()), "seed {seed}: {from:?}");
        // What is still partial was so from the start, and its parts are those of the start.
        if to.partial().is_empty() {
            assert_eq!(locals, hold(&to), "seed {seed}: from {from:?} to {to:?}");
        }
    }
}
