//! A kernel that only waits for addresses: launching it allocates nothing and waits for nothing, so that it may be
//! recorded in a graph.
#![allow(unsafe_code, reason = "launching code on a device")]

use std::ffi::c_void;
use std::ptr::null_mut;
use std::rc::Rc;

use cudarc::driver::sys;
use ir::program::Kernel;
use ir::units::Bytes;

use super::Error;
use super::driver::{Function, Module, Stream, check};
use super::lowered::{Argument, Clear, Launch, Place};
use super::product::{Factors, Product};

/// No function has more arguments.
const ARGUMENTS_MAX: usize = 16;
/// What addresses of bindings are multiples of.
const ALIGNMENT: u64 = 16;

/// Where the operands of a prepared kernel lie: device addresses.
#[derive(Clone, Copy, Debug)]
pub struct Addresses<'a> {
    /// Of the inputs, in the kernel's order.
    pub inputs: &'a [u64],
    /// Of the outputs; `Add` and `AdamW` may have an input in the same place.
    pub outputs: &'a [u64],
    /// Of as many bytes as the device says that the kernel needs.
    pub workspace: u64,
}

/// A kernel with its code.
#[derive(Debug)]
pub struct Prepared {
    op: &'static str,
    /// For inputs, then outputs: the operand's place in its binding, past a multiple of [`ALIGNMENT`].
    past: Vec<u64>,
    calls: Vec<Call>,
}

/// One request to the device.
#[derive(Debug)]
pub(crate) enum Call {
    Launch(Box<Ready>),
    Clear(Clear),
    Product(Box<Product>),
}

/// A function with all but addresses.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Keeps the function's code.
    _module: Rc<Module>,
    function: Function,
    grid: [u32; 3],
    block: u32,
    shared: u32,
    arguments: Vec<Argument>,
}

impl Call {
    pub(crate) fn launch(module: Rc<Module>, function: Function, launch: &Launch) -> Call {
        assert!(launch.arguments.len() <= ARGUMENTS_MAX, "{} has more arguments than there is room for", launch.entry);
        let number = |count: u64| u32::try_from(count).expect("a grid has less than 2^32 blocks");
        Call::Launch(Box::new(Ready {
            _module: module,
            function,
            grid: launch.grid.map(number),
            block: number(launch.block),
            shared: number(launch.shared),
            arguments: launch.arguments.clone(),
        }))
    }
}

impl Prepared {
    pub(crate) fn new(kernel: &Kernel, calls: Vec<Call>) -> Prepared {
        Prepared {
            op: kernel.op.name(),
            past: kernel.operands().map(|operand| operand.offset % ALIGNMENT).collect(),
            calls,
        }
    }

    /// Of one input and one output, both at multiples of [`ALIGNMENT`].
    pub(crate) fn copy(op: &'static str, calls: Vec<Call>) -> Prepared {
        Prepared { op, past: vec![0, 0], calls }
    }

    /// Enqueues it.
    ///
    /// The addresses are trusted as those of a verified program are: each must have room for its operand, on the
    /// device that the kernel was prepared for.
    pub fn launch(&self, stream: &Stream, at: Addresses<'_>) -> Result<(), Error> {
        assert_eq!(self.past.len(), at.inputs.len() + at.outputs.len(), "{} has other operands", self.op);
        for (&address, past) in at.inputs.iter().chain(at.outputs).zip(&self.past) {
            if address % ALIGNMENT != *past {
                return Err(Error::Alignment { op: self.op, address });
            }
        }
        self.calls.iter().try_for_each(|call| match call {
            Call::Launch(ready) => ready.launch(stream, at),
            Call::Clear(clear) => stream.fill(at.place(clear.place), clear.value, Bytes(clear.bytes)),
            Call::Product(product) => {
                let ([a, b], result) = ([at.inputs[0], at.inputs[1]], at.outputs[0]);
                let addend = at.inputs.get(2).copied().unwrap_or(result);
                product.launch(stream, Factors { a, b, result, addend, workspace: at.workspace })
            }
        })
    }
}

impl Addresses<'_> {
    pub(crate) fn place(&self, place: Place) -> u64 {
        match place {
            Place::Input(index, offset) => self.inputs[index] + offset,
            Place::Output(index, offset) => self.outputs[index] + offset,
            Place::Workspace(offset) => self.workspace + offset,
            Place::Nowhere => 0,
        }
    }

    /// An argument as the 8 bytes that a function gets.
    pub(crate) fn bits(&self, argument: Argument) -> u64 {
        match argument {
            Argument::Address(place) => self.place(place),
            Argument::Count(count) => count,
            Argument::Number(number) => number.to_bits(),
        }
    }
}

impl Ready {
    fn launch(&self, stream: &Stream, at: Addresses<'_>) -> Result<(), Error> {
        let mut values = [0_u64; ARGUMENTS_MAX];
        let mut pointers = [null_mut::<c_void>(); ARGUMENTS_MAX];
        for ((value, pointer), &argument) in values.iter_mut().zip(&mut pointers).zip(&self.arguments) {
            *value = at.bits(argument);
            *pointer = (&raw mut *value).cast();
        }
        let [x, y, z] = self.grid;
        // SAFETY: the code is loaded, and the source declares as many arguments of 8 bytes each; they are read before
        // the call returns. What the addresses mean is promised by the caller of `Prepared::launch`.
        let result = unsafe {
            let arguments = pointers.as_mut_ptr();
            sys::cuLaunchKernel(
                self.function.0,
                x,
                y,
                z,
                self.block,
                1,
                1,
                self.shared,
                stream.0,
                arguments,
                null_mut(),
            )
        };
        check(result, "cuLaunchKernel")
    }
}
