//! Communicators of NCCL: ranks of one meeting, or the two ends of a route.
//!
//! The library is loaded here and not by its bindings, which do not look for it under the name that its packages give
//! it (`libnccl.so.2`), and which break off where it is missing.
#![allow(unsafe_code, reason = "NCCL is a C library")]

use std::env;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Once, OnceLock};

use cudarc::nccl::sys::{
    cudaStream_t, ncclComm_t, ncclConfig_t, ncclDataType_t, ncclRedOp_t, ncclResult_t, ncclUniqueId,
};
use ir::graph::Element;
use ir::layout::Reduce;
use kernels::cuda::{Error, Stream, find_library};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// What the initialiser of its header writes, which the bindings lack.
const CONFIG_MAGIC: u32 = 0xcafe_beef;
/// Of the bindings' structure: 2.28.
const CONFIG_VERSION: u32 = 22_800;
/// What its header calls an undefined number.
const UNDEFINED: c_int = c_int::MIN;
/// Blocks of a communicator for transfers between two ranks, of which many may run beside collectives.
const ROUTE_BLOCKS: c_int = 16;

/// What names a communicator before it is made.
pub(crate) type Id = ncclUniqueId;

type Result<T> = std::result::Result<T, Error>;

/// What a communicator is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Collectives,
    Transfers,
}

/// The functions that we use, with the library's signatures.
struct Functions {
    version: unsafe extern "C" fn(*mut c_int) -> ncclResult_t,
    id: unsafe extern "C" fn(*mut ncclUniqueId) -> ncclResult_t,
    make: unsafe extern "C" fn(*mut ncclComm_t, c_int, ncclUniqueId, c_int, *mut ncclConfig_t) -> ncclResult_t,
    finalize: unsafe extern "C" fn(ncclComm_t) -> ncclResult_t,
    destroy: unsafe extern "C" fn(ncclComm_t) -> ncclResult_t,
    error_text: unsafe extern "C" fn(ncclResult_t) -> *const c_char,
    last_error: unsafe extern "C" fn(ncclComm_t) -> *const c_char,
    begin_group: unsafe extern "C" fn() -> ncclResult_t,
    end_group: unsafe extern "C" fn() -> ncclResult_t,
    all_reduce: Reduction,
    reduce_scatter: Reduction,
    all_gather: unsafe extern "C" fn(
        *const c_void,
        *mut c_void,
        usize,
        ncclDataType_t,
        ncclComm_t,
        cudaStream_t,
    ) -> ncclResult_t,
    send: unsafe extern "C" fn(*const c_void, usize, ncclDataType_t, c_int, ncclComm_t, cudaStream_t) -> ncclResult_t,
    receive: unsafe extern "C" fn(*mut c_void, usize, ncclDataType_t, c_int, ncclComm_t, cudaStream_t) -> ncclResult_t,
}

type Reduction = unsafe extern "C" fn(
    *const c_void,
    *mut c_void,
    usize,
    ncclDataType_t,
    ncclRedOp_t,
    ncclComm_t,
    cudaStream_t,
) -> ncclResult_t;

/// The library; loaded once.
fn functions() -> Result<&'static Functions> {
    static FUNCTIONS: OnceLock<Option<Functions>> = OnceLock::new();
    let missing = Error::NoLibrary { library: "libnccl.so.2", package: "nvidia-nccl-cu13" };
    FUNCTIONS.get_or_init(load).as_ref().ok_or(missing)
}

/// Settings of the driver and of the library, where the user has none; done before anything reads them.
pub(crate) fn set_environment() {
    static DONE: Once = Once::new();
    let settings = [
        // More streams than queues would wait for each other without need, and for ever behind an exchange.
        ("CUDA_DEVICE_MAX_CONNECTIONS", "32"),
        // In-switch reduction needs multicast memory, which shared machines do not allow.
        ("NCCL_NVLS_ENABLE", "0"),
        // Eager and recorded work of a communicator never overlap here: support for that would only cost time.
        ("NCCL_GRAPH_MIXING_SUPPORT", "0"),
    ];
    DONE.call_once(|| {
        for (name, value) in settings.into_iter().filter(|(name, _)| env::var_os(name).is_none()) {
            // SAFETY: done once, before the libraries that read it are loaded and before ranks have threads.
            unsafe { env::set_var(name, value) };
        }
    });
}

fn load() -> Option<Functions> {
    set_environment();
    let found = find_library("libnccl.so.").into_iter().map(|path| path.into_os_string());
    let names = found.chain(["libnccl.so.2", "libnccl.so"].map(Into::into));
    // SAFETY: the library's initialisers have no preconditions.
    let library =
        names.into_iter().find_map(|name| unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }.ok())?;
    macro_rules! function {
        ($name:literal) => {{
            // SAFETY: the signature is that of the library's header, by the bindings of its version.
            *unsafe { library.get($name) }.ok()?
        }};
    }
    let functions = Functions {
        version: function!(b"ncclGetVersion"),
        id: function!(b"ncclGetUniqueId"),
        make: function!(b"ncclCommInitRankConfig"),
        finalize: function!(b"ncclCommFinalize"),
        destroy: function!(b"ncclCommDestroy"),
        error_text: function!(b"ncclGetErrorString"),
        last_error: function!(b"ncclGetLastError"),
        begin_group: function!(b"ncclGroupStart"),
        end_group: function!(b"ncclGroupEnd"),
        all_reduce: function!(b"ncclAllReduce"),
        reduce_scatter: function!(b"ncclReduceScatter"),
        all_gather: function!(b"ncclAllGather"),
        send: function!(b"ncclSend"),
        receive: function!(b"ncclRecv"),
    };
    // Its functions are called until the end.
    std::mem::forget(library);
    Some(functions)
}

/// The version of the library, in words.
pub(crate) fn version() -> Result<String> {
    let functions = functions()?;
    let mut version = 0;
    // SAFETY: the place is valid.
    functions.check(unsafe { (functions.version)(&mut version) }, "ncclGetVersion")?;
    Ok(format!("NCCL {}.{}.{}", version / 10_000, version % 10_000 / 100, version % 100))
}

/// A name for a new communicator, which all its members must be given.
pub(crate) fn new_id() -> Result<Id> {
    let functions = functions()?;
    let mut id = ncclUniqueId { internal: [0; 128] };
    // SAFETY: the place is valid.
    functions.check(unsafe { (functions.id)(&mut id) }, "ncclGetUniqueId")?;
    Ok(id)
}

/// One member's end of a communicator. It is left open unless it is closed: closing waits for the others.
#[derive(Debug)]
pub(crate) struct Communicator {
    handle: ncclComm_t,
    members: u32,
}

impl Communicator {
    /// Meets the other members, which all must come.
    pub(crate) fn new(id: Id, members: u32, position: u32, purpose: Use) -> Result<Communicator> {
        let functions = functions()?;
        let mut config = config();
        match purpose {
            Use::Collectives => {}
            Use::Transfers => config.maxCTAs = ROUTE_BLOCKS,
        }
        let mut handle = null_mut();
        // SAFETY: the places are valid, and the device of this rank is current.
        let result = unsafe { (functions.make)(&mut handle, members as c_int, id, position as c_int, &raw mut config) };
        functions.check(result, "ncclCommInitRankConfig")?;
        Ok(Communicator { handle, members })
    }

    /// Enqueues that numbers of all members are joined, in place.
    pub(crate) fn all_reduce(
        &self,
        at: u64,
        (count, element): (u64, Element),
        reduce: Reduce,
        stream: &Stream,
    ) -> Result<()> {
        let functions = functions()?;
        let joined = match reduce {
            Reduce::Sum => ncclRedOp_t::ncclSum,
            Reduce::Max => ncclRedOp_t::ncclMax,
        };
        // SAFETY: as for kernels, the addresses are those of a verified program; the stream and all members live.
        let result = unsafe {
            let (at, handle) = (at as *mut c_void, self.handle);
            (functions.all_reduce)(at, at, count as usize, kind(element), joined, handle, stream.handle().cast())
        };
        functions.check(result, "ncclAllReduce")
    }

    /// Enqueues that every member gets so many numbers of the sum of all sources.
    pub(crate) fn reduce_scatter(
        &self,
        [from, to]: [u64; 2],
        (count, element): (u64, Element),
        stream: &Stream,
    ) -> Result<()> {
        let functions = functions()?;
        // SAFETY: as for the all-reduce.
        let result = unsafe {
            (functions.reduce_scatter)(
                from as *const c_void,
                to as *mut c_void,
                count as usize,
                kind(element),
                ncclRedOp_t::ncclSum,
                self.handle,
                stream.handle().cast(),
            )
        };
        functions.check(result, "ncclReduceScatter")
    }

    /// Enqueues that every member gets so many numbers of each, one after the other.
    pub(crate) fn all_gather(
        &self,
        [from, to]: [u64; 2],
        (count, element): (u64, Element),
        stream: &Stream,
    ) -> Result<()> {
        let functions = functions()?;
        // SAFETY: as for the all-reduce.
        let result = unsafe {
            let (from, to) = (from as *const c_void, to as *mut c_void);
            (functions.all_gather)(from, to, count as usize, kind(element), self.handle, stream.handle().cast())
        };
        functions.check(result, "ncclAllGather")
    }

    /// Enqueues that every member gets its so many numbers of each, one after the other.
    pub(crate) fn all_to_all(
        &self,
        [from, to]: [u64; 2],
        (count, element): (u64, Element),
        stream: &Stream,
    ) -> Result<()> {
        let functions = functions()?;
        let bytes = count * element.bytes();
        // SAFETY: groups nest by thread, and this one is ended below.
        functions.check(unsafe { (functions.begin_group)() }, "ncclGroupStart")?;
        let moved = (0..self.members).try_for_each(|other| {
            let place = u64::from(other) * bytes;
            self.send(from + place, (count, element), other, stream)?;
            self.receive(to + place, (count, element), other, stream)
        });
        // SAFETY: the group was begun.
        let ended = functions.check(unsafe { (functions.end_group)() }, "ncclGroupEnd");
        moved.and(ended)
    }

    /// Enqueues that so many numbers go to a member.
    pub(crate) fn send(&self, from: u64, (count, element): (u64, Element), member: u32, stream: &Stream) -> Result<()> {
        let functions = functions()?;
        // SAFETY: as for the all-reduce.
        let result = unsafe {
            let (from, member) = (from as *const c_void, member as c_int);
            (functions.send)(from, count as usize, kind(element), member, self.handle, stream.handle().cast())
        };
        functions.check(result, "ncclSend")
    }

    /// Enqueues that so many numbers come from a member.
    pub(crate) fn receive(
        &self,
        to: u64,
        (count, element): (u64, Element),
        member: u32,
        stream: &Stream,
    ) -> Result<()> {
        let functions = functions()?;
        // SAFETY: as for the all-reduce.
        let result = unsafe {
            let (to, member) = (to as *mut c_void, member as c_int);
            (functions.receive)(to, count as usize, kind(element), member, self.handle, stream.handle().cast())
        };
        functions.check(result, "ncclRecv")
    }

    /// Gives it back. All members must do so, and none may have work under way on its device.
    pub(crate) fn close(self) -> Result<()> {
        let functions = functions()?;
        // SAFETY: the communicator lives, and is not used after.
        unsafe {
            functions.check((functions.finalize)(self.handle), "ncclCommFinalize")?;
            functions.check((functions.destroy)(self.handle), "ncclCommDestroy")
        }
    }
}

impl Functions {
    fn check(&self, result: ncclResult_t, call: &'static str) -> Result<()> {
        if result == ncclResult_t::ncclSuccess {
            return Ok(());
        }
        let text = |text: *const c_char| {
            // SAFETY: the library's texts live for ever, or until the next call of this thread.
            if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
        };
        // SAFETY: both take any argument.
        let [what, last] = unsafe { [text((self.error_text)(result)), text((self.last_error)(null_mut()))] };
        Err(Error::Call { call, reason: if last.is_empty() { what } else { format!("{what} ({})", last.trim()) } })
    }
}

fn kind(element: Element) -> ncclDataType_t {
    match element {
        Element::F32 => ncclDataType_t::ncclFloat32,
        Element::Bf16 => ncclDataType_t::ncclBfloat16,
        Element::I32 => ncclDataType_t::ncclInt32,
    }
}

fn config() -> ncclConfig_t {
    ncclConfig_t {
        size: size_of::<ncclConfig_t>(),
        magic: CONFIG_MAGIC,
        version: CONFIG_VERSION,
        blocking: 1,
        cgaClusterSize: UNDEFINED,
        minCTAs: UNDEFINED,
        maxCTAs: UNDEFINED,
        netName: null(),
        splitShare: UNDEFINED,
        trafficClass: UNDEFINED,
        commName: null(),
        collnetEnable: UNDEFINED,
        CTAPolicy: UNDEFINED,
        shrinkShare: UNDEFINED,
        nvlsCTAs: UNDEFINED,
        nChannelsPerNetPeer: UNDEFINED,
        nvlinkCentricSched: UNDEFINED,
    }
}
