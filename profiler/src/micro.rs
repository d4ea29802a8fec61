//! Programs of one exchange, one transfer, or instructions that do next to nothing.

use ir::graph::Element;
use ir::layout::Exchange;
use ir::mesh::Mesh;
use ir::program::*;
use ir::units::Bytes;

use crate::alone::{fill, resident};

/// How often the work stands in a program.
pub(crate) const REPEATS: usize = 16;
/// Buffers of at least this size are used in turn, so that none is still in a core's own cache.
const ROTATED: Bytes = Bytes(8 << 20);

/// A program in which all of `ranks` ranks do one exchange again and again.
pub(crate) fn exchange(collective: &Collective, ranks: u32) -> Draft {
    let mut draft = empty(&[1, ranks]);
    let exchange = along(&collective.exchange, 1);
    draft.collectives.push(Collective { exchange, ..collective.clone() });
    let is_in_place = matches!(collective.exchange, Exchange::AllReduce { .. });
    let mut sizes = vec![collective.source_bytes()];
    if !is_in_place {
        sizes.push(collective.destination_bytes(ranks));
    }
    let copies = copies(sizes.iter().copied().sum());
    let sets: Vec<Vec<BufferId>> =
        (0..copies).map(|_| sizes.iter().map(|&bytes| buffer(&mut draft, 0, bytes)).collect()).collect();
    for set in sets.iter().cycle().take(REPEATS) {
        push(&mut draft, 0, (Stream::Exchange(collective.axis), Action::Exchange(CollectiveId(0))), set);
    }
    finished(draft)
}

/// A program in which one rank sends to another, again and again.
pub(crate) fn transfer(bytes: Bytes) -> Draft {
    let mut draft = empty(&[2]);
    let actions = [
        (Stream::Send(Phase::Forward), Action::Send { to: 1 }),
        (Stream::Receive(Phase::Forward), Action::Receive { from: 0 }),
    ];
    for (role, action) in actions.into_iter().enumerate() {
        let buffers: Vec<BufferId> = (0..copies(bytes)).map(|_| buffer(&mut draft, role, bytes)).collect();
        for &buffer in buffers.iter().cycle().take(REPEATS) {
            push(&mut draft, role, action, &[buffer]);
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
fn along(exchange: &Exchange, axis: usize) -> Exchange {
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
fn empty(sizes: &[u32]) -> Draft {
    let mesh = Mesh::new(sizes[0], &sizes[1..]);
    let role = |stage| Role {
        stage,
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
        roles: (0..mesh.stages()).map(role).collect(),
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

fn push(draft: &mut Draft, role: usize, (stream, action): (Stream, Action), operands: &[BufferId]) {
    let span = Span { microbatch: None, layer: None, phase: Phase::Forward };
    let role = &mut draft.roles[role];
    let range = (role.operand_list.len() as u32, operands.len() as u16);
    role.operand_list.extend_from_slice(operands);
    role.code.push(Instr { stream, span, action, operands: range });
}

/// All buffers live always.
fn finished(mut draft: Draft) -> Draft {
    for role in &mut draft.roles {
        role.live_bound = role.arena;
    }
    draft
}
