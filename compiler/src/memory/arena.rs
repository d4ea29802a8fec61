//! Pass 7: every buffer of a role gets its address, from when it lives in the order of the code.

use ir::program::{Action, Role, StageId};
use ir::units::Bytes;

use crate::memory::place::{Effort, Lifetime, place};
use crate::step::transfers::role_of;
use crate::step::writer::Writer;

/// Gives every buffer its address.
pub(crate) fn arena(stage: StageId, mut writer: Writer, effort: Effort) -> Role {
    let Arena { size, alive, .. } = lay_out(&mut writer, effort);
    let Writer { buffers, code, operands, .. } = writer;
    Role {
        id: role_of(stage),
        stages: vec![stage],
        buffers,
        code,
        operand_list: operands,
        arena: size,
        live_bound: alive,
    }
}

/// What a role's buffers take.
pub(crate) struct Arena {
    pub(crate) size: Bytes,
    /// The most that lives at once.
    pub(crate) alive: Bytes,
    /// The most that lives or is held at once: no arena can be smaller.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold the size beside it"))]
    pub(crate) bound: Bytes,
}

/// Places residents first, then what lives within the step.
pub(crate) fn lay_out(writer: &mut Writer, effort: Effort) -> Arena {
    let mut resident = 0;
    for buffer in writer.buffers.iter_mut().filter(|buffer| buffer.is_resident()) {
        buffer.address = resident;
        resident += buffer.bytes.0;
    }
    let (order, lifetimes, alive) = lifetimes(writer);
    let placement = place(&lifetimes, resident, effort);
    for (&buffer, address) in order.iter().zip(&placement.addresses) {
        writer.buffers[buffer].address = resident + address;
    }
    let [size, alive, bound] = [placement.size, alive, placement.bound].map(|bytes| Bytes(resident + bytes));
    Arena { size, alive, bound }
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
