//! Chooses the plan.
//!
//! Outer choices (stages, microbatches) each make a [`problem::Problem`] of bare numbers, whose costs are differences
//! of small simulated programs; a solver finds the best stages and strategies; the best answers are compiled and
//! simulated whole.

mod costing;
mod period;
mod play;
pub mod problem;
mod recipes;
mod search;
pub mod solve;
mod space;

pub use play::{Candidate, Extent, candidate, played};
pub use recipes::{Baseline, Failure, baselines};
pub use search::{Effort, Found, NoPlan, Progress, Request, search};
pub use space::{Outer, Setting, Space, outer_choices};
