//! Pipelines over unlike devices: on which part of a fleet each stage lies, and what that changes for its plans.

use compiler::{Sketch, Violation};
use cost_model::{Deadlock, Detail, FleetModel, Seats, simulate, simulate_draft, simulate_draft_on, simulate_on};
use ir::cluster::Cluster;
use ir::plan::Plan;
use ir::program::{Draft, Programs};
use ir::trace::Trace;
use ir::units::Bytes;

use crate::space::Setting;

/// The parts of a fleet, as plans are searched on them.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The devices of each, without what stays free.
    pub clusters: &'a [Cluster],
    /// What work costs on each.
    pub costs: &'a FleetModel,
}

/// A pipeline's way over the parts of a fleet.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// The parts.
    pub(crate) parts: Parts<'a>,
    /// The part on which each stage lies.
    pub(crate) stages: Vec<usize>,
    /// The part on which layers are costed; stages elsewhere take so many times as long.
    pub(crate) base: usize,
}

impl<'a> Line<'a> {
    /// A line over these parts, one for each stage.
    ///
    /// # Panics
    /// There is no stage, or no such part.
    pub fn new(parts: Parts<'a>, stages: Vec<usize>) -> Line<'a> {
        assert!(stages.iter().all(|&part| part < parts.clusters.len()), "stages lie on parts of the fleet");
        let base = *stages.first().expect("a pipeline has stages");
        Line { parts, stages, base }
    }

    fn seats(&self) -> Seats<'_> {
        Seats::on_parts(self.parts.costs, &self.stages)
    }
}

impl<'a> Setting<'a> {
    /// The same on the devices of one part of its line.
    pub(crate) fn on_part(self, part: usize) -> Setting<'a> {
        match self.line {
            Some(line) => {
                let Parts { clusters, costs } = line.parts;
                Setting { cluster: &clusters[part], costs: costs.part(part), ..self }
            }
            None => self,
        }
    }

    /// The part on which a stage lies; 0 where devices are alike.
    pub(crate) fn part(self, stage: usize) -> usize {
        self.line.map_or(0, |line| line.stages[stage])
    }

    /// The part on which a layer of a plan lies.
    pub(crate) fn part_of(self, plan: &Plan, layer: usize) -> usize {
        self.line.map_or(0, |line| line.stages[plan.stage_of(layer as u32)])
    }

    /// The part on which layers are costed.
    pub(crate) fn base(self) -> usize {
        self.line.map_or(0, |line| line.base)
    }

    /// Memory that an arena of a stage may take.
    pub(crate) fn capacity(self, stage: usize) -> Bytes {
        self.on_part(self.part(stage)).cluster.capacity()
    }

    fn capacities(self, plan: &Plan) -> Vec<Bytes> {
        (0..plan.stages.len()).map(|stage| self.capacity(stage)).collect()
    }

    /// Whether a plan is legal here: all violations that can be seen without compiling.
    pub(crate) fn check(self, plan: &Plan) -> Vec<Violation> {
        match self.line {
            Some(_) => compiler::check_anywhere(self.graph, plan),
            None => compiler::check(self.graph, self.cluster, plan),
        }
    }

    /// Verified programs of a plan that fits.
    pub fn compile(self, plan: &Plan) -> Result<Programs, Vec<Violation>> {
        match self.line {
            Some(_) => compiler::compile_within(self.graph, plan, &self.capacities(plan)),
            None => compiler::compile(self.graph, self.cluster, plan),
        }
    }

    /// The same for comparison with others.
    pub(crate) fn sketch(self, plan: &Plan) -> Result<Sketch, Vec<Violation>> {
        match self.line {
            Some(_) => compiler::sketch_within(self.graph, plan, &self.capacities(plan)),
            None => compiler::sketch(self.graph, self.cluster, plan),
        }
    }

    /// Plays programs, each stage where it lies.
    pub fn simulate(self, programs: &Programs, detail: Detail) -> Result<Trace, Deadlock> {
        match self.line {
            Some(line) => simulate_on(programs, line.seats(), detail),
            None => simulate(programs, self.costs, detail),
        }
    }

    /// Plays a draft, each stage where it lies.
    pub(crate) fn simulate_draft(self, draft: &Draft, detail: Detail) -> Result<Trace, Deadlock> {
        match self.line {
            Some(line) => simulate_draft_on(draft, line.seats(), detail),
            None => simulate_draft(draft, self.costs, detail),
        }
    }
}
