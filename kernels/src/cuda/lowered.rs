//! What a device is asked to do for one operation: launches with all but addresses decided. Plain data, so that the
//! same requests run on a device and, thread by thread, on a processor in tests.

use ir::file::{Digest, digest};
use ir::graph::Element;
use ir::op::Write;
use ir::program::{Kernel, Operand};

use super::Error;

/// The language all sources share; it comes before them.
const PRELUDE: &str = include_str!("prelude.cuh");

/// Threads of a block where nothing asks for another number.
pub(crate) const THREADS: u64 = 256;

/// What an accelerator does for a kernel, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lowered {
    pub(crate) works: Vec<Work>,
    /// Bytes that it writes beside its results.
    pub(crate) workspace: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    Launch(Launch),
    Clear(Clear),
    /// The product of the kernel's first two inputs, a third one added, by the library for it.
    Product,
}

/// Sets bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clear {
    pub(crate) place: Place,
    pub(crate) bytes: u64,
    pub(crate) value: u8,
}

/// A compiled function on a grid of blocks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Launch {
    pub(crate) source: Source,
    pub(crate) entry: &'static str,
    pub(crate) grid: [u64; 3],
    pub(crate) block: u64,
    /// Bytes of shared memory beside what the source declares.
    pub(crate) shared: u64,
    pub(crate) arguments: Vec<Argument>,
}

/// What a function is given: all are 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Argument {
    Address(Place),
    Count(u64),
    Number(f64),
}

/// Where something lies, from the addresses of a launch; numbers are bytes from there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    Input(usize, u64),
    Output(usize, u64),
    Workspace(u64),
    Nowhere,
}

/// Code with what it is to be compiled for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    pub(crate) file: &'static str,
    text: &'static str,
    definitions: String,
}

impl Source {
    pub(crate) fn new(file: &'static str, text: &'static str) -> Source {
        Source { file, text, definitions: String::new() }
    }

    /// Names how numbers are stored.
    pub(crate) fn stores(mut self, name: &str, element: Element) -> Source {
        let word = match element {
            Element::F32 => "float",
            Element::Bf16 => "bf16",
            Element::I32 => "int",
        };
        self.definitions += &format!("typedef {word} {name};\n");
        self
    }

    /// Names a number.
    pub(crate) fn number(mut self, name: &str, value: u64) -> Source {
        self.definitions += &format!("#define {name} {value}\n");
        self
    }

    /// What it is, and for what, in a line.
    #[cfg(test)]
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.file, self.definitions.replace('\n', " "))
    }

    /// Of the code, whatever it is compiled for.
    pub(crate) fn digest(&self) -> Digest {
        digest(&format!("{PRELUDE}\n{}", self.text))
    }

    /// All that the compiler reads.
    pub(crate) fn whole(&self) -> String {
        format!("{PRELUDE}\n{}\n{}", self.definitions, self.text)
    }
}

impl Lowered {
    /// One launch that needs no workspace.
    pub(crate) fn launch(launch: Launch) -> Lowered {
        Lowered { works: vec![Work::Launch(launch)], workspace: 0 }
    }
}

/// An operation with what a rank knows of its part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) kernel: &'a Kernel,
    /// Where this rank's part begins, for each of the kernel's offsets.
    pub(crate) offsets: &'a [u64],
    /// Tokens of the step, over all ranks.
    pub(crate) tokens: u64,
    pub(crate) cores: Cores,
}

/// What uses a device's tensor cores best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Products of one warp (`mma.sync`).
    Warps,
    /// Products of four warps, from shared memory (`wgmma`).
    WarpGroups,
}

impl Cores {
    /// Of devices of this compute capability.
    pub(crate) fn of(major: i32) -> Cores {
        if major == 9 { Cores::WarpGroups } else { Cores::Warps }
    }
}

impl<'a> Request<'a> {
    pub(crate) fn input(&self, index: usize) -> &'a Operand {
        &self.kernel.inputs[index]
    }

    pub(crate) fn output(&self, index: usize) -> &'a Operand {
        &self.kernel.outputs[index].operand
    }

    /// 1 if a result that may be added to what was there is, else 0.
    pub(crate) fn adds(&self, output: usize) -> Argument {
        Argument::Count(match self.kernel.outputs[output].write {
            Write::Replace => 0,
            Write::Accumulate => 1,
        })
    }

    /// The local size of a letter.
    pub(crate) fn size(&self, letter: char) -> u64 {
        let found = self.kernel.operands().flat_map(|operand| &operand.dimensions).find(|(other, _)| *other == letter);
        found.map(|&(_, size)| size).expect("an operation finds its letters in its operands")
    }

    /// Where this rank's part of a letter begins.
    pub(crate) fn offset(&self, letter: char) -> u64 {
        let mut offsets = self.kernel.offsets.iter().zip(self.offsets);
        let found = offsets.find(|(offset, _)| offset.letter == letter);
        found.map(|(_, &first)| first).expect("an operation knows where its part begins")
    }

    /// How these operands are stored: all alike, in floating point.
    pub(crate) fn element(&self, operands: &[&Operand]) -> Result<Element, Error> {
        let element = operands[0].element;
        if element == Element::I32 || operands.iter().any(|operand| operand.element != element) {
            let words: Vec<&str> = operands.iter().map(|operand| operand.element.name()).collect();
            return Err(self.unsupported(format!("operands in {}", words.join(", "))));
        }
        Ok(element)
    }

    /// Checks that these operands are stored so.
    pub(crate) fn expect(&self, element: Element, operands: &[&Operand]) -> Result<(), Error> {
        match operands.iter().find(|operand| operand.element != element) {
            None => Ok(()),
            Some(operand) => {
                Err(self.unsupported(format!("an operand in {}, not {}", operand.element.name(), element.name())))
            }
        }
    }

    pub(crate) fn unsupported(&self, why: String) -> Error {
        Error::Unsupported { op: self.kernel.op.name(), why }
    }
}

/// Numbers of `element` in the 16 bytes that a thread moves at once.
pub(crate) fn lanes(element: Element) -> u64 {
    16 / element.bytes()
}

/// Whether these operands may be read 16 bytes at a time, if the buffers that they are in may.
pub(crate) fn are_aligned(operands: &[&Operand]) -> bool {
    operands.iter().all(|operand| operand.offset.is_multiple_of(16))
}

/// Blocks that have a thread for every `each` of `count`.
pub(crate) fn blocks(count: u64, each: u64) -> u64 {
    count.div_ceil(each * THREADS)
}

pub(crate) fn input(index: usize) -> Argument {
    Argument::Address(Place::Input(index, 0))
}

pub(crate) fn output(index: usize) -> Argument {
    Argument::Address(Place::Output(index, 0))
}

pub(crate) fn workspace(offset: u64) -> Argument {
    Argument::Address(Place::Workspace(offset))
}
