//! Measures what work takes on this machine: writes micro-programs, has them executed, folds their traces.
//!
//! Kernels are timed where they stand: a layer's program, as the compiler makes it, runs on one rank, cut so that
//! every kernel is an instruction of its own. So operands are as warm or cold in the caches as in a real step.
//!
//! Modules stand in the order in which one should read them.

pub mod catalogue;

mod alone;
mod amount;
mod bench;
mod fold;
mod general;
pub mod gpu;
mod ledger;
pub mod measure;
mod micro;
mod rates;
mod table;

pub use measure::{Error, Limits, Request, Watcher, measure};
pub use rates::calibrated;
pub use table::summary;
