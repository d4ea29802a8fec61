//! Pass 7: every buffer of a role gets its address, from when it lives in the order of the code.

use ir::program::{Action, Role, StageId};
use ir::units::Bytes;

use crate::place::{Effort, Lifetime, place};
use crate::transfers::role_of;
use crate::writer::Writer;

/// Places residents first, then what lives within the step.
pub(crate) fn arena(stage: StageId, writer: Writer, effort: Effort) -> Role {
    let Writer { mut buffers, code, operands, .. } = writer;
    let mut resident = 0;
    for buffer in buffers.iter_mut().filter(|buffer| buffer.is_resident()) {
        buffer.address = resident;
        resident += buffer.bytes.0;
    }
    let mut starts = vec![u32::MAX; buffers.len()];
    let mut ends = vec![u32::MAX; buffers.len()];
    let mut order = Vec::with_capacity(buffers.len());
    for (index, instr) in code.iter().enumerate() {
        let (start, count) = instr.operands;
        for operand in &operands[start as usize..start as usize + count as usize] {
            let buffer = operand.index();
            if starts[buffer] == u32::MAX {
                starts[buffer] = index as u32;
                if !buffers[buffer].is_resident() {
                    order.push(buffer);
                }
            }
            if instr.action == Action::Free {
                ends[buffer] = index as u32;
            }
        }
    }
    let lifetime = |&buffer: &usize| {
        assert!(ends[buffer] != u32::MAX, "buffer {buffer} of stage {} is never freed", stage.0);
        Lifetime { bytes: buffers[buffer].bytes.0, start: starts[buffer], end: ends[buffer] }
    };
    let lifetimes: Vec<Lifetime> = order.iter().map(lifetime).collect();
    let placement = place(&lifetimes, resident, effort);
    for (&buffer, address) in order.iter().zip(&placement.addresses) {
        buffers[buffer].address = resident + address;
    }
    Role {
        id: role_of(stage),
        stages: vec![stage],
        buffers,
        code,
        operand_list: operands,
        arena: Bytes(resident + placement.size),
        live_bound: Bytes(resident + placement.bound),
    }
}
