//! Simulates plans: whole, or, where a step has very many microbatches, as far as it does not repeat itself.

use compiler::{Sketch, Violation};
use cost_model::Detail;
use ir::plan::{Plan, Schedule};
use ir::program::Programs;
use ir::trace::{Totals, Trace};
use ir::units::{Bytes, Seconds};

use crate::space::Setting;

/// A plan with what it costs.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The plan.
    pub plan: Plan,
    /// Step time as the sum of its parts.
    pub estimated: Option<Seconds>,
    /// The simulated step, without events.
    pub trace: Trace,
    /// Its largest arena.
    pub peak: Bytes,
    /// Digest of its programs; 0 while it is only compared with others, and its programs are not verified.
    pub digest: u64,
    /// Whether every microbatch was simulated.
    pub extent: Extent,
}

/// How much of a step was simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Its first and last microbatches; those between repeat each other.
    Extended,
}

/// Steps that differ by less than this share are equally fast: prices are not known better.
pub(crate) const EQUALLY_FAST: f64 = 0.002;

/// Compiles and simulates one plan.
pub fn candidate(setting: Setting<'_>, plan: &Plan) -> Result<Candidate, Vec<Violation>> {
    let programs = setting.compile(plan)?;
    Ok(played(setting, plan, &programs))
}

/// Simulates programs of a plan.
pub fn played(setting: Setting<'_>, plan: &Plan, programs: &Programs) -> Candidate {
    let trace = setting.simulate(programs, Detail::Totals).expect("verified programs do not deadlock");
    Candidate {
        plan: plan.clone(),
        estimated: None,
        trace,
        peak: programs.peak(),
        digest: programs.digest(),
        extent: Extent::Whole,
    }
}

/// What placed programs take of memory, relative to what lives at once.
const PLACED: f64 = 1.01;

/// Compiles and simulates one plan for comparison: its programs are not verified.
fn drafted(setting: Setting<'_>, plan: &Plan) -> Result<Candidate, Vec<Violation>> {
    let Sketch { draft, least } = setting.sketch(plan)?;
    let mut trace = setting
        .simulate_draft(&draft, Detail::Totals)
        .map_err(|deadlock| vec![Violation::Program(deadlock.to_string())])?;
    // What the programs will take when they are placed with care.
    for (totals, least) in trace.totals.iter_mut().zip(least) {
        totals.arena = totals.arena.min(Bytes((least.as_f64() * PLACED) as u64));
    }
    let peak = trace.totals.iter().map(|totals| totals.arena).max().unwrap_or_default();
    Ok(Candidate { plan: plan.clone(), estimated: None, trace, peak, digest: 0, extent: Extent::Whole })
}

/// Microbatches of two shorter steps from which those of a longer one of the plan follow: enough that all stages are
/// at work, and more by what shows how fast they go on.
pub(crate) fn shorter_counts(plan: &Plan) -> [u32; 2] {
    let stages = plan.stages.len() as u32;
    [stages + 2, stages + 2 + (stages / 4).max(2)]
}

/// A plan whose step has so many microbatches of the same size.
pub(crate) fn shorter(plan: &Plan, microbatches: u32) -> Plan {
    let batch = plan.microbatch_sequences() * u64::from(microbatches);
    Plan { microbatches, batch, ..plan.clone() }
}

/// Microbatches that are simulated to compare a plan with others.
pub(crate) fn simulated_count(plan: &Plan) -> u32 {
    match plan.schedule {
        Schedule::OneForwardOneBackward => plan.microbatches.min(shorter_counts(plan).into_iter().sum()),
        // All-forward steps hold all microbatches: their memory has to be seen whole.
        Schedule::AllForward => plan.microbatches,
    }
}

/// What a plan costs, for comparison with others; its programs are not verified. Of very many microbatches, two shorter
/// steps are simulated, as long as that is less work: between its warm-up and its end a pipeline with one forward and one backward turn repeats itself, so time grows evenly.
pub(crate) fn compared(setting: Setting<'_>, plan: &Plan) -> Result<Candidate, Vec<Violation>> {
    if simulated_count(plan) == plan.microbatches {
        return drafted(setting, plan);
    }
    extended(plan, |plan| drafted(setting, plan))
}

/// A plan of very many microbatches, as two shorter steps of it play.
fn extended(
    plan: &Plan,
    play: impl Fn(&Plan) -> Result<Candidate, Vec<Violation>>,
) -> Result<Candidate, Vec<Violation>> {
    let [few, many] = shorter_counts(plan);
    let [less, more] = [play(&shorter(plan, few))?, play(&shorter(plan, many))?];
    let growth = f64::from(plan.microbatches - many) / f64::from(many - few);
    let extend = |less: Seconds, more: Seconds| Seconds(more.0 + (more.0 - less.0) * growth);
    let totals = less.trace.totals.iter().zip(&more.trace.totals).map(|(less, more)| Totals {
        rank: more.rank,
        compute: extend(less.compute, more.compute),
        exchange: extend(less.exchange, more.exchange),
        transfer: extend(less.transfer, more.transfer),
        hidden: extend(less.hidden, more.hidden),
        idle: extend(less.idle, more.idle),
        arena: more.arena,
    });
    let trace = Trace {
        step: extend(less.trace.step, more.trace.step),
        totals: totals.collect(),
        shares: [0, 1, 2].map(|index| extend(less.trace.shares[index], more.trace.shares[index])),
        ..more.trace.clone()
    };
    Ok(Candidate { plan: plan.clone(), trace, extent: Extent::Extended, ..more })
}

/// By how much of itself the peak of a whole step may differ from that of a shorter one, which is placed otherwise.
const PEAK_VARIES: f64 = 0.02;

/// A plan as it may be listed: its programs are verified. Of one that was simulated in part, those are of that part,
/// unless it comes so near the capacity that the whole has to be seen to fit.
pub(crate) fn confirmed(setting: Setting<'_>, known: Candidate) -> Result<Candidate, Vec<Violation>> {
    let surely = |stage: usize| setting.capacity(stage).as_f64() * (1.0 - PEAK_VARIES);
    let plan = &known.plan;
    if known.extent == Extent::Whole {
        let whole = candidate(setting, plan)?;
        return Ok(Candidate { estimated: known.estimated, ..whole });
    }
    let mut arenas = known.trace.totals.iter().enumerate();
    let placed = if arenas.all(|(stage, totals)| totals.arena.as_f64() <= surely(stage)) {
        extended(plan, |plan| candidate(setting, plan))?
    } else {
        candidate(setting, plan)?
    };
    Ok(Candidate { estimated: known.estimated, ..placed })
}

/// The same simulated whole, if it fits.
pub(crate) fn whole(setting: Setting<'_>, known: Candidate) -> Option<Candidate> {
    match known.extent {
        Extent::Whole => confirmed(setting, known).ok(),
        Extent::Extended => {
            let whole = candidate(setting, &known.plan).ok()?;
            Some(Candidate { estimated: known.estimated, ..whole })
        }
    }
}
