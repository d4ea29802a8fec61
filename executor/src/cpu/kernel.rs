//! Runs the kernels of a fragment on a rank's own arena, and forgets what is freed.
//!
//! Operands become slices here. An input that an output overwrites in place becomes an empty slice, so that no
//! number is ever behind two references; a kernel that works in place reads its output instead. Kernels compute in 32
//! bits: operands of 16 are widened into scratch before, and results rounded from there, once.
#![allow(unsafe_code, reason = "operands are places in the arena of this rank")]

use ir::graph::Element;
use ir::op::Write;
use ir::program::{Action, Buffer, BufferId, Draft, Fragment, Kernel, Operand, Output, Role};
use kernels::bf16;

use super::arena::Arena;
use super::dispatch::{self, Call, Input, PANELS};
use crate::host::Place;

/// No operation has more operands of one sort.
const OPERANDS_MAX: usize = 8;

/// Memory that kernels use beside the arena, allocated at load.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// What products of matrices need.
    panels: Vec<f32>,
    /// Operands of 16 bits as kernels compute with them.
    wide: Vec<f32>,
}

impl Scratch {
    /// Enough for every kernel of a role.
    pub(crate) fn new(draft: &Draft, role: &Role) -> Scratch {
        let wide = |kernel: &Kernel| -> u64 {
            kernel.operands().filter(|operand| operand.element == Element::Bf16).map(Operand::elements).sum()
        };
        let kernels = role.code.iter().filter_map(|instr| match instr.action {
            Action::Compute(id) => Some(&draft.fragments[id.index()].kernels),
            Action::Exchange(_)
            | Action::Send(_)
            | Action::Receive(_)
            | Action::Free
            | Action::Signal(_)
            | Action::Wait(_) => None,
        });
        let most = kernels.flatten().map(wide).max().unwrap_or(0);
        Scratch { panels: vec![0.0; PANELS], wide: vec![0.0; most as usize] }
    }
}

/// Where a fragment runs: the arena and the buffers that are bound.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) buffers: &'a [Buffer],
    pub(crate) bound: &'a [BufferId],
    pub(crate) draft: &'a Draft,
    pub(crate) rank: u32,
}

impl Site<'_> {
    /// Runs all kernels of a fragment, in order.
    pub(crate) fn run(&self, fragment: &Fragment, scratch: &mut Scratch) {
        for kernel in &fragment.kernels {
            self.run_kernel(kernel, scratch);
        }
    }

    fn run_kernel(&self, kernel: &Kernel, scratch: &mut Scratch) {
        let Scratch { panels, wide } = scratch;
        let mut wide = wide.as_mut_slice();
        let mut inputs = [Input::F32(&[]); OPERANDS_MAX];
        for (input, operand) in inputs.iter_mut().zip(&kernel.inputs) {
            *input = self.input(kernel, operand, &mut wide);
        }
        let mut written: [&mut [f32]; OPERANDS_MAX] = Default::default();
        for (slot, output) in written.iter_mut().zip(&kernel.outputs) {
            *slot = self.output(kernel, output, &mut wide);
        }
        let workspace: &mut [f32] = match &kernel.workspace {
            // SAFETY: a workspace is a binding, or part of one, that no operand of its kernel uses.
            Some(operand) => unsafe { self.arena.write(self.place(operand)) },
            None => &mut [],
        };
        let mut offsets = [0; OPERANDS_MAX];
        for (offset, part) in offsets.iter_mut().zip(&kernel.offsets) {
            *offset = u64::from(self.draft.mesh.index(self.rank, &part.axes)) * part.step;
        }
        dispatch::run(Call {
            kernel,
            inputs: &inputs[..kernel.inputs.len()],
            outputs: &mut written[..kernel.outputs.len()],
            offsets: &offsets[..kernel.offsets.len()],
            workspace,
            panels,
            step_tokens: self.draft.step.tokens(),
        });
        let results = written.iter().zip(kernel.results());
        for (wide, operand) in results.filter(|(_, operand)| operand.element == Element::Bf16) {
            // SAFETY: as in `output`; the kernel is done, and nothing that it read is looked at again.
            bf16::round(wide, unsafe { self.arena.write(self.place(operand)) });
        }
    }

    /// An operand as a kernel reads it.
    fn input<'a>(&'a self, kernel: &Kernel, operand: &Operand, wide: &mut &'a mut [f32]) -> Input<'a> {
        let place = self.place(operand);
        let mut direct = kernel.results().filter(|output| output.element != Element::Bf16);
        let in_place = direct.any(|output| overlap(self.place(output), place));
        // SAFETY, of all three: the compute stream runs one kernel at a time; verified programs let nothing write to
        // what it reads meanwhile; and no output of this kernel that is written in place overlaps what stays behind a
        // reference.
        match operand.element {
            Element::Bf16 => {
                let widened = split(wide, operand);
                // SAFETY: as above.
                bf16::widen(unsafe { self.arena.read(place) }, widened);
                Input::F32(widened)
            }
            Element::F32 | Element::I32 if in_place => Input::F32(&[]),
            // SAFETY: as above.
            Element::F32 => Input::F32(unsafe { self.arena.read(place) }),
            // SAFETY: as above.
            Element::I32 => Input::I32(unsafe { self.arena.read(place) }),
        }
    }

    /// An operand as a kernel writes it; in 16 bits it is rounded afterwards.
    fn output<'a>(&'a self, kernel: &Kernel, output: &Output, wide: &mut &'a mut [f32]) -> &'a mut [f32] {
        let operand = &output.operand;
        let place = self.place(operand);
        let twice = kernel.results().filter(|other| overlap(self.place(other), place)).count();
        assert!(twice == 1 || place.bytes == 0, "{} writes one place twice", kernel.op.name());
        match operand.element {
            Element::Bf16 => {
                let widened = split(wide, operand);
                match output.write {
                    // SAFETY: as in `input`.
                    Write::Accumulate => bf16::widen(unsafe { self.arena.read(place) }, widened),
                    Write::Replace => {}
                }
                widened
            }
            // SAFETY: as in `input`; outputs do not overlap each other, and inputs that they overlap were left out.
            Element::F32 => unsafe { self.arena.write(place) },
            Element::I32 => unreachable!("no operation makes tokens"),
        }
    }

    fn place(&self, operand: &Operand) -> Place {
        let buffer = &self.buffers[self.bound[operand.binding as usize].index()];
        Place { address: buffer.address + operand.offset, bytes: operand.bytes().0 }
    }
}

/// Takes room for an operand.
fn split<'a>(wide: &mut &'a mut [f32], operand: &Operand) -> &'a mut [f32] {
    let (own, rest) = std::mem::take(wide).split_at_mut(operand.elements() as usize);
    *wide = rest;
    own
}

/// Makes a buffer unfit for use.
pub(crate) fn forget(arena: &Arena, buffer: &Buffer) {
    // SAFETY: freeing is the last access to a buffer, as verified.
    unsafe { arena.poison(Place::of(buffer)) }
}

fn overlap(a: Place, b: Place) -> bool {
    a.address < b.address + b.bytes && b.address < a.address + a.bytes
}
