//! Writes small drafts by hand.

use ir::graph::Element;
use ir::layout::Exchange;
use ir::mesh::{Axis, Mesh};
use ir::op::{Op, Write};
use ir::program::*;
use ir::units::Bytes;

/// A draft in the making. Buffers of a role follow one another; every role begins with its scalars.
pub(crate) struct Builder {
    draft: Draft,
    free: Vec<u64>,
    events: u32,
}

pub(crate) const SCALARS: BufferId = BufferId(0);

pub(crate) fn bytes(elements: u64) -> Bytes {
    Bytes(elements * 4).round_up(ALIGNMENT)
}

impl Builder {
    pub(crate) fn new(mesh: &Mesh, step: StepSize) -> Builder {
        let role = |stage| Role {
            id: RoleId(stage),
            stages: vec![StageId(stage)],
            buffers: Vec::new(),
            code: Vec::new(),
            operand_list: Vec::new(),
            arena: Bytes::ZERO,
            live_bound: Bytes::ZERO,
        };
        let roles = (0..mesh.stages()).map(role).collect();
        let (fragments, collectives, blocks) = (Vec::new(), Vec::new(), Vec::new());
        let (transfers, role_of) = (Vec::new(), Draft::roles_along(mesh));
        let draft = Draft { mesh: mesh.clone(), step, fragments, collectives, blocks, transfers, roles, role_of };
        let mut builder = Builder { free: vec![0; mesh.stages() as usize], draft, events: 0 };
        (0..mesh.stages() as usize).for_each(|role| assert_eq!(builder.buffer(role, 2, Content::Scalars), SCALARS));
        builder
    }

    /// A buffer behind those of the role so far.
    pub(crate) fn buffer(&mut self, role: usize, elements: u64, content: Content) -> BufferId {
        let address = self.free[role];
        self.free[role] += bytes(elements).0;
        self.buffer_at(role, address, elements, content)
    }

    /// A buffer where the caller wants it.
    pub(crate) fn buffer_at(&mut self, role: usize, address: u64, elements: u64, content: Content) -> BufferId {
        self.free[role] = self.free[role].max(address + bytes(elements).0);
        let buffers = &mut self.draft.roles[role].buffers;
        buffers.push(Buffer { bytes: bytes(elements), address, content });
        BufferId(buffers.len() as u32 - 1)
    }

    pub(crate) fn address(&self, role: usize, id: BufferId) -> u64 {
        self.draft.roles[role].buffers[id.index()].address
    }

    pub(crate) fn block(&mut self, block: Block) -> BlockId {
        self.draft.blocks.push(block);
        BlockId(self.draft.blocks.len() as u32 - 1)
    }

    /// A transfer from one role to another; each of the same ends has the next microbatch.
    pub(crate) fn transfer(&mut self, [from, to]: [u32; 2], direction: Direction) -> TransferId {
        let id = self.draft.transfers.len();
        let (from, to) = (RoleId(from), RoleId(to));
        self.draft.transfers.push(Transfer { from, to, direction, microbatch: Some(id as u16), layer: 0 });
        TransferId(id as u32)
    }

    pub(crate) fn collective(&mut self, exchange: Exchange, axis: Axis, shape: &[u64]) -> CollectiveId {
        self.collective_of(Element::F32, exchange, axis, shape)
    }

    pub(crate) fn collective_of(
        &mut self,
        element: Element,
        exchange: Exchange,
        axis: Axis,
        shape: &[u64],
    ) -> CollectiveId {
        self.draft.collectives.push(Collective { exchange, axis, shape: shape.to_vec(), element });
        CollectiveId(self.draft.collectives.len() as u32 - 1)
    }

    /// A fragment of one kernel, each of whose operands is a binding of so many numbers: inputs, then outputs.
    pub(crate) fn fragment(&mut self, op: Op, inputs: u16, outputs: u16, elements: u64) -> FragmentId {
        let operand =
            |binding| Operand { binding, offset: 0, element: Element::F32, dimensions: vec![('n', elements)] };
        let output = |binding| Output { operand: operand(binding), write: Write::Replace };
        let kernel = Kernel {
            op,
            inputs: (0..inputs).map(operand).collect(),
            outputs: (inputs..inputs + outputs).map(output).collect(),
            offsets: Vec::new(),
            workspace: None,
        };
        self.fragment_of(kernel)
    }

    pub(crate) fn fragment_of(&mut self, kernel: Kernel) -> FragmentId {
        self.draft.fragments.push(Fragment::of(kernel.op.name(), kernel));
        FragmentId(self.draft.fragments.len() as u32 - 1)
    }

    pub(crate) fn push(&mut self, role: usize, stream: Stream, action: Action, operands: &[BufferId]) {
        let span = Span { microbatch: Some(0), layer: Some(3), phase: Phase::Forward };
        let role = &mut self.draft.roles[role];
        let operand_range = (role.operand_list.len() as u32, operands.len() as u16);
        role.operand_list.extend_from_slice(operands);
        role.code.push(Instr { stream, span, action, operands: operand_range });
    }

    pub(crate) fn signal(&mut self, role: usize, stream: Stream) -> EventId {
        self.events += 1;
        self.push(role, stream, Action::Signal(EventId(self.events - 1)), &[]);
        EventId(self.events - 1)
    }

    pub(crate) fn wait(&mut self, role: usize, stream: Stream, event: EventId) {
        self.push(role, stream, Action::Wait(event), &[]);
    }

    pub(crate) fn finish(mut self) -> Draft {
        for role in 0..self.draft.roles.len() {
            let live_bound = live_bound(&self.draft, &self.draft.roles[role]);
            self.draft.roles[role].arena = Bytes(self.free[role]);
            self.draft.roles[role].live_bound = live_bound;
        }
        self.draft
    }
}

fn live_bound(draft: &Draft, role: &Role) -> Bytes {
    let mut alive: Vec<bool> = role.buffers.iter().map(Buffer::is_resident).collect();
    let mut most = Bytes::ZERO;
    let live = |alive: &[bool]| -> Bytes {
        role.buffers.iter().zip(alive).filter(|(_, alive)| **alive).map(|(buffer, _)| buffer.bytes).sum()
    };
    for instr in &role.code {
        for (id, access) in role.uses(&draft.fragments, instr) {
            alive[id.index()] |= access != Access::Read;
        }
        most = most.max(live(&alive));
        if instr.action == Action::Free {
            alive[role.operands(instr)[0].index()] = false;
        }
    }
    most.max(live(&alive))
}
