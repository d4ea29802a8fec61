//! What belongs to the machine and not to a work: its steady state, what events and instructions cost, and the memory
//! that is taken beside arenas.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use executor::{Backend, Issue};
use ir::profile::{RESERVED_GROUPS, State};
use ir::units::{Bytes, Seconds};
use ir::ways::Ways;
use kernels::cuda::{Device, Vitals};

use super::times::Overhead;
use super::{Measuring, programs, warm};
use crate::bench::Bench;
use crate::fold::median;
use crate::measure::Error;

/// Instructions of the shorter one of the programs that time how one is started; the other has twice as many.
const INSTRUCTIONS: usize = 2000;
/// Between two looks at clock and power.
const LOOK: Duration = Duration::from_millis(100);

impl Measuring<'_> {
    /// What events and instructions cost, and what memory is taken beside arenas. Brings devices to their steady state.
    pub(super) fn machine(&mut self) -> Result<(), Error> {
        self.ledger.announce("steady state, time of an instruction");
        let mut bench = self.load(programs::events(self.ranks(), self.ballast), 1)?;
        let sustained = self.ledger.limits.load;
        let state = State { sustained, ..self.watched(|| warm(&mut bench, sustained.0))? };
        let traces = self.traces(&mut bench)?;
        self.overhead = Overhead::of(&traces);
        self.beside_alone = self.beside(bench.arena())?;
        drop(bench);
        self.beside_met = self.met()?;
        self.ledger.profile.reserved = self.ledger.profile.reserved.max(self.beside_met);
        let group = self.beside_met.saturating_sub(self.beside_alone).0 / RESERVED_GROUPS;
        self.ledger.profile.reserved_group = Some(Bytes(group));
        if self.ledger.profile.state.is_some() {
            return Ok(());
        }
        self.ledger.profile.issue = self.issue(Issue::Eager)?;
        self.ledger.profile.issue_recorded = Some(self.issue(Issue::Recorded)?);
        self.ledger.profile.state = Some(state);
        self.ledger.grown()
    }

    /// Does something, and says what clock and power a device had meanwhile.
    fn watched(&self, work: impl FnOnce() -> Result<(), Error>) -> Result<State, Error> {
        let vitals = self.device.as_ref().and_then(Device::vitals);
        let is_over = AtomicBool::new(false);
        let look = || {
            let (mut clocks, mut powers) = (Vec::new(), Vec::new());
            while let (Some(vitals), false) = (&vitals, is_over.load(Ordering::Relaxed)) {
                thread::sleep(LOOK);
                clocks.push(Vitals::clock_mhz(vitals));
                powers.push(Vitals::power_watts(vitals));
            }
            // What was seen in the second half: then all is steady, and power, a mean of a second, has come up.
            let late = |list: Vec<Option<f64>>| {
                let mut seen: Vec<f64> = list[list.len() / 2..].iter().flatten().copied().collect();
                (!seen.is_empty()).then(|| median(&mut seen))
            };
            (late(clocks), late(powers))
        };
        thread::scope(|scope| {
            let watch = scope.spawn(look);
            let done = work();
            is_over.store(true, Ordering::Relaxed);
            let (clock_mhz, power_watts) = watch.join().expect("looking does not panic");
            done.map(|()| State { sustained: Seconds::ZERO, clock_mhz, power_watts })
        })
    }

    /// What one more instruction adds to a step of thousands: the host's part, or the device's if that is longer.
    fn issue(&self, issue: Issue) -> Result<Seconds, Error> {
        let backend = match self.backend {
            Backend::Cuda { .. } => Backend::Cuda { issue },
            Backend::Threads | Backend::Shuffle { .. } => self.backend,
        };
        let mut medians = Vec::new();
        for count in [INSTRUCTIONS, 2 * INSTRUCTIONS] {
            let mut bench = Bench::load_noise(programs::queue(self.ranks(), count), 1, (backend, Ways::default()))?;
            warm(&mut bench, self.ledger.limits.program.0 / 2.0)?;
            let times: Result<Vec<f64>, Error> =
                (0..self.ledger.limits.steps_max).map(|_| Ok(bench.step()?.0)).collect();
            medians.push(median(&mut times?));
        }
        Ok(Seconds(((medians[1] - medians[0]) / INSTRUCTIONS as f64).max(0.0)))
    }

    /// Memory of a device that is taken beside an arena now. Of CPU ranks it is not known.
    fn beside(&self, arena: Bytes) -> Result<Bytes, Error> {
        let Some(device) = &self.device else { return Ok(self.cluster.device.reserved) };
        let taken = device.memory()?.saturating_sub(device.free_memory()?);
        Ok(taken.saturating_sub(arena).round_up(1 << 20))
    }

    /// The same when ranks have met on every stream.
    fn met(&self) -> Result<Bytes, Error> {
        if self.ranks() == 1 {
            return Ok(self.beside_alone);
        }
        let mut bench = self.load(programs::meetings(self.ranks()), 1)?;
        bench.step()?;
        self.beside(bench.arena())
    }

    /// Code and workspaces of kernels come on top of what ranks that meet need.
    pub(super) fn note_beside(&mut self, arena: Bytes) -> Result<(), Error> {
        let more = self.beside(arena)?.saturating_sub(self.beside_alone);
        let reserved = &mut self.ledger.profile.reserved;
        *reserved = (*reserved).max(self.beside_met + more);
        Ok(())
    }
}
