//! Which kernels a role's code needs, and with which operands each instruction launches them.

use std::collections::BTreeMap;

use ir::program::{Action, Draft, Kernel, Operand, Role};

/// The kernels of one compute instruction, in order; none for other instructions.
#[derive(Debug, Default)]
pub(crate) struct Launches {
    pub(crate) list: Vec<Launch>,
    /// Whether no instruction before runs the same fragment.
    pub(crate) is_first: bool,
}

/// A prepared kernel with the addresses of its operands.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) kernel: usize,
    /// Those of inputs, then those of outputs.
    pub(crate) operands: Vec<u64>,
    pub(crate) inputs: usize,
}

/// A kernel to prepare.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) kernel: &'a Kernel,
    /// Where this rank's part begins, for each of the kernel's offsets.
    pub(crate) offsets: Vec<u64>,
}

/// All that a role's code launches.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) kernels: Vec<Wanted<'a>>,
    /// For each instruction.
    pub(crate) of_code: Vec<Launches>,
}

/// What a rank launches, if its arena begins at this address.
pub(crate) fn launches<'a>(draft: &'a Draft, role: &Role, rank: u32, base: u64) -> Plan<'a> {
    let mut plan = Plan { kernels: Vec::new(), of_code: Vec::with_capacity(role.code.len()) };
    let mut first_of = BTreeMap::new();
    for instr in &role.code {
        let Action::Compute(id) = instr.action else {
            plan.of_code.push(Launches::default());
            continue;
        };
        let fragment = &draft.fragments[id.index()];
        let is_first = !first_of.contains_key(&id);
        let first = *first_of.entry(id).or_insert_with(|| {
            let first = plan.kernels.len();
            plan.kernels.extend(fragment.kernels.iter().map(|kernel| {
                let offsets = kernel.offsets.iter();
                let offsets = offsets.map(|part| u64::from(draft.mesh.index(rank, &part.axes)) * part.step).collect();
                Wanted { kernel, offsets }
            }));
            first
        });
        let bound = role.operands(instr);
        let address = |operand: &Operand| {
            base + role.buffers[bound[usize::from(operand.binding)].index()].address + operand.offset
        };
        let list = fragment.kernels.iter().enumerate().map(|(index, kernel)| Launch {
            kernel: first + index,
            operands: kernel.operands().map(address).collect(),
            inputs: kernel.inputs.len(),
        });
        plan.of_code.push(Launches { list: list.collect(), is_first });
    }
    plan
}
