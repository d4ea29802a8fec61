//! Chooses the plan.
pub mod problem;
pub mod solve;
