//! One device: opening it, its memory and streams, and what was prepared for it.
#![allow(unsafe_code, reason = "the driver is a C library")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ptr::null_mut;
use std::rc::Rc;

use cudarc::driver::sys::{self, CUdevice_attribute};
use ir::graph::Element;
use ir::op::Op;
use ir::program::Kernel;
use ir::units::Bytes;
use ir::ways::Way;

use super::compile::Compiler;
use super::driver::{Event, Memory, Module, Stream, check, free_memory};
use super::lower::lower;
use super::lowered::{Cores, Launch, Lowered, Request, Source, Work};
use super::prepared::{Call, Prepared};
use super::product::{self, Choice, Library, Product, WORKSPACE};
use super::tune;
use super::vitals::Vitals;
use super::window::Window;
use super::{Error, library};
use crate::fill;
use crate::reorder::{self, Reorder};

/// The oldest driver whose functions we call: CUDA 12.8, of January 2025.
const DRIVER_MIN: i32 = 12_080;
/// Stands for numbers that a workspace does not depend on.
const ANY_OFFSETS: [u64; 4] = [0; 4];

/// Prepares kernels for one device: compiled code, ways to compute products. One per device and thread.
#[derive(Debug)]
pub struct Device {
    ordinal: usize,
    device: sys::CUdevice,
    context: sys::CUcontext,
    name: String,
    processors: u32,
    cores: Cores,
    compiler: Compiler,
    choice: Choice,
    modules: RefCell<BTreeMap<Source, Rc<Module>>>,
    products: RefCell<Option<Rc<Library>>>,
}

impl Device {
    /// How many devices the driver serves.
    pub fn count() -> Result<usize, Error> {
        library::need_driver()?;
        let (mut version, mut count) = (0, 0);
        // SAFETY: the library is present; places are valid.
        unsafe {
            check(sys::cuInit(0), "cuInit")?;
            check(sys::cuDriverGetVersion(&mut version), "cuDriverGetVersion")?;
            check(sys::cuDeviceGetCount(&mut count), "cuDeviceGetCount")?;
        }
        if version < DRIVER_MIN {
            return Err(Error::OldDriver { version });
        }
        Ok(count as usize)
    }

    /// What its maker calls a device, which need not be open.
    pub fn name_of(ordinal: usize) -> Result<String, Error> {
        let count = Device::count()?;
        if ordinal >= count {
            return Err(Error::NoDevice { ordinal, count });
        }
        let mut device = 0;
        // SAFETY: the driver is initialised; the place is valid.
        unsafe { check(sys::cuDeviceGet(&mut device, ordinal as i32), "cuDeviceGet")? };
        name(device)
    }

    /// Makes a device the current one of this thread.
    pub fn open(ordinal: usize) -> Result<Device, Error> {
        let count = Device::count()?;
        if ordinal >= count {
            return Err(Error::NoDevice { ordinal, count });
        }
        let (mut device, mut context) = (0, null_mut());
        // SAFETY: the driver is initialised; places are valid.
        unsafe {
            check(sys::cuDeviceGet(&mut device, ordinal as i32), "cuDeviceGet")?;
            check(sys::cuDevicePrimaryCtxRetain(&mut context, device), "cuDevicePrimaryCtxRetain")?;
            check(sys::cuCtxSetCurrent(context), "cuCtxSetCurrent")?;
        }
        let major = attribute(device, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(device, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let processors = attribute(device, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        if major < 8 {
            return Err(Error::OldDevice { ordinal, major, minor });
        }
        let name = name(device)?;
        Ok(Device {
            ordinal,
            device,
            context,
            name,
            processors: processors as u32,
            cores: Cores::of(major),
            compiler: Compiler::new(major, minor)?,
            choice: Choice::default(),
            modules: RefCell::default(),
            products: RefCell::default(),
        })
    }

    /// The same, which chooses products so.
    pub fn choosing(self, choice: Choice) -> Device {
        Device { choice, ..self }
    }

    /// Its number.
    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// What its maker calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Multiprocessors.
    pub fn processors(&self) -> u32 {
        self.processors
    }

    /// Memory that nobody uses.
    pub fn free_memory(&self) -> Result<Bytes, Error> {
        free_memory()
    }

    /// All of its memory.
    pub fn memory(&self) -> Result<Bytes, Error> {
        let mut bytes = 0;
        // SAFETY: the place is valid.
        check(unsafe { sys::cuDeviceTotalMem_v2(&mut bytes, self.device) }, "cuDeviceTotalMem")?;
        Ok(Bytes(bytes as u64))
    }

    /// A look at its clock and power; none where the driver's library for that is missing.
    pub fn vitals(&self) -> Option<Vitals> {
        let mut bus = [0; 32];
        // SAFETY: the driver writes a string of at most so many bytes.
        let bus = unsafe {
            check(sys::cuDeviceGetPCIBusId(bus.as_mut_ptr(), bus.len() as i32, self.device), "cuDeviceGetPCIBusId")
                .ok()?;
            CStr::from_ptr(bus.as_ptr()).to_string_lossy().into_owned()
        };
        Vitals::at(&bus)
    }

    /// The versions of what it is driven with, in words.
    pub fn versions(&self) -> Result<String, Error> {
        let mut cuda = 0;
        // SAFETY: the place is valid.
        check(unsafe { sys::cuDriverGetVersion(&mut cuda) }, "cuDriverGetVersion")?;
        let driver = self.vitals().and_then(|vitals| vitals.driver());
        let driver = driver.map_or(String::new(), |version| format!("driver {version}, "));
        let products = product::product_library()?;
        Ok(format!("{driver}CUDA {}.{}, {products}", cuda / 1000, cuda % 1000 / 10))
    }

    /// Takes memory; its content is anything.
    pub fn allocate(&self, bytes: Bytes) -> Result<Memory, Error> {
        Memory::new(bytes)
    }

    /// A stream of its own.
    pub fn stream(&self) -> Result<Stream, Error> {
        Stream::new()
    }

    /// An event that only orders.
    pub fn event(&self) -> Result<Event, Error> {
        Event::new(sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32)
    }

    /// An event that also takes the time.
    pub fn timer(&self) -> Result<Event, Error> {
        Event::new(0)
    }

    /// Bytes that a kernel writes beside its results; kernels of one stream may share them.
    pub fn workspace(&self, kernel: &Kernel) -> Bytes {
        let offsets = &ANY_OFFSETS[..kernel.offsets.len()];
        if kernel.op == Op::MatMul {
            return Bytes(WORKSPACE);
        }
        lower(Request { kernel, offsets, tokens: 1, cores: self.cores })
            .map_or(Bytes::ZERO, |lowered| Bytes(lowered.workspace))
    }

    /// Compiles and chooses all that a kernel needs. `offsets` say where this rank's part begins, for each of the
    /// kernel's offsets; `tokens` are those of the step over all ranks. Bindings must begin at multiples of 16 bytes.
    pub fn prepare(&self, kernel: &Kernel, offsets: &[u64], tokens: u64) -> Result<Prepared, Error> {
        let lowered = lower(Request { kernel, offsets, tokens, cores: self.cores })?;
        self.load(lowered, kernel)
    }

    /// The way in which a product is computed fastest under load; none where the library's own choice is as fast. Takes
    /// memory for the product's operands, and some hundred times as long as it.
    pub fn fastest_way(&self, kernel: &Kernel) -> Result<Option<Way>, Error> {
        let (mut product, ways) = Product::with_ways(self.library()?, kernel)?;
        tune::fastest(&mut product, &ways, kernel)
    }

    /// A copy from one form of numbers to another, of one input to one output.
    pub fn prepare_cast(&self, from: Element, to: Element, elements: u64) -> Result<Prepared, Error> {
        let launch = fill::cuda::cast(from, to, elements);
        Ok(Prepared::copy("cast", vec![self.function(&launch)?]))
    }

    /// A copy of runs, of one input to one output.
    pub fn prepare_reorder(&self, reorder: &Reorder) -> Result<Prepared, Error> {
        let works = reorder::cuda::lower(reorder).works.into_iter();
        let calls = works.map(|work| match work {
            Work::Launch(launch) => self.function(&launch),
            Work::Clear(clear) => Ok(Call::Clear(clear)),
            Work::Product => unreachable!("a copy is no product"),
        });
        Ok(Prepared::copy("reorder", calls.collect::<Result<_, _>>()?))
    }

    /// A way to this device's memory from any thread.
    pub fn window(&self) -> Window {
        Window::new(self.context)
    }

    /// Waits until all of the device's work is done.
    pub fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: the context of this device is current on this thread.
        check(unsafe { sys::cuCtxSynchronize() }, "cuCtxSynchronize")
    }

    fn load(&self, lowered: Lowered, kernel: &Kernel) -> Result<Prepared, Error> {
        let mut calls = Vec::with_capacity(lowered.works.len());
        for work in lowered.works {
            calls.push(match work {
                Work::Clear(clear) => Call::Clear(clear),
                Work::Launch(launch) => self.function(&launch)?,
                Work::Product => Call::Product(Box::new(Product::new(self.library()?, kernel, &self.choice)?)),
            });
        }
        Ok(Prepared::new(kernel, calls))
    }

    fn function(&self, launch: &Launch) -> Result<Call, Error> {
        let module = self.module(&launch.source)?;
        let function = module.function(launch.entry, launch.shared)?;
        Ok(Call::launch(module, function, launch))
    }

    /// Loaded code of a source, which is compiled at its first use.
    fn module(&self, source: &Source) -> Result<Rc<Module>, Error> {
        if let Some(module) = self.modules.borrow().get(source) {
            return Ok(Rc::clone(module));
        }
        let module = Rc::new(Module::new(&self.compiler.binary(source)?)?);
        self.modules.borrow_mut().insert(source.clone(), Rc::clone(&module));
        Ok(module)
    }

    fn library(&self) -> Result<Rc<Library>, Error> {
        if let Some(library) = &*self.products.borrow() {
            return Ok(Rc::clone(library));
        }
        let library = Rc::new(Library::open()?);
        *self.products.borrow_mut() = Some(Rc::clone(&library));
        Ok(library)
    }
}

fn attribute(device: sys::CUdevice, attribute: CUdevice_attribute) -> Result<i32, Error> {
    let mut value = 0;
    // SAFETY: the place is valid.
    check(unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, device) }, "cuDeviceGetAttribute")?;
    Ok(value)
}

fn name(device: sys::CUdevice) -> Result<String, Error> {
    let mut name = [0; 128];
    // SAFETY: the driver writes a string of at most so many bytes.
    unsafe {
        check(sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as i32, device), "cuDeviceGetName")?;
        Ok(CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
    }
}
