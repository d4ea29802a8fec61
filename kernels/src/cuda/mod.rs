//! NVIDIA devices: kernels that are prepared once and launched without waiting.
//!
//! A caller opens a [`Device`], takes one piece of memory for all its buffers, prepares every kernel of its program
//! ([`Device::prepare`]), and then enqueues them with the addresses of their operands ([`Prepared::launch`]). How an
//! operation is computed stands beside its reference: `<op>/<op>.cu` is the code, and `<op>/cuda.rs` says with which
//! blocks it runs. Code is compiled for the device at its first use, and kept.
//!
//! The libraries of the driver and of the toolkit are loaded when a device is opened; nothing of them is needed to
//! build, and without them opening fails in one sentence.

mod compile;
pub mod conformance;
mod device;
mod driver;
mod error;
mod graph;
mod library;
pub(crate) mod lower;
pub(crate) mod lowered;
mod prepared;
mod product;
mod tune;
mod vitals;
mod window;

#[cfg(test)]
mod shim;
#[cfg(test)]
mod tests;

pub use device::Device;
pub use driver::{Event, Memory, Stream};
pub use error::Error;
pub use graph::Graph;
pub use library::find_library;
pub use prepared::{Addresses, Prepared};
pub use product::{Choice, product_library};
pub use vitals::Vitals;
pub use window::Window;
