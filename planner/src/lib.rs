//! Chooses the plan.
//!
//! Outer choices (stages, microbatches) each make a [`solver::Problem`] of bare numbers, whose costs are differences
//! of small simulated programs; a solver finds the best stages and strategies; the best answers are compiled and
//! simulated whole.

mod attempt;
mod costing;
mod goodput;
mod known;
mod least;
mod line;
mod lines;
mod mixed;
mod moves;
mod outer;
mod period;
mod play;
mod rank;
mod recipes;
mod refine;
mod robust;
mod rough;
mod rules;
mod search;
mod space;
mod speed;
mod sum;
mod tie;

pub use goodput::{Failures, Goodput, goodput};
pub use known::Known;
pub use line::{Line, Parts};
pub use mixed::{FleetFound, FleetRequest, Mixed, Seated, search_fleet};
pub use outer::{Outer, outer_choices, outer_choices_within};
pub use play::{Candidate, Extent, candidate, played};
pub use rank::NOISE;
pub use recipes::{Baseline, Unusable, baselines};
pub use robust::{Robustness, SAMPLES, robustness};
pub use rules::{Mix, Rules};
pub use search::{Coverage, Found, NoPlan, OnAll, Progress, Request, Sums, search};
pub use space::{Setting, Space};
