//! What makes measurements on GPUs fair: load, a full queue, and numbers that are not all alike.
//!
//! - **Load.** A GPU at rest runs faster than its power allows for long. So every program begins with products that keep
//!   it busy, and is run for a while before it is timed.
//! - **A full queue.** The time between two events of a stream has the host's part in it if the device waits for the
//!   host. While the products at the begin run, the host enqueues all that follows.
//! - **Noise.** Products of zeros take less power, and so less time, than those of a training. What is resident begins
//!   as noise (`Session::load_noise`), and what an exchange would have brought is twice the noise of one more buffer.

use ir::graph::Element;
use ir::op::{Op, Write};
use ir::program::*;
use ir::units::Bytes;

use crate::alone::Alone;
use crate::micro::push;

/// The host enqueues an instruction with the events around it within this time, in seconds.
const ENQUEUE: f64 = 25e-6;

/// The products before the work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ballast {
    /// Rows and columns of the factors.
    pub(crate) side: u64,
    /// What one product may take.
    pub(crate) seconds: f64,
}

impl Ballast {
    /// As many products as it takes to enqueue all that the role has, before that.
    pub(crate) fn prepend(self, draft: &mut Draft, role: usize) {
        let count = 1 + (draft.roles[role].code.len() as f64 * ENQUEUE / self.seconds).ceil() as usize;
        let fragment = self.fragment(draft);
        let bytes = Bytes(self.side * self.side * Element::Bf16.bytes());
        let operands: Vec<BufferId> = (0..3).map(|_| boundary(draft, role, bytes)).collect();
        let rest = std::mem::take(&mut draft.roles[role].code);
        for _ in 0..count {
            push(draft, role, (Stream::Compute, Action::Compute(fragment)), &operands);
        }
        draft.roles[role].code.extend(rest);
    }

    fn fragment(self, draft: &mut Draft) -> FragmentId {
        draft.fragments.push(product("ballast", [self.side; 3]));
        FragmentId(draft.fragments.len() as u32 - 1)
    }
}

/// A product in bf16 of so many rows, columns, and numbers that are summed over.
pub(crate) fn product(name: &str, [rows, columns, inner]: [u64; 3]) -> Fragment {
    let operand = |binding, dimensions: [(char, u64); 2]| Operand {
        binding,
        offset: 0,
        element: Element::Bf16,
        dimensions: dimensions.to_vec(),
    };
    let [m, n, k] = [('m', rows), ('n', columns), ('k', inner)];
    let kernel = Kernel {
        op: Op::MatMul,
        inputs: vec![operand(0, [m, k]), operand(1, [k, n])],
        outputs: vec![Output { operand: operand(2, [m, n]), write: Write::Replace }],
        offsets: Vec::new(),
        workspace: None,
    };
    Fragment::of(name, kernel)
}

/// A fragment that writes the sum of its first bindings to the last: so many bytes each.
pub(crate) fn sum(name: &str, [a, b, result]: [u16; 3], bytes: Bytes) -> Fragment {
    let dimensions = vec![('n', bytes.0 / Element::F32.bytes())];
    let operand = |binding| Operand { binding, offset: 0, element: Element::F32, dimensions: dimensions.clone() };
    let kernel = Kernel {
        op: Op::Add,
        inputs: vec![operand(a), operand(b)],
        outputs: vec![Output { operand: operand(result), write: Write::Replace }],
        offsets: Vec::new(),
        workspace: None,
    };
    Fragment::of(name, kernel)
}

/// One more buffer that is resident, behind all others.
pub(crate) fn boundary(draft: &mut Draft, role: usize, bytes: Bytes) -> BufferId {
    let bytes = Bytes(bytes.0.max(1)).round_up(ALIGNMENT);
    let role = &mut draft.roles[role];
    role.buffers.push(Buffer { bytes, address: role.arena.0, content: Content::Boundary });
    role.arena += bytes;
    role.live_bound += bytes;
    BufferId(role.buffers.len() as u32 - 1)
}

/// The program with noise where it writes zeros for what others would have brought, behind its ballast.
pub(crate) fn grounded(alone: Alone, ballast: Ballast) -> Alone {
    let Alone { mut draft, mut works } = alone;
    let is_fill = |instr: &Instr| matches!(instr.action, Action::Compute(id) if works[id.index()].is_none());
    let filled = |role: &Role| {
        let targets = role.code.iter().filter(|instr| is_fill(instr)).map(|instr| role.operands(instr)[0]);
        targets.map(|id| role.buffers[id.index()].bytes).max()
    };
    if let Some(bytes) = filled(&draft.roles[0]) {
        let noise = boundary(&mut draft, 0, bytes);
        for (fragment, _) in draft.fragments.iter_mut().zip(&works).filter(|(_, work)| work.is_none()) {
            // Twice a number of 32 bits is twice each of its halves: the lower one keeps its bits.
            *fragment = sum("noise", [0, 0, 1], fragment.bindings[0].bytes);
        }
        let Role { code, operand_list, .. } = &mut draft.roles[0];
        for instr in code.iter_mut().filter(|instr| is_fill(instr)) {
            let target = operand_list[instr.operands.0 as usize];
            instr.operands = (operand_list.len() as u32, 2);
            operand_list.extend([noise, target]);
        }
    }
    ballast.prepend(&mut draft, 0);
    works.push(None);
    Alone { draft, works }
}
