//! Every exchange against its definition, number by number.

use ir::graph::Element;
use ir::layout::{Exchange, Reduce};
use ir::mesh::{Axis, Mesh};
use ir::program::{Action, BufferId, Content, StepSize, Stream};
use ir::seed::{Draws, Seed};
use kernels::bf16::Bf16;

use super::builder::Builder;
use super::{TOKEN, bits, random, read, read_short, verified, write, write_short};
use crate::session::Backend;

const STEP: StepSize = StepSize { microbatches: 1, sequences: 1, sequence: 1 };

/// What a member of a group should get, by definition: `sources` are those of all members, in order.
fn naive(exchange: &Exchange, shape: &[u64], sources: &[Vec<f32>], member: usize) -> Vec<f32> {
    let members = sources.len() as u64;
    let at = |from: usize, index: &[u64]| {
        let flat = index.iter().zip(shape).fold(0, |flat, (index, size)| flat * size + index);
        sources[from][flat as usize]
    };
    let all = |index: &[u64], join: fn(f32, f32) -> f32| {
        (1..sources.len()).fold(at(0, index), |joined, from| join(joined, at(from, index)))
    };
    let sum = |a: f32, b: f32| a + b;
    let mut result = shape.to_vec();
    match *exchange {
        Exchange::AllReduce { .. } => {}
        Exchange::ReduceScatter { dimension, .. } | Exchange::Slice { dimension, .. } => result[dimension] /= members,
        Exchange::AllGather { dimension, .. } => result[dimension] *= members,
        Exchange::AllToAll { gathered, split, .. } => {
            result[gathered] *= members;
            result[split] /= members;
        }
    }
    let value = |mut flat: u64| {
        let mut index: Vec<u64> = result.iter().rev().map(|size| (flat % size, flat /= size).0).collect();
        index.reverse();
        match *exchange {
            Exchange::AllReduce { reduce: Reduce::Sum, .. } => all(&index, sum),
            Exchange::AllReduce { reduce: Reduce::Max, .. } => all(&index, f32::max),
            Exchange::ReduceScatter { dimension, .. } => {
                index[dimension] += member as u64 * result[dimension];
                all(&index, sum)
            }
            Exchange::Slice { dimension, .. } => {
                index[dimension] += member as u64 * result[dimension];
                at(member, &index)
            }
            Exchange::AllGather { dimension, .. } => {
                let from = index[dimension] / shape[dimension];
                index[dimension] %= shape[dimension];
                at(from as usize, &index)
            }
            Exchange::AllToAll { gathered, split, .. } => {
                let from = index[gathered] / shape[gathered];
                index[gathered] %= shape[gathered];
                index[split] += member as u64 * result[split];
                at(from as usize, &index)
            }
        }
    };
    (0..result.iter().product()).map(value).collect()
}

/// Runs one exchange twice in a step on all ranks of a mesh, and compares with the definition.
fn check(mesh: &Mesh, exchange: &Exchange, shape: &[u64], backend: Backend) {
    [Element::F32, Element::Bf16].into_iter().for_each(|element| check_of(element, mesh, exchange, shape, backend));
}

fn check_of(element: Element, mesh: &Mesh, exchange: &Exchange, shape: &[u64], backend: Backend) {
    let stream = Stream::Exchange(Axis::Data);
    let mut builder = Builder::new(mesh, STEP);
    let id = builder.collective_of(element, exchange.clone(), Axis::Data, shape);
    let size: u64 = shape.iter().product();
    let in_place = matches!(exchange, Exchange::AllReduce { .. });
    let members = u64::from(mesh.extent(exchange.axes().iter().copied().collect()));
    let mut pairs: Vec<(BufferId, BufferId)> = Vec::new();
    for _ in 0..2 {
        let ids = (0..mesh.stages() as usize).map(|role| {
            let source = builder.buffer(role, size, Content::Boundary);
            let destination = if in_place { source } else { builder.buffer(role, size * members, Content::Boundary) };
            let operands = [source, destination];
            builder.push(role, stream, Action::Exchange(id), if in_place { &operands[..1] } else { &operands });
            (source, destination)
        });
        let ids: Vec<_> = ids.collect();
        assert!(ids.iter().all(|pair| *pair == ids[0]));
        pairs.push(ids[0]);
    }
    let mut session = verified(&builder.finish(), backend);
    // What is kept in 16 bits is added in 32 and rounded once.
    let kept = |value: f32| if element == Element::Bf16 { Bf16::rounded(value).widened() } else { value };
    let values = |rank: u32, turn: usize| -> Vec<f32> {
        random(Seed(u64::from(rank)).derive(turn as u64), size).into_iter().map(kept).collect()
    };
    for (turn, &(source, _)) in pairs.iter().enumerate() {
        for rank in 0..mesh.rank_count() {
            let write = if element == Element::Bf16 { write_short } else { write };
            write(&mut session, rank, source, &values(rank, turn));
        }
    }
    session.step(TOKEN).unwrap();
    for (turn, &(_, destination)) in pairs.iter().enumerate() {
        for rank in 0..mesh.rank_count() {
            let group = mesh.members(rank, exchange.axes());
            let sources: Vec<_> = group.iter().map(|&member| values(member, turn)).collect();
            let position = mesh.index(rank, exchange.axes()) as usize;
            let expected: Vec<f32> = naive(exchange, shape, &sources, position).into_iter().map(kept).collect();
            let read = if element == Element::Bf16 { read_short } else { read };
            let found = read(&session, rank, destination, expected.len() as u64);
            let what = format!("{exchange:?} of {shape:?} in {element:?} on {mesh}, rank {rank}, {backend:?}");
            assert_eq!(bits(&found), bits(&expected), "{what}");
        }
    }
}

#[test]
fn every_exchange_does_what_its_definition_says() {
    let seed = 5;
    let mut draws = Draws::new(Seed(seed));
    let mesh = Mesh::new(2, &[2, 3]);
    for round in 0..60 {
        let axes = draws.pick(&[vec![1], vec![2], vec![1, 2], vec![2, 1], vec![0], vec![0, 2]]).clone();
        let members = u64::from(mesh.extent(axes.iter().copied().collect()));
        let shape: Vec<u64> = (0..3).map(|_| members * (1 + draws.below(2))).collect();
        let dimension = draws.below(3) as usize;
        let split = (dimension + 1 + draws.below(2) as usize) % 3;
        let exchange = match round % 6 {
            0 => Exchange::AllReduce { axes, reduce: Reduce::Sum },
            1 => Exchange::AllReduce { axes, reduce: Reduce::Max },
            2 => Exchange::ReduceScatter { axes, dimension },
            3 => Exchange::AllGather { axes, dimension },
            4 => Exchange::AllToAll { axes, gathered: dimension, split },
            _ => Exchange::Slice { axes, dimension },
        };
        check(&mesh, &exchange, &shape, Backend::Shuffle { seed: round });
        check(&mesh, &exchange, &shape, Backend::Threads);
    }
}

#[test]
fn a_reduction_longer_than_a_chunk_and_one_shorter_than_its_group_are_whole() {
    for (mesh, shape) in [(Mesh::new(1, &[3]), [5003]), (Mesh::new(1, &[4]), [2]), (Mesh::new(1, &[1]), [7])] {
        let exchange = Exchange::AllReduce { axes: vec![1], reduce: Reduce::Sum };
        check(&mesh, &exchange, &shape, Backend::Threads);
    }
    let exchange = Exchange::ReduceScatter { axes: vec![1], dimension: 1 };
    check(&Mesh::new(1, &[2]), &exchange, &[2, 2600], Backend::Threads);
}
