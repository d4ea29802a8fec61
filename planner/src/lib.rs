//! Chooses the plan.
//!
//! Outer choices (stages, microbatches) each make a [`solver::Problem`] of bare numbers, whose costs are differences
//! of small simulated programs; a solver finds the best stages and strategies; the best answers are compiled and
//! simulated whole.

mod costing;
mod goodput;
mod period;
mod play;
mod rank;
mod recipes;
mod refine;
mod rules;
mod search;
mod space;

pub use goodput::{Failures, Goodput, goodput};
pub use play::{Candidate, Extent, candidate, played};
pub use rank::NOISE;
pub use recipes::{Baseline, Unusable, baselines};
pub use rules::{Mix, Rules};
pub use search::{Coverage, Found, NoPlan, Progress, Request, search};
pub use space::{Outer, Setting, Space, outer_choices, outer_choices_within};
