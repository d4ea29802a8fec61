//! Runs the kernels of a fragment on a rank's own arena, and forgets what is freed.
//!
//! Operands become slices here. An input that an output overwrites in place becomes an empty slice, so that no
//! number is ever behind two references; a kernel that works in place reads its output instead.
#![allow(unsafe_code, reason = "operands are places in the arena of this rank")]

use ir::graph::Element;
use ir::mesh::Mesh;
use ir::program::{Buffer, BufferId, Fragment, Kernel, Operand};

use super::arena::Arena;
use super::dispatch::{self, Call, Input};
use crate::host::{Constants, Place};

/// No operation has more operands of one sort.
const OPERANDS_MAX: usize = 8;

/// Where a fragment runs: the arena and the buffers that are bound.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) buffers: &'a [Buffer],
    pub(crate) bound: &'a [BufferId],
    pub(crate) mesh: &'a Mesh,
    pub(crate) rank: u32,
}

impl Site<'_> {
    /// Runs all kernels of a fragment, in order.
    pub(crate) fn run(&self, fragment: &Fragment, constants: &Constants, panels: &mut [f32]) {
        for kernel in &fragment.kernels {
            self.run_kernel(kernel, constants, panels);
        }
    }

    fn run_kernel(&self, kernel: &Kernel, constants: &Constants, panels: &mut [f32]) {
        let mut inputs = [Input::F32(&[]); OPERANDS_MAX];
        let outputs = kernel.outputs.iter().map(|operand| self.place(operand));
        for (input, operand) in inputs.iter_mut().zip(&kernel.inputs) {
            let place = self.place(operand);
            let in_place = outputs.clone().any(|output| overlap(output, place));
            if !in_place {
                // SAFETY: the compute stream runs one kernel at a time; verified programs let nothing write to what
                // it reads meanwhile; and no output of this kernel overlaps the place.
                *input = unsafe {
                    match operand.element {
                        Element::F32 => Input::F32(self.arena.read(place)),
                        Element::I32 => Input::I32(self.arena.read(place)),
                        Element::Bf16 => unreachable!("`Job::new` refuses bf16"),
                    }
                };
            }
        }
        let mut written: [&mut [f32]; OPERANDS_MAX] = Default::default();
        let count = kernel.outputs.len();
        for (slot, place) in written.iter_mut().zip(outputs.clone()) {
            let twice = outputs.clone().filter(|&other| overlap(other, place)).count();
            assert!(twice == 1 || place.bytes == 0, "{} writes one place twice", kernel.op.name());
            // SAFETY: as above; outputs do not overlap each other, and inputs that they overlap were left out.
            *slot = unsafe { self.arena.write(place) };
        }
        let workspace: &mut [f32] = match &kernel.workspace {
            // SAFETY: a workspace is a binding, or part of one, that no operand of its kernel uses.
            Some(operand) => unsafe { self.arena.write(self.place(operand)) },
            None => &mut [],
        };
        let mut offsets = [0; OPERANDS_MAX];
        for (offset, part) in offsets.iter_mut().zip(&kernel.offsets) {
            *offset = u64::from(self.mesh.index(self.rank, &part.axes)) * part.step;
        }
        dispatch::run(Call {
            kernel,
            inputs: &inputs[..kernel.inputs.len()],
            outputs: &mut written[..count],
            offsets: &offsets[..kernel.offsets.len()],
            workspace,
            panels,
            constants,
        });
    }

    fn place(&self, operand: &Operand) -> Place {
        let buffer = &self.buffers[self.bound[operand.binding as usize].index()];
        Place { address: buffer.address + operand.offset, bytes: operand.bytes().0 }
    }
}

/// Makes a buffer unfit for use.
pub(crate) fn forget(arena: &Arena, buffer: &Buffer) {
    // SAFETY: freeing is the last access to a buffer, as verified.
    unsafe { arena.poison(Place::of(buffer)) }
}

fn overlap(a: Place, b: Place) -> bool {
    a.address < b.address + b.bytes && b.address < a.address + a.bytes
}
