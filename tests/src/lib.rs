//! What the tests of the whole share: tiny models, a short way to write plans, random ones, and trainings.
//!
//! Modules stand in the order in which one should read them.

pub mod notation;
pub mod specimen;
pub mod training;

pub mod tensors;

pub mod arbitrary;
