//! Copies between the host and a device's memory from any thread, while nothing runs there.
#![allow(unsafe_code, reason = "the driver is a C library")]

use std::ptr::{NonNull, null_mut};
use std::slice;

use cudarc::driver::sys;

use super::Error;
use super::driver::check;

/// Bytes of one copy: the driver stages what it copies, and should not be asked for more at once.
const PIECE: usize = 64 << 20;

/// A way to a device's memory. Everything that ran before must be done, and nothing may run meanwhile.
#[derive(Debug)]
pub struct Window {
    context: sys::CUcontext,
}

// SAFETY: contexts may be used from any thread, one after the other or at once; this one is never given up.
unsafe impl Send for Window {}

impl Window {
    pub(crate) fn new(context: sys::CUcontext) -> Window {
        Window { context }
    }

    /// Memory of the process that devices read without a copy by the driver in between, all zero: some ten times as
    /// fast.
    pub fn pinned(&self, bytes: usize) -> Result<Pinned, Error> {
        self.enter()?;
        let mut start = null_mut();
        let size = bytes.max(1);
        // SAFETY: the place for the answer is valid; portable memory serves every context.
        let given = unsafe { sys::cuMemHostAlloc(&raw mut start, size, sys::CU_MEMHOSTALLOC_PORTABLE) };
        check(given, "cuMemHostAlloc")?;
        let start = NonNull::new(start.cast::<u8>()).expect("the driver gives out memory or says why not");
        // SAFETY: it was given out with this many bytes.
        unsafe { start.as_ptr().write_bytes(0, bytes) };
        Ok(Pinned { start, bytes })
    }

    /// Copies to the host. The address must be of as many bytes that the device has given out.
    pub fn read(&self, from: u64, to: &mut [u8]) -> Result<(), Error> {
        self.enter()?;
        for (piece, from) in to.chunks_mut(PIECE).zip((from..).step_by(PIECE)) {
            // SAFETY: the target is valid for its length, and the call returns when it is filled.
            check(unsafe { sys::cuMemcpyDtoH_v2(piece.as_mut_ptr().cast(), from, piece.len()) }, "cuMemcpyDtoH")?;
        }
        Ok(())
    }

    /// Copies from the host; see [`Window::settle`]. The address must be as for [`Window::read`].
    pub fn write(&self, to: u64, from: &[u8]) -> Result<(), Error> {
        self.enter()?;
        for (piece, to) in from.chunks(PIECE).zip((to..).step_by(PIECE)) {
            // SAFETY: the source is valid for its length, and is read before the call returns.
            check(unsafe { sys::cuMemcpyHtoD_v2(to, piece.as_ptr().cast(), piece.len()) }, "cuMemcpyHtoD")?;
        }
        Ok(())
    }

    /// Repeats the first so many bytes from an address until there are `bytes` of them; see [`Window::settle`]. The
    /// address must be as for [`Window::read`].
    pub fn repeat(&self, at: u64, pattern: u64, bytes: u64) -> Result<(), Error> {
        self.enter()?;
        let mut filled = pattern;
        while filled < bytes {
            let more = filled.min(bytes - filled);
            // SAFETY: as for writing; what is read and what is written do not overlap.
            check(unsafe { sys::cuMemcpyDtoD_v2(at + filled, at, more as usize) }, "cuMemcpyDtoD")?;
            filled += more;
        }
        Ok(())
    }

    /// Waits until all that was written is there: streams do not wait for it.
    pub fn settle(&self) -> Result<(), Error> {
        self.enter()?;
        // SAFETY: the default stream of the current context, on which these copies are done.
        check(unsafe { sys::cuStreamSynchronize(null_mut()) }, "cuStreamSynchronize")
    }

    fn enter(&self) -> Result<(), Error> {
        // SAFETY: the device's context is never given up.
        check(unsafe { sys::cuCtxSetCurrent(self.context) }, "cuCtxSetCurrent")
    }
}

/// Memory of the process that stays where it is.
#[derive(Debug)]
pub struct Pinned {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is memory like any other, of which this is the only owner.
unsafe impl Send for Pinned {}

impl AsMut<[u8]> for Pinned {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: it was given out with this many bytes, all of which were written; nobody else has it.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the driver gave it out, and copies from it are over when they return.
        let freed = unsafe { sys::cuMemFreeHost(self.start.as_ptr().cast()) };
        // Nothing can be done about an error.
        drop(check(freed, "cuMemFreeHost"));
    }
}
