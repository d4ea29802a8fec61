//! What can go wrong on a device, each in one sentence that says what to do.

use ir::units::Bytes;
use thiserror::Error;

/// Why a device cannot be opened, prepared or used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// There is no driver.
    #[error("libcuda.so.1 cannot be loaded: install the NVIDIA driver")]
    NoDriver,
    /// The driver serves no device of this number.
    #[error("there is no GPU {ordinal}: the driver sees {count} (CUDA_VISIBLE_DEVICES may hide some)")]
    NoDevice {
        /// What was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The driver is from before what we use.
    #[error("the NVIDIA driver knows CUDA {}.{} and 12.8 or later is needed: install a newer driver", .version / 1000, .version % 1000 / 10)]
    OldDriver {
        /// As the driver tells it: 1000 times the major version and 10 times the minor.
        version: i32,
    },
    /// The device is from before tensor cores for bf16.
    #[error("GPU {ordinal} has compute capability {major}.{minor} and 8.0 or later is needed")]
    OldDevice {
        /// Which device.
        ordinal: usize,
        /// Its capability, before the point.
        major: i32,
        /// And behind it.
        minor: i32,
    },
    /// A library that comes with the CUDA toolkit is missing.
    #[error(
        "{library} cannot be loaded: `pip install {package}` and name the folder of its libraries in HETU_CUDA_LIBRARIES"
    )]
    NoLibrary {
        /// The file.
        library: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// The device has too little memory.
    #[error("the GPU has no {wanted} of memory: {free} are free")]
    Memory {
        /// What was asked for.
        wanted: Bytes,
        /// What there is.
        free: Bytes,
    },
    /// A kernel did not compile: our own mistake, or a compiler that is too old.
    #[error("{file} does not compile for {architecture}:\n{log}")]
    Compile {
        /// The source.
        file: &'static str,
        /// For what.
        architecture: String,
        /// What the compiler says.
        log: String,
    },
    /// An operation in a form that has no implementation.
    #[error("{op} has no CUDA kernel for this: {why}")]
    Unsupported {
        /// The operation.
        op: &'static str,
        /// What about it.
        why: String,
    },
    /// An address is not as aligned as was promised when the kernel was prepared.
    #[error("{op} was prepared for buffers at multiples of 16 bytes, and one is at {address:#x}")]
    Alignment {
        /// The operation.
        op: &'static str,
        /// Where the operand lies.
        address: u64,
    },
    /// A call failed.
    #[error("{call} failed: {reason}")]
    Call {
        /// The function of the driver or library.
        call: &'static str,
        /// What it answered.
        reason: String,
    },
}
