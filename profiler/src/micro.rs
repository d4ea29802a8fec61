//! Programs of one exchange, one transfer, or instructions that do next to nothing.

use ir::graph::Element;
use ir::layout::Exchange;
use ir::mesh::Mesh;
use ir::op::{Op, Write};
use ir::program::*;
use ir::units::Bytes;

use crate::alone::{fill, resident, zeros};

/// How often the work stands in a program.
pub(crate) const REPEATS: usize = 16;
/// Buffers of at least this size are used in turn, so that none is still in a core's own cache.
const ROTATED: Bytes = Bytes(8 << 20);

/// A program in which all of `ranks` ranks compute a little, each for itself, and then do one exchange, again and
/// again; and the same without the exchange.
///
/// Members that came early sleep until the last has come, on whatever core, and the source was just written: as in a
/// step. Exchanges without work between would meet on one core and cost a tenth.
pub(crate) fn exchange(collective: &Collective, ranks: u32) -> (Draft, Draft) {
    let mut draft = empty(&[1, ranks]);
    let exchange = along(&collective.exchange, 1);
    draft.collectives.push(Collective { exchange, ..collective.clone() });
    let mut sizes = vec![collective.source_bytes()];
    // An all-reduce is in place.
    if !matches!(collective.exchange, Exchange::AllReduce { .. }) {
        sizes.push(collective.destination_bytes(ranks));
    }
    let copies = copies(sizes.iter().copied().sum());
    let sets: Vec<Vec<BufferId>> =
        (0..copies).map(|_| sizes.iter().map(|&bytes| buffer(&mut draft, 0, bytes)).collect()).collect();
    draft.fragments.push(labour(draft.roles[0].buffers[sets[0][0].index()].bytes));
    let [a, b, c] = std::array::from_fn(|_| buffer(&mut draft, 0, SQUARE));
    let stream = Stream::Exchange(collective.axis);
    let mut without = draft.clone();
    for (turn, set) in sets.iter().cycle().take(REPEATS).enumerate() {
        let [computed, exchanged] = [0, 1].map(|event| EventId(2 * turn as u32 + event));
        let compute = (Stream::Compute, Action::Compute(FragmentId(0)));
        push(&mut draft, 0, compute, &[a, b, c, set[0]]);
        push(&mut draft, 0, (Stream::Compute, Action::Signal(computed)), &[]);
        push(&mut draft, 0, (stream, Action::Wait(computed)), &[]);
        push(&mut draft, 0, (stream, Action::Exchange(CollectiveId(0))), set);
        push(&mut draft, 0, (stream, Action::Signal(exchanged)), &[]);
        push(&mut draft, 0, (Stream::Compute, Action::Wait(exchanged)), &[]);
        push(&mut without, 0, compute, &[a, b, c, set[0]]);
    }
    (finished(draft), finished(without))
}

/// Rows and columns of the matrices that ranks multiply before they exchange: a few hundred microseconds of work.
const SIDE: u64 = 256;
/// What such a matrix takes.
const SQUARE: Bytes = Bytes(SIDE * SIDE * 4);

/// A product of two matrices, and then zeros in a buffer of so many bytes.
fn labour(bytes: Bytes) -> Fragment {
    let operand = |binding, letters: [char; 2]| Operand {
        binding,
        offset: 0,
        element: Element::F32,
        dimensions: letters.map(|letter| (letter, SIDE)).to_vec(),
    };
    let product = Kernel {
        op: Op::MatMul,
        inputs: vec![operand(0, ['m', 'k']), operand(1, ['k', 'n'])],
        outputs: vec![Output { operand: operand(2, ['m', 'n']), write: Write::Replace }],
        offsets: Vec::new(),
        workspace: None,
    };
    let mut fragment = Fragment::of("labour", product);
    fragment.bindings.push(Binding { bytes, access: Access::Write });
    fragment.kernels.push(zeros(3, bytes));
    fragment
}

/// A program in which one rank sends to another, again and again.
pub(crate) fn transfer(bytes: Bytes) -> Draft {
    let mut draft = empty(&[2]);
    let (from, to, direction) = (RoleId(0), RoleId(1), Direction::Forward);
    let transfer = |repeat| Transfer { from, to, direction, microbatch: Some(repeat as u16), layer: 0 };
    draft.transfers = (0..REPEATS).map(transfer).collect();
    for role in 0..2 {
        let buffers: Vec<BufferId> = (0..copies(bytes)).map(|_| buffer(&mut draft, role, bytes)).collect();
        for (repeat, &buffer) in buffers.iter().cycle().take(REPEATS).enumerate() {
            let id = TransferId(repeat as u32);
            let what = match role {
                0 => (Stream::Send(direction), Action::Send(id)),
                _ => (Stream::Receive(direction), Action::Receive(id)),
            };
            push(&mut draft, role, what, &[buffer]);
        }
    }
    finished(draft)
}

/// A program of `count` instructions on one rank that each write the smallest buffer there is.
pub(crate) fn tiny(count: usize) -> Draft {
    let mut draft = empty(&[1]);
    let bytes = Bytes(ALIGNMENT);
    draft.fragments.push(fill(bytes));
    let buffer = buffer(&mut draft, 0, bytes);
    for _ in 0..count {
        push(&mut draft, 0, (Stream::Compute, Action::Compute(FragmentId(0))), &[buffer]);
    }
    finished(draft)
}

/// The same exchange along one axis.
pub(crate) fn along(exchange: &Exchange, axis: usize) -> Exchange {
    let axes = vec![axis];
    match *exchange {
        Exchange::AllReduce { reduce, .. } => Exchange::AllReduce { axes, reduce },
        Exchange::ReduceScatter { dimension, .. } => Exchange::ReduceScatter { axes, dimension },
        Exchange::AllGather { dimension, .. } => Exchange::AllGather { axes, dimension },
        Exchange::AllToAll { gathered, split, .. } => Exchange::AllToAll { axes, gathered, split },
        Exchange::Slice { dimension, .. } => Exchange::Slice { axes, dimension },
    }
}

fn copies(bytes: Bytes) -> usize {
    ((ROTATED.0 / bytes.0.max(1)) as usize).clamp(2, REPEATS)
}

/// A draft without instructions. Roles begin with their scalars, as a step's result needs them.
pub(crate) fn empty(sizes: &[u32]) -> Draft {
    let mesh = Mesh::new(sizes[0], &sizes[1..]);
    let role = |stage| Role {
        id: RoleId(stage),
        stages: vec![StageId(stage)],
        buffers: vec![Buffer { bytes: Bytes(ALIGNMENT), address: 0, content: Content::Scalars }],
        code: Vec::new(),
        operand_list: Vec::new(),
        arena: Bytes(ALIGNMENT),
        live_bound: Bytes::ZERO,
    };
    Draft {
        step: StepSize { microbatches: 1, sequences: 1, sequence: 1 },
        fragments: Vec::new(),
        collectives: Vec::new(),
        blocks: Vec::new(),
        transfers: Vec::new(),
        roles: (0..mesh.stages()).map(role).collect(),
        role_of: Draft::roles_along(&mesh),
        mesh,
    }
}

fn buffer(draft: &mut Draft, role: usize, bytes: Bytes) -> BufferId {
    let bytes = Bytes(bytes.0.max(Element::F32.bytes())).round_up(ALIGNMENT);
    let content = resident(bytes, &mut draft.blocks);
    let role = &mut draft.roles[role];
    role.buffers.push(Buffer { bytes, address: role.arena.0, content });
    role.arena += bytes;
    BufferId(role.buffers.len() as u32 - 1)
}

pub(crate) fn push(draft: &mut Draft, role: usize, (stream, action): (Stream, Action), operands: &[BufferId]) {
    let span = Span { microbatch: None, layer: None, phase: Phase::Forward };
    let role = &mut draft.roles[role];
    let range = (role.operand_list.len() as u32, operands.len() as u16);
    role.operand_list.extend_from_slice(operands);
    role.code.push(Instr { stream, span, action, operands: range });
}

/// All buffers live always.
pub(crate) fn finished(mut draft: Draft) -> Draft {
    for role in &mut draft.roles {
        role.live_bound = role.arena;
    }
    draft
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::layout::Reduce;
    use ir::mesh::Axis;

    #[test]
    fn micro_programs_are_valid() {
        let axes = vec![2, 1];
        for exchange in [
            Exchange::AllReduce { axes: axes.clone(), reduce: Reduce::Sum },
            Exchange::ReduceScatter { axes: axes.clone(), dimension: 0 },
            Exchange::AllGather { axes: axes.clone(), dimension: 1 },
            Exchange::AllToAll { axes: axes.clone(), gathered: 1, split: 0 },
            Exchange::Slice { axes, dimension: 0 },
        ] {
            for shape in [vec![4, 1], vec![4, 3000]] {
                let exchange = exchange.clone();
                let collective = Collective { exchange, axis: Axis::Tensor, shape, element: Element::F32 };
                let (with, without) = super::exchange(&collective, 4);
                check(with);
                check(without);
            }
        }
        check(transfer(Bytes(1000)));
        check(tiny(5));
    }

    fn check(draft: Draft) {
        if let Err(violations) = Programs::verified(draft, Bytes(u64::MAX)) {
            panic!("{violations:#?}");
        }
    }
}
