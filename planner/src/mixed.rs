//! Finds plans on unlike devices: those on each part alone, as ever, and pipelines with stages on several parts.

use ir::cluster::Cluster;
use ir::graph::Graph;
use ir::model::Precision;
use rayon::prelude::*;
use solver::Method;

use crate::attempt::{Bounded, Estimated, Estimates, NEAR, Reach};
use crate::known::Known;
use crate::line::{Line, Parts};
use crate::lines::{Wanted, Way, ways};
use crate::play::{Candidate, compared, whole};
use crate::refine::{Judges, refined};
use crate::rough::Rough;
use crate::rules::Rules;
use crate::search::{Found, NoPlan, Progress, Request, search};
use crate::space::Setting;

/// What is asked for.
#[derive(Clone)]
pub struct FleetRequest<'a> {
    /// The model.
    pub graph: &'a Graph,
    /// How numbers are stored.
    pub precision: Precision,
    /// The devices.
    pub parts: Parts<'a>,
    /// Sequences of a step.
    pub batch: u64,
    /// How problems are solved.
    pub method: Method,
    /// How many plans are listed at most.
    pub keep: usize,
    /// What plans may be.
    pub rules: Rules,
}

/// A plan with the part on which each stage lies.
#[derive(Clone, Debug)]
pub struct Seated {
    /// The plan and what it costs.
    pub candidate: Candidate,
    /// The part of each stage.
    pub parts: Vec<usize>,
}

/// What was looked at beside plans on one part alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mixed {
    /// Pipelines over several parts: which part each stage lies on, microbatches, degrees.
    pub ways: usize,
    /// Of those, how many were solved, as none of the others can be faster than the best known.
    pub solved: usize,
    /// Plans that were simulated whole.
    pub simulated: usize,
}

/// The answer of a search on unlike devices.
#[derive(Clone, Debug)]
pub struct FleetFound {
    /// Plans that fit, the fastest first; never empty.
    pub seated: Vec<Seated>,
    /// What each part gives alone.
    pub alone: Vec<Result<Found, NoPlan>>,
    /// What was looked at beside those.
    pub mixed: Mixed,
}

impl<'a> FleetRequest<'a> {
    /// The search on one part alone.
    pub fn alone(&self, part: usize) -> Request<'a> {
        Request {
            setting: self.setting(part),
            batch: self.batch,
            method: self.method.clone(),
            keep: self.keep,
            rules: self.rules.clone(),
        }
    }

    fn setting(&self, part: usize) -> Setting<'a> {
        let Parts { clusters, costs } = self.parts;
        let (cluster, costs) = (&clusters[part], costs.part(part));
        Setting { graph: self.graph, cluster, costs, precision: self.precision, line: None }
    }

    /// The setting of a line over several parts.
    pub fn on<'l>(&'l self, line: &'l Line<'l>) -> Setting<'l> {
        Setting { line: Some(line), ..self.setting(line.base) }
    }
}

/// The best plans on parts of a fleet, each alone and together. `progress` is told steps done and to do; if no plan fits
/// anywhere, the reason of each part.
pub fn search_fleet(request: &FleetRequest<'_>, progress: Progress<'_>) -> Result<FleetFound, Vec<NoPlan>> {
    let parts = request.parts.clusters.len();
    let alone: Vec<Result<Found, NoPlan>> = (0..parts).map(|part| search(&request.alone(part), progress)).collect();
    let mut seated: Vec<Seated> = Vec::new();
    for (part, found) in alone.iter().enumerate() {
        let candidates = found.iter().flat_map(|found| &found.candidates);
        seated.extend(
            candidates.map(|candidate| Seated {
                parts: vec![part; candidate.plan.stages.len()],
                candidate: candidate.clone(),
            }),
        );
    }
    let mut mixed = Mixed::default();
    if parts > 1 {
        let best = seated.iter().map(|each| each.candidate.trace.step.0).fold(f64::INFINITY, f64::min);
        seated.extend(together(request, best, &mut mixed, progress));
        // Of equally fast ones, the plainer stays first: those of one part stand before.
        seated.sort_by(|a, b| a.candidate.trace.step.0.total_cmp(&b.candidate.trace.step.0));
        seated.truncate(request.keep.max(1));
    }
    progress(1, 1);
    if seated.is_empty() {
        return Err(alone.into_iter().filter_map(Result::err).collect());
    }
    Ok(FleetFound { seated, alone, mixed })
}

/// Ways that are opened side by side. Fixed, so that the answer does not depend on the number of threads.
const AT_ONCE: usize = 8;

/// Ways that are solved at most, the best bounds first.
const SOLVED_MAX: usize = 400;

/// Plans that are simulated whole.
const COMPARED: usize = 24;

/// How many of these are refined, if they are nearly as fast as the first.
const REFINED: usize = 3;
const REFINED_WITHIN: f64 = 1.02;

/// A plan by estimate, and the line that it lies on.
struct Guess {
    estimated: Estimated,
    line: usize,
}

/// Plans with stages on several parts that are faster than `best`, in seconds.
fn together(request: &FleetRequest<'_>, best: f64, mixed: &mut Mixed, progress: Progress<'_>) -> Vec<Seated> {
    let clusters = request.parts.clusters;
    let devices: Vec<u32> = clusters.iter().map(Cluster::device_count).collect();
    let work: Vec<Rough> = (0..clusters.len()).map(|part| Rough::new(request.setting(part))).collect();
    let FleetRequest { graph, batch, rules, .. } = request;
    let ways = ways(Wanted { graph, devices: &devices, work: &work, batch: *batch, rules }, best);
    mixed.ways = ways.len();
    let mut stages: Vec<Vec<usize>> = ways.iter().map(|way| way.stages.clone()).collect();
    stages.sort_unstable();
    stages.dedup();
    let lines = stages.into_iter().map(|stages| Line::new(request.parts, stages)).collect();
    let together = Together { request, known: Known::default(), lines, ways, best };
    let guesses = together.guesses(mixed, progress);
    let simulated = together.simulated(guesses, mixed);
    together.confirmed(simulated)
}

/// The search over several parts.
struct Together<'r> {
    request: &'r FleetRequest<'r>,
    known: Known,
    /// Sorted by the parts of their stages.
    lines: Vec<Line<'r>>,
    ways: Vec<Way>,
    /// The step to stay below, in seconds.
    best: f64,
}

impl Together<'_> {
    /// Plans by estimate, as long as one may be among the best; the fastest first.
    fn guesses(&self, mixed: &mut Mixed, progress: Progress<'_>) -> Vec<Guess> {
        let mut guesses: Vec<Guess> = Vec::new();
        let mut upper = self.best;
        for chunk in self.ways.chunks(AT_ONCE) {
            if chunk[0].bound >= upper || mixed.solved >= SOLVED_MAX {
                break;
            }
            progress(mixed.solved, self.ways.len().min(SOLVED_MAX) + 1);
            let opened: Vec<Vec<Guess>> = chunk.par_iter().filter_map(|way| self.opened(way, upper)).collect();
            mixed.solved += opened.len();
            guesses.extend(opened.into_iter().flatten());
            guesses.sort_by(|a, b| a.estimated.step.0.total_cmp(&b.estimated.step.0));
            upper = upper.min(guesses.first().map_or(f64::INFINITY, |first| first.estimated.step.0 * NEAR));
        }
        guesses.retain(|guess| guess.estimated.step.0 <= upper);
        guesses.truncate(COMPARED);
        guesses
    }

    /// The plans of one way that may stay below so many seconds. None if there cannot be any.
    fn opened(&self, way: &Way, upper: f64) -> Option<Vec<Guess>> {
        let line = self.lines.binary_search_by(|line| line.stages.cmp(&way.stages)).expect("every line is listed");
        let setting = self.request.on(&self.lines[line]);
        let order = Bounded::sorted(setting, &self.known, vec![way.outer.clone()]);
        if order.first()?.bound >= upper {
            return None;
        }
        let asked = Request { setting, ..self.request.alone(self.lines[line].base) };
        let found = Estimates::new(&asked, &self.known, &order, Reach::Below(upper), &|_, _| {});
        Some(found.estimates.into_iter().map(|estimated| Guess { estimated, line }).collect())
    }

    /// Plans and their lines, simulated, with what small changes make of the first; the fastest first.
    fn simulated(&self, guesses: Vec<Guess>, mixed: &mut Mixed) -> Vec<(Candidate, usize)> {
        mixed.simulated += guesses.len();
        let simulated = guesses.par_iter().filter_map(|Guess { estimated, line }| {
            let found = compared(self.request.on(&self.lines[*line]), &estimated.plan).ok()?;
            Some((Candidate { estimated: Some(estimated.step), ..found }, *line))
        });
        let step = |each: &(Candidate, usize)| each.0.trace.step.0;
        let mut simulated: Vec<(Candidate, usize)> = simulated.collect();
        simulated.sort_by(|a, b| step(a).total_cmp(&step(b)));
        let near = simulated.first().map_or(f64::INFINITY, step) * REFINED_WITHIN;
        let starts: Vec<(Candidate, usize)> =
            simulated.iter().filter(|it| step(it) <= near).take(REFINED).cloned().collect();
        for (start, line) in starts {
            let setting = self.request.on(&self.lines[line]);
            let mut judges = Judges::new(setting, &self.request.rules, &self.known);
            let (refined, tried) = refined(&mut judges, vec![start]);
            mixed.simulated += tried;
            simulated.extend(refined.map(|refined| (refined, line)));
        }
        simulated.sort_by(|a, b| step(a).total_cmp(&step(b)));
        simulated.dedup_by(|a, b| a.1 == b.1 && a.0.plan == b.0.plan);
        simulated
    }

    /// Those that may be listed: verified, and faster than the best known.
    fn confirmed(&self, mut simulated: Vec<(Candidate, usize)>) -> Vec<Seated> {
        let is_faster = |candidate: &Candidate| candidate.trace.step.0 < self.best;
        simulated.retain(|(candidate, _)| is_faster(candidate));
        simulated.truncate(self.request.keep.max(1));
        let seated = simulated.into_par_iter().filter_map(|(candidate, line)| {
            let candidate = whole(self.request.on(&self.lines[line]), candidate).filter(is_faster)?;
            Some(Seated { candidate, parts: self.lines[line].stages.clone() })
        });
        seated.collect()
    }
}
