//! Plays programs against the clock: a discrete-event simulation of one step.
//!
//! Ranks of one stage do the same work at the same time, so one of them (the first) is played for each role. Each has
//! eight streams, queues in the order of the code. What takes time:
//!
//! - **Compute** runs for the time of its kernels. The host issues instructions in the order of the code, one after
//!   the other and never waiting; nothing starts before it was issued, so many small kernels are bound by the host.
//! - **Exchange** within a stage starts when its rank comes to it: all members are alike. If the pipeline axis is in
//!   its group, it starts when all roles have come.
//! - **Send and Receive** start when both sides have come to them and end together.
//!
//! On devices that run streams side by side, tasks of one rank that overlap slow each other: by measured or default
//! pairs, and flows that fill the same link in the same direction share it. Whenever the set of busy streams of a rank
//! changes, what remains of each task is timed anew.
//!
//! On devices that are a thread on shared cores, a rank serves one stream at a time: of those that can go on the one
//! whose instruction comes first in the code. A send takes no time of its thread: the receiver copies. Whatever a
//! thread does slows by how many ranks of its node are at work.

mod agenda;
mod deadlock;
mod engine;
mod player;
mod record;
#[cfg(test)]
mod tests;
mod timing;

use ir::program::{Draft, Programs};
use ir::trace::{Origin, Trace};
use ir::units::Seconds;

use crate::fleet::Seats;
use crate::model::CostModel;
use crate::prices::Prices;
use engine::{Engine, Regime};

pub use deadlock::{Deadlock, Stuck};

/// How much a simulation tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Only totals of each role. Fast.
    Totals,
    /// Also every event, and memory over time.
    Events,
}

/// The predicted trace of one step; a deadlock if the programs cannot come to their end.
pub fn simulate(programs: &Programs, model: &CostModel, detail: Detail) -> Result<Trace, Deadlock> {
    simulate_on(programs, Seats::alike(model), detail)
}

/// The same where stages lie on unlike devices.
pub fn simulate_on(programs: &Programs, seats: Seats<'_>, detail: Detail) -> Result<Trace, Deadlock> {
    let trace = play(programs.draft(), seats, detail, Regime::of(seats))?;
    Ok(Trace { digest: programs.digest(), ..trace })
}

/// The same of programs that were not verified, for comparing plans; the digest is left 0.
pub fn simulate_draft(draft: &Draft, model: &CostModel, detail: Detail) -> Result<Trace, Deadlock> {
    simulate_draft_on(draft, Seats::alike(model), detail)
}

/// The same where stages lie on unlike devices.
pub fn simulate_draft_on(draft: &Draft, seats: Seats<'_>, detail: Detail) -> Result<Trace, Deadlock> {
    play(draft, seats, detail, Regime::of(seats))
}

/// The time that a step would take if nothing slowed anything, and each rank could do all its streams at once.
pub(crate) fn ideal_step(draft: &Draft, model: &CostModel) -> Result<Seconds, Deadlock> {
    play(draft, Seats::alike(model), Detail::Totals, Regime::Ideal).map(|trace| trace.step)
}

/// Plays a draft; the digest is left 0.
fn play(draft: &Draft, seats: Seats<'_>, detail: Detail, regime: Regime) -> Result<Trace, Deadlock> {
    let prices = Prices::of_draft(draft, seats);
    let mut engine = Engine::new(draft, &prices, seats, regime, detail);
    let step = engine.run()?;
    let (totals, shares, recording) = engine.finish(step);
    let (events, memory) = recording.map_or_else(Default::default, record::Recording::sorted);
    Ok(Trace { origin: Origin::Predicted, digest: 0, step: Seconds(step), events, memory, totals, shares })
}
