//! Streams, events, memory and modules of the device that is current on this thread; each is given back when dropped.
#![allow(unsafe_code, reason = "the driver is a C library")]

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult};
use ir::units::{Bytes, Seconds};

use super::Error;

/// Says what a failed call means.
pub(crate) fn check(result: CUresult, call: &'static str) -> Result<(), Error> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text = std::ptr::null();
    // SAFETY: the place is valid; on success it points to a string that lives for ever.
    let reason = unsafe {
        let known = sys::cuGetErrorString(result, &mut text) == CUresult::CUDA_SUCCESS && !text.is_null();
        if known { CStr::from_ptr(text).to_string_lossy().into_owned() } else { format!("{result:?}") }
    };
    Err(Error::Call { call, reason })
}

/// Work on a device, done in order.
#[derive(Debug)]
pub struct Stream(pub(crate) sys::CUstream);

impl Stream {
    /// A stream that does not wait for the device's default stream.
    pub(crate) fn new() -> Result<Stream, Error> {
        let mut stream = null_mut();
        // SAFETY: the place is valid, and a context is current.
        check(unsafe { sys::cuStreamCreate(&mut stream, 1) }, "cuStreamCreate")?;
        Ok(Stream(stream))
    }

    /// Waits until all that was enqueued is done.
    pub fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: the stream lives.
        check(unsafe { sys::cuStreamSynchronize(self.0) }, "cuStreamSynchronize")
    }

    /// Lets what is enqueued from now on wait for an event.
    pub fn wait(&self, event: &Event) -> Result<(), Error> {
        // SAFETY: both live.
        check(unsafe { sys::cuStreamWaitEvent(self.0, event.0, 0) }, "cuStreamWaitEvent")
    }

    /// The driver's handle, for libraries that enqueue work themselves.
    pub fn handle(&self) -> *mut c_void {
        self.0.cast()
    }

    /// Enqueues a copy from the host; the memory must be whole until it is done, which page-locked memory alone allows
    /// to happen later.
    pub fn upload(&self, to: u64, from: &[u8]) -> Result<(), Error> {
        // SAFETY: the source is valid for its length; pageable memory is read before the call returns.
        let result = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), self.0) };
        check(result, "cuMemcpyHtoDAsync")
    }

    /// Copies to the host, and waits for it.
    pub fn download(&self, to: &mut [u8], from: u64) -> Result<(), Error> {
        // SAFETY: the target is valid for its length and borrowed until the copy is done, as we wait.
        let result = unsafe { sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), self.0) };
        check(result, "cuMemcpyDtoHAsync")?;
        self.synchronize()
    }

    /// Enqueues a copy on the device.
    pub fn copy(&self, to: u64, from: u64, bytes: Bytes) -> Result<(), Error> {
        // SAFETY: the driver checks that addresses are its own; what they mean is the caller's, as for kernels.
        let result = unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes.0 as usize, self.0) };
        check(result, "cuMemcpyDtoDAsync")
    }

    /// Enqueues that bytes are set to a value.
    pub fn fill(&self, to: u64, value: u8, bytes: Bytes) -> Result<(), Error> {
        // SAFETY: as for copies.
        check(unsafe { sys::cuMemsetD8Async(to, value, bytes.0 as usize, self.0) }, "cuMemsetD8Async")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made by `cuStreamCreate`, and not used after.
        unsafe { sys::cuStreamDestroy_v2(self.0) };
    }
}

/// A point in a stream.
#[derive(Debug)]
pub struct Event(sys::CUevent);

impl Event {
    pub(crate) fn new(flags: u32) -> Result<Event, Error> {
        let mut event = null_mut();
        // SAFETY: the place is valid, and a context is current.
        check(unsafe { sys::cuEventCreate(&mut event, flags) }, "cuEventCreate")?;
        Ok(Event(event))
    }

    /// Takes the point that the stream has come to.
    pub fn record(&self, stream: &Stream) -> Result<(), Error> {
        // SAFETY: both live.
        check(unsafe { sys::cuEventRecord(self.0, stream.0) }, "cuEventRecord")
    }

    /// Whether the device has passed it.
    pub fn is_done(&self) -> Result<bool, Error> {
        // SAFETY: the event lives.
        let result = unsafe { sys::cuEventQuery(self.0) };
        if result == CUresult::CUDA_ERROR_NOT_READY {
            return Ok(false);
        }
        check(result, "cuEventQuery").map(|()| true)
    }

    /// Waits until the device has passed it.
    pub fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: the event lives.
        check(unsafe { sys::cuEventSynchronize(self.0) }, "cuEventSynchronize")
    }

    /// The time since an earlier one, both of them passed and made to be timed.
    pub fn since(&self, earlier: &Event) -> Result<Seconds, Error> {
        let mut milliseconds = 0.0_f32;
        // SAFETY: both live, and the place is valid.
        let result = unsafe { sys::cuEventElapsedTime_v2(&mut milliseconds, earlier.0, self.0) };
        check(result, "cuEventElapsedTime")?;
        Ok(Seconds(f64::from(milliseconds) / 1e3))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `cuEventCreate`, and not used after.
        unsafe { sys::cuEventDestroy_v2(self.0) };
    }
}

/// Memory of the device. Giving it back waits for all work of the device.
#[derive(Debug)]
pub struct Memory {
    address: u64,
    bytes: Bytes,
}

impl Memory {
    pub(crate) fn new(bytes: Bytes) -> Result<Memory, Error> {
        let mut address = 0;
        // SAFETY: the place is valid, and a context is current.
        let result = unsafe { sys::cuMemAlloc_v2(&mut address, bytes.0.max(1) as usize) };
        if result == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return Err(Error::Memory { wanted: bytes, free: free_memory()? });
        }
        check(result, "cuMemAlloc")?;
        Ok(Memory { address, bytes })
    }

    /// Where it begins: a multiple of 256.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How much it is.
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made by `cuMemAlloc`, and not used after.
        unsafe { sys::cuMemFree_v2(self.address) };
    }
}

/// What the current device has left.
pub(crate) fn free_memory() -> Result<Bytes, Error> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: both places are valid.
    check(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) }, "cuMemGetInfo")?;
    Ok(Bytes(free as u64))
}

/// Loaded code.
pub(crate) struct Module(sys::CUmodule);

/// A function of a module that lives at least as long as its device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function(pub(crate) sys::CUfunction);

impl Module {
    pub(crate) fn new(binary: &[u8]) -> Result<Module, Error> {
        let mut module = null_mut();
        // SAFETY: the image is whole: it comes from the compiler, and the loader checks its header.
        check(unsafe { sys::cuModuleLoadData(&mut module, binary.as_ptr().cast()) }, "cuModuleLoadData")?;
        Ok(Module(module))
    }

    /// A function, allowed to have this much shared memory beside what it declares.
    pub(crate) fn function(&self, name: &str, shared: u64) -> Result<Function, Error> {
        let name = CString::new(name).expect("names have no zero bytes");
        let mut function = null_mut();
        // SAFETY: the module lives, and the name is a string.
        let result = unsafe { sys::cuModuleGetFunction(&mut function, self.0, name.as_ptr()) };
        check(result, "cuModuleGetFunction")?;
        if shared > 0 {
            let most = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is of a living module.
            check(unsafe { sys::cuFuncSetAttribute(function, most, shared as i32) }, "cuFuncSetAttribute")?;
        }
        Ok(Function(function))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: made by `cuModuleLoadData`; functions of it are not called once the device is gone.
        unsafe { sys::cuModuleUnload(self.0) };
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Module({:p})", self.0)
    }
}
