//! Operations on parts of buffers, and the fragments that they make up.

use super::ALIGNMENT;
use crate::graph::{Element, Sizes};
use crate::op::{Addend, Op, Product, Storage, Write};
use crate::profile::{Shape, Work};
use crate::units::{Bytes, Flops};

/// How a fragment uses one of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Only read.
    Read,
    /// Only written; what was there is lost.
    Write,
    /// Read and written.
    Update,
}

/// A part of a binding, with named dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// Which binding of the fragment.
    pub binding: u16,
    /// Where in it the operand begins, in bytes.
    pub offset: u64,
    /// How numbers are stored.
    pub element: Element,
    /// Letters and local sizes, slowest first; dense.
    pub dimensions: Vec<(char, u64)>,
}

impl Operand {
    /// How many numbers it has.
    pub fn elements(&self) -> u64 {
        self.dimensions.iter().map(|&(_, size)| size).product()
    }

    /// What it takes.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.elements() * self.element.bytes())
    }
}

/// Where a rank's part of a dimension begins: its index along `axes` times `step`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The dimension.
    pub letter: char,
    /// The axes that split it, coarsest first.
    pub axes: Vec<usize>,
    /// Local size.
    pub step: u64,
}

/// A result of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Where it goes.
    pub operand: Operand,
    /// Whether it takes the place of what is there or is added to it.
    pub write: Write,
}

/// One operation on parts of bindings.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// What is computed.
    pub op: Op,
    /// What is read.
    pub inputs: Vec<Operand>,
    /// What is written; may overlap inputs only where the operation works in place, see [`Op::works_in_place`].
    pub outputs: Vec<Output>,
    /// For each letter of `Op::offsets`, where this rank's part begins.
    pub offsets: Vec<Offset>,
    /// Memory that the kernel may use while it runs, as a binding; none if it needs none.
    pub workspace: Option<Operand>,
}

impl Kernel {
    /// What is read, then what is written.
    pub fn operands(&self) -> impl Iterator<Item = &Operand> + Clone {
        self.inputs.iter().chain(self.results())
    }

    /// What is written, without how.
    pub fn results(&self) -> impl Iterator<Item = &Operand> + Clone {
        self.outputs.iter().map(|output| &output.operand)
    }

    /// How it uses a binding: all that is known of reads and writes follows from this. A workspace is written.
    pub fn access(&self, binding: u16) -> Option<Access> {
        let is_here = |operand: &&Operand| operand.binding == binding;
        let adds = |output: &Output| output.operand.binding == binding && output.write == Write::Accumulate;
        let reads = self.inputs.iter().any(|input| is_here(&input)) || self.outputs.iter().any(adds);
        let writes = self.results().chain(&self.workspace).any(|operand| is_here(&operand));
        match (reads, writes) {
            (true, true) => Some(Access::Update),
            (false, true) => Some(Access::Write),
            (true, false) => Some(Access::Read),
            (false, false) => None,
        }
    }

    /// Which of its inputs is added to its first result; none if nothing is. See [`Op::addend`].
    pub fn addend_place(&self) -> Option<usize> {
        self.op.addend().filter(|&place| place < self.inputs.len())
    }

    /// What is added to its first result, if anything is.
    pub fn addend(&self) -> Option<&Operand> {
        self.addend_place().map(|place| &self.inputs[place])
    }

    /// Whether anything is added to its first result.
    pub fn addend_kind(&self) -> Addend {
        if self.addend_place().is_some() { Addend::Present } else { Addend::Absent }
    }

    /// Local sizes of all letters.
    pub fn sizes(&self) -> Sizes {
        self.operands().flat_map(|operand| operand.dimensions.iter().copied()).collect()
    }

    /// Floating-point operations.
    pub fn flops(&self) -> Flops {
        self.op.flops(&self.sizes())
    }

    /// Bytes that are read and written at least.
    pub fn bytes(&self) -> Bytes {
        let added = self.outputs.iter().filter(|output| output.write == Write::Accumulate);
        let again: Bytes = added.map(|output| output.operand.bytes()).sum();
        self.operands().map(Operand::bytes).sum::<Bytes>() + again
    }

    /// For a product, the sizes of rows, columns and what is summed over; and whether each factor's summed letters
    /// come last (`n`: as stored) or first (`t`: transposed).
    pub fn product(&self) -> Product {
        let [a, b] = [&self.inputs[0].dimensions, &self.inputs[1].dimensions];
        let out = &self.outputs[0].operand.dimensions;
        let has = |list: &[(char, u64)], letter: char| list.iter().any(|&(other, _)| other == letter);
        let size = |keep: &dyn Fn(char) -> bool, list: &[(char, u64)]| {
            list.iter().filter(|(letter, _)| keep(*letter)).map(|&(_, size)| size).product()
        };
        let summed_last = |list: &[(char, u64)]| list.last().is_none_or(|&(letter, _)| !has(out, letter));
        Product {
            rows: size(&|letter| has(out, letter), a),
            columns: size(&|letter| has(out, letter), b),
            inner: size(&|letter| !has(out, letter), a),
            a: if summed_last(a) { Storage::InnerLast } else { Storage::InnerFirst },
            b: if summed_last(b) { Storage::InnerLast } else { Storage::InnerFirst },
        }
    }

    /// What to look up in a profile.
    pub fn work(&self) -> Work {
        let element = self.results().chain(&self.inputs).next().map_or(Element::F32, |operand| operand.element);
        let shape = if self.op == Op::MatMul {
            Shape::Product(self.product())
        } else {
            let mut sizes = self.sizes();
            // Windows are sequences of their own: as many more of them.
            if let Some(windows) = sizes.remove(&'w') {
                sizes.entry('b').and_modify(|batch| *batch *= windows);
            }
            Shape::Letters(sizes.into_iter().collect())
        };
        let adds = self.outputs.iter().any(|output| output.write != self.op.write());
        let write = if adds { Write::Accumulate } else { Write::Replace };
        Work::Kernel { op: self.op.kind(), element, shape, write, addend: self.addend_kind() }
    }
}

/// A binding of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The least size of the buffer.
    pub bytes: Bytes,
    /// How it is used.
    pub access: Access,
}

/// Kernels that run one after the other, without an exchange in between. Layers of one kind share fragments.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragment {
    /// What it does, for tables.
    pub name: String,
    /// Buffers that an instruction brings.
    pub bindings: Vec<Binding>,
    /// What runs, in order.
    pub kernels: Vec<Kernel>,
    /// Values that live only inside are placed in this binding; none if there are none.
    pub scratch: Option<u16>,
    /// The largest sum of values alive inside at once: no placement of the scratch needs less.
    pub scratch_bound: Bytes,
}

impl Fragment {
    /// One kernel as a fragment: its bindings are as large as its operands need, and used as it uses them. A workspace
    /// that shares its binding with no result is the scratch.
    pub fn of(name: &str, kernel: Kernel) -> Fragment {
        let end = |operand: &Operand| Bytes(operand.offset + operand.bytes().0).round_up(ALIGNMENT);
        let all = || kernel.operands().chain(&kernel.workspace);
        let count = all().map(|operand| operand.binding + 1).max().unwrap_or(0);
        let bindings = (0..count).map(|binding| {
            let here = all().filter(|operand| operand.binding == binding);
            let bytes = here.map(end).max().unwrap_or(Bytes::ZERO);
            Binding { bytes, access: kernel.access(binding).unwrap_or(Access::Read) }
        });
        let bindings = bindings.collect();
        let workspace = kernel.workspace.as_ref().map(|operand| operand.binding);
        let holds_more = |binding| kernel.operands().any(|operand| operand.binding == binding);
        let scratch = workspace.filter(|&binding| !holds_more(binding));
        Fragment { name: name.to_owned(), bindings, kernels: vec![kernel], scratch, scratch_bound: Bytes::ZERO }
    }
}
