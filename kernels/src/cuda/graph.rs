//! Work that is recorded once and played many times, which costs the host one call.
#![allow(unsafe_code, reason = "the driver is a C library")]

use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUstreamCaptureMode};

use super::Error;
use super::driver::{Stream, check};

/// Recorded work. Destroy it before communicators whose work it holds.
#[derive(Debug)]
pub struct Graph {
    graph: sys::CUgraph,
    instance: sys::CUgraphExec,
}

impl Graph {
    /// Records what `issue` enqueues on this stream, and on streams that wait for it and that it waits for again.
    pub fn record<E: From<Error>>(stream: &Stream, issue: impl FnOnce() -> Result<(), E>) -> Result<Graph, E> {
        // Only calls of this thread are held to what may be done while recording: other ranks may be threads too.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives.
        check(unsafe { sys::cuStreamBeginCapture_v2(stream.0, mode) }, "cuStreamBeginCapture")?;
        let issued = issue();
        let mut recorded = Graph { graph: null_mut(), instance: null_mut() };
        // SAFETY: the stream lives, and the place is valid.
        let ended = check(unsafe { sys::cuStreamEndCapture(stream.0, &mut recorded.graph) }, "cuStreamEndCapture");
        issued?;
        ended?;
        // SAFETY: the graph lives, and the place is valid.
        let result = unsafe { sys::cuGraphInstantiateWithFlags(&mut recorded.instance, recorded.graph, 0) };
        check(result, "cuGraphInstantiate")?;
        Ok(recorded)
    }

    /// Enqueues all of it.
    pub fn launch(&self, stream: &Stream) -> Result<(), Error> {
        // SAFETY: both live.
        check(unsafe { sys::cuGraphLaunch(self.instance, stream.0) }, "cuGraphLaunch")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by the driver where not null, and not used after.
        unsafe {
            if !self.instance.is_null() {
                sys::cuGraphExecDestroy(self.instance);
            }
            if !self.graph.is_null() {
                sys::cuGraphDestroy(self.graph);
            }
        }
    }
}
