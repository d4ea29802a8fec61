//! Chooses the plan.
//!
//! Outer choices (stages, microbatches) each make a [`problem::Problem`] of bare numbers, whose costs are differences
//! of small simulated programs; a solver finds the best stages and strategies; the best answers are compiled and
//! simulated whole.

mod costing;
pub mod problem;
mod recipes;
mod search;
pub mod solve;
mod space;

pub use recipes::{Baseline, Failure, baselines};
pub use search::{Candidate, Effort, Found, NoPlan, Progress, Request, candidate, played, search};
pub use space::{Outer, Setting, Space, outer_choices};
