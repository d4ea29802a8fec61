//! A program in which two streams share memory: shares are gathered ahead of their use, into two buffers by turns.

use ir::layout::Exchange;
use ir::mesh::{Axis, Mesh};
use ir::op::Op;
use ir::program::*;

use super::builder::{Builder, SCALARS};

pub(crate) const ELEMENTS: u64 = 64;
pub(crate) const LAYERS: usize = 6;
const GATHER: Stream = Stream::Exchange(Axis::Data);

/// The program, the shares that it reads, and the sum of all of them that it makes.
pub(crate) struct Prefetch {
    pub(crate) draft: Draft,
    pub(crate) shares: Vec<BufferId>,
    pub(crate) sum: BufferId,
}

/// On so many ranks: x = x + gather(share) for each layer; then the loss is the sum over ranks of x's first numbers.
pub(crate) fn prefetch(ranks: u32) -> Prefetch {
    let step = StepSize { microbatches: 1, sequences: 1, sequence: 1 };
    let mut builder = Builder::new(&Mesh::new(1, &[ranks]), step);
    let share = ELEMENTS / u64::from(ranks);
    let gather = builder.collective(Exchange::AllGather { axes: vec![1], dimension: 0 }, Axis::Data, &[share]);
    let reduce = Exchange::AllReduce { axes: vec![1], reduce: ir::layout::Reduce::Sum };
    let reduce = builder.collective(reduce, Axis::Data, &[2]);
    let [add, zero, clear] = [
        builder.fragment(Op::Add, 2, 1, ELEMENTS),
        builder.fragment(Op::Zero, 0, 1, ELEMENTS),
        builder.fragment(Op::Zero, 0, 1, 2),
    ];
    let shares: Vec<BufferId> = (0..LAYERS).map(|_| builder.buffer(0, share, Content::Boundary)).collect();
    let sum = builder.buffer(0, ELEMENTS, Content::Boundary);
    let by_turns = |builder: &mut Builder, count: usize| -> Vec<BufferId> {
        let first = [(); 2].map(|()| builder.buffer(0, ELEMENTS, Content::Value));
        let rest = (2..count).map(|index| {
            let address = builder.address(0, first[index % 2]);
            builder.buffer_at(0, address, ELEMENTS, Content::Value)
        });
        first.into_iter().chain(rest.collect::<Vec<_>>()).collect()
    };
    let gathered = by_turns(&mut builder, LAYERS);
    let x = by_turns(&mut builder, LAYERS);
    let ahead = |builder: &mut Builder, layer: usize| {
        builder.push(0, GATHER, Action::Exchange(gather), &[shares[layer], gathered[layer]]);
        builder.signal(0, GATHER)
    };
    let mut ready = vec![ahead(&mut builder, 0), ahead(&mut builder, 1)];
    builder.push(0, Stream::Compute, Action::Compute(clear), &[SCALARS]);
    builder.push(0, Stream::Compute, Action::Compute(zero), &[x[0]]);
    for layer in 0..LAYERS {
        builder.wait(0, Stream::Compute, ready[layer]);
        let next = x.get(layer + 1).copied().unwrap_or(sum);
        builder.push(0, Stream::Compute, Action::Compute(add), &[x[layer], gathered[layer], next]);
        builder.push(0, Stream::Compute, Action::Free, &[x[layer]]);
        builder.push(0, Stream::Compute, Action::Free, &[gathered[layer]]);
        if layer + 2 < LAYERS {
            let freed = builder.signal(0, Stream::Compute);
            builder.wait(0, GATHER, freed);
            let event = ahead(&mut builder, layer + 2);
            ready.push(event);
        }
    }
    let last = builder.signal(0, Stream::Compute);
    builder.wait(0, GATHER, last);
    builder.push(0, GATHER, Action::Exchange(reduce), &[SCALARS]);
    Prefetch { draft: builder.finish(), shares, sum }
}
