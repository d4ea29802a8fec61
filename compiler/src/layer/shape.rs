//! How a block of parameters is cut, what that takes, and what is computed on it as flat numbers.

use ir::graph::Element;
use ir::layout::{Layout, Reduce};
use ir::mesh::{Axis, AxisSet, Mesh};
use ir::op::{Op, UPDATE_CONSTANTS};
use ir::plan::Shard;
use ir::program::{Collective, Fragment, FragmentId, Kernel, Offset, Operand, Output};
use ir::units::Bytes;

use crate::layer::library::Library;
use crate::layer::{BlockTemplate, Layer};
use crate::memory::place::aligned;

/// What a block is made of and how it is cut.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(super) padded: u64,
    pub(super) parts: u64,
    pub(super) data: Vec<usize>,
    pub(super) tensor: AxisSet,
    pub(super) partial: AxisSet,
    pub(super) shard: Shard,
    pub(super) compute: Element,
}

/// The fragments of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BlockFragments {
    pub(super) zero: FragmentId,
    pub(super) add: FragmentId,
    pub(super) square: FragmentId,
    pub(super) update: FragmentId,
}

impl Shape {
    /// Of a block of a layer, if it is sharded so.
    pub(crate) fn new(
        mesh: &Mesh,
        layer: &Layer,
        template: &BlockTemplate,
        (shard, compute): (Shard, Element),
    ) -> Shape {
        let data: AxisSet = layer.axes.data.iter().copied().collect();
        let shard = if data.is_empty() { Shard::Nothing } else { shard };
        let parts = if shard == Shard::Nothing { 1 } else { u64::from(mesh.extent(data)) };
        Shape {
            padded: template.padded,
            parts,
            data: layer.axes.data.clone(),
            tensor: layer.axes.tensor.iter().copied().collect(),
            partial: template.partial,
            shard,
            compute,
        }
    }

    /// What one rank keeps of it through a step: parameters, master, moments and the sum of gradients.
    pub(crate) fn state(&self) -> Bytes {
        let full = Element::F32.bytes();
        let parameters = if self.shard == Shard::Parameters { self.share() } else { self.padded };
        let states = if self.compute == Element::F32 { 2 } else { 3 };
        let all = [
            parameters * self.compute.bytes(),
            self.share() * full,
            self.share() * full,
            if states == 3 { self.share() * full } else { 0 },
            self.kept_gradients() * full,
        ];
        Bytes(all.iter().map(|&bytes| aligned(bytes)).sum())
    }

    /// Of that, the sum of gradients, which is there from the first backward pass on.
    pub(crate) fn gradients(&self) -> Bytes {
        Bytes(aligned(self.kept_gradients() * Element::F32.bytes()))
    }

    pub(super) fn share(&self) -> u64 {
        self.padded / self.parts
    }

    /// How many elements of gradients are kept between microbatches.
    pub(super) fn kept_gradients(&self) -> u64 {
        if self.shard >= Shard::Gradients { self.share() } else { self.padded }
    }

    /// What joins the sum of gradients over Data behind all passes.
    pub(super) fn joined_behind(&self) -> Vec<Collective> {
        if self.is_collected() {
            return Vec::new();
        }
        let (from, to) = (self.flat(&[], self.partial), self.flat(self.split(), self.partial_over_tensor()));
        let collective =
            |exchange| Collective { exchange, axis: Axis::Data, shape: vec![self.padded], element: Element::F32 };
        from.exchanges_to(&to).into_iter().map(collective).collect()
    }

    /// Whether gradients are kept in shares between microbatches.
    pub(crate) fn is_collected(&self) -> bool {
        self.shard >= Shard::Gradients
    }

    /// How gradients lie once they are joined.
    pub(super) fn split(&self) -> &[usize] {
        if self.shard == Shard::Nothing { &[] } else { &self.data }
    }

    pub(super) fn partial_over_tensor(&self) -> AxisSet {
        self.partial.intersection(self.tensor)
    }

    pub(super) fn flat(&self, split: &[usize], partial: AxisSet) -> Layout {
        Layout::new(vec![split.to_vec()], partial, Reduce::Sum)
    }

    pub(super) fn fragments(&self, template: &BlockTemplate, library: &mut Library) -> BlockFragments {
        let full = Element::F32;
        let (kept, share) = (self.kept_gradients(), self.share());
        let zero = flat_kernel(Op::Zero, &[], &[(0, self.padded, full)]);
        let add = flat_kernel(Op::Add, &[(0, kept, full), (1, kept, full)], &[(0, kept, full)]);
        let sum = Op::SquareSum { replicas: template.copies };
        let mut square = flat_kernel(sum, &[(0, share, full)], &[(1, 1, full)]);
        square.outputs[0].operand = square_norm(1);
        BlockFragments {
            zero: library.fragment(Fragment::of("zero gradients", zero)),
            add: library.fragment(Fragment::of("add gradients", add)),
            square: library.fragment(Fragment::of("square gradients", square)),
            update: library.fragment(Fragment::of("update", self.update(template))),
        }
    }

    /// Bindings: parameters (or master), gradients, moments, scalars, constants, and in mixed precision the parameters.
    fn update(&self, template: &BlockTemplate) -> Kernel {
        let share = self.share();
        let full = |binding| (binding, share, Element::F32);
        let mut outputs = vec![full(0), full(2), full(3)];
        if self.compute != Element::F32 {
            outputs.push((6, share, self.compute));
        }
        let op = Op::AdamW { decayed: template.decayed, length: template.length };
        let mut kernel = flat_kernel(op, &[full(0), full(1), full(2), full(3)], &outputs);
        let constants = vec![('k', UPDATE_CONSTANTS)];
        let constants = Operand { binding: 5, offset: 0, element: Element::F32, dimensions: constants };
        kernel.inputs.extend([square_norm(4), constants]);
        let axes = if self.shard == Shard::Nothing { Vec::new() } else { self.data.clone() };
        kernel.offsets = vec![Offset { letter: 'n', axes, step: share }];
        kernel
    }
}

/// So many numbers at the start of a binding.
fn flat((binding, size, element): (u16, u64, Element)) -> Operand {
    Operand { binding, offset: 0, element, dimensions: vec![('n', size)] }
}

/// The second of the two scalars, where they are a binding.
fn square_norm(binding: u16) -> Operand {
    let element = Element::F32;
    Operand { binding, offset: element.bytes(), element, dimensions: Vec::new() }
}

/// One operation on flat operands: (binding, elements, element).
fn flat_kernel(op: Op, inputs: &[(u16, u64, Element)], outputs: &[(u16, u64, Element)]) -> Kernel {
    let output = |&operand: &(u16, u64, Element)| Output { operand: flat(operand), write: op.write() };
    Kernel {
        op,
        inputs: inputs.iter().copied().map(flat).collect(),
        outputs: outputs.iter().map(output).collect(),
        offsets: Vec::new(),
        workspace: None,
    }
}

/// Sets the loss and the square norm to zero.
pub(crate) fn clear_scalars() -> Fragment {
    Fragment::of("clear sums", flat_kernel(Op::Zero, &[], &[(0, 2, Element::F32)]))
}
