//! Pass 7: every buffer of a role gets its address, from when it lives in the order of the code.

use ir::program::{Action, Role, StageId};
use ir::units::Bytes;

use crate::memory::place::{Effort, Lifetime, Placement, live_bound, place};
use crate::step::transfers::role_of;
use crate::step::writer::Writer;

/// The code of a role, with when its buffers need memory.
pub(crate) struct Arena {
    writer: Writer,
    /// Bytes of what lives longer than the step: it lies lowest.
    resident: u64,
    /// Buffers of the step in the order of their first use.
    order: Vec<usize>,
    /// When the memory of each is theirs.
    lifetimes: Vec<Lifetime>,
    /// The most of it that lives at once.
    alive: u64,
}

impl Arena {
    pub(crate) fn new(mut writer: Writer) -> Arena {
        let mut resident = 0;
        for buffer in writer.buffers.iter_mut().filter(|buffer| buffer.is_resident()) {
            buffer.address = resident;
            resident += buffer.bytes.0;
        }
        let (order, lifetimes, alive) = lifetimes(&writer);
        Arena { writer, resident, order, lifetimes, alive }
    }

    /// The most that lives or is held at once: no arena can be smaller.
    pub(crate) fn least(&self) -> Bytes {
        Bytes(self.resident + live_bound(&self.lifetimes))
    }

    /// Addresses for what lives within the step, above the residents.
    pub(crate) fn place(&self, effort: Effort) -> Placement {
        place(&self.lifetimes, self.resident, effort)
    }

    /// What an arena with this placement takes.
    pub(crate) fn size(&self, placement: &Placement) -> Bytes {
        Bytes(self.resident + placement.size)
    }

    /// The role, whose buffers have these addresses.
    pub(crate) fn role(mut self, stage: StageId, placement: &Placement) -> Role {
        let (arena, live_bound) = (self.size(placement), Bytes(self.resident + self.alive));
        for (&buffer, address) in self.order.iter().zip(&placement.addresses) {
            self.writer.buffers[buffer].address = self.resident + address;
        }
        let Writer { buffers, code, operands, .. } = self.writer;
        Role { id: role_of(stage), stages: vec![stage], buffers, code, operand_list: operands, arena, live_bound }
    }
}

/// Buffers of the step in the order of their first use, when their memory is theirs, and the most that lives at once.
fn lifetimes(writer: &Writer) -> (Vec<usize>, Vec<Lifetime>, u64) {
    let Writer { buffers, code, operands, held_until, .. } = writer;
    let mut order = Vec::with_capacity(buffers.len());
    let mut lifetimes: Vec<Lifetime> = Vec::with_capacity(buffers.len());
    let mut places = vec![usize::MAX; buffers.len()];
    let (mut alive, mut most) = (0, 0);
    for (index, instr) in code.iter().enumerate() {
        let (start, count) = instr.operands;
        for operand in &operands[start as usize..start as usize + count as usize] {
            let buffer = operand.index();
            if buffers[buffer].is_resident() {
                continue;
            }
            let bytes = buffers[buffer].bytes.0;
            if places[buffer] == usize::MAX {
                places[buffer] = order.len();
                order.push(buffer);
                lifetimes.push(Lifetime { bytes, start: index as u32, end: u32::MAX });
                alive += bytes;
                most = most.max(alive);
            }
            if instr.action == Action::Free {
                lifetimes[places[buffer]].end = (index as u32).max(held_until[buffer]);
                alive -= bytes;
            }
        }
    }
    let endless = order.iter().zip(&lifetimes).find(|(_, lifetime)| lifetime.end == u32::MAX);
    assert!(endless.is_none(), "a buffer is never freed: {endless:?}");
    (order, lifetimes, most)
}
