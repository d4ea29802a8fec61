//! Turns a plan into verified programs, in nine passes. The compiler obeys: it has no thresholds, every choice is a
//! field of the plan.
//!
//! | # | pass | what it does | why here |
//! |---|---|---|---|
//! | 1 | differentiate | operations write their gradients | on the logical graph, before anything is cut |
//! | 2 | retain | keeps or recomputes what the backward pass reads | recomputed operations are spread like any other |
//! | 3 | spread | local kernels and the exchanges between them | from layouts alone |
//! | 4 | fragment | sums join kernels; runs of kernels with their temporaries placed | once for equal layers, all microbatches |
//! | 5 | schedule | layers × microbatches as a list of tasks, each where it is due | needs what layers need |
//! | 6 | overlap | moves tasks: gathers ahead by the plan's depth, joins behind what would wait for them | before there is code |
//! | 7 | arena | an address for every buffer | from lifetimes in the order of the code |
//! | 8 | synchronize | signals and waits | also needs addresses: memory that is reused |
//! | 9 | verify | `Programs::verified`, in `ir` | trusts no pass before it |

mod axes;
mod check;
mod explain;
mod gradient;
mod layer;
mod memory;
mod step;
mod synchronize;

use ir::cluster::Cluster;
use ir::graph::Graph;
use ir::mesh::Mesh;
use ir::parallel;
use ir::plan::Plan;
use ir::program::{Block, Draft, Programs, StageId, StepSize, Transfer};
use ir::software::Software;
use ir::units::Bytes;

pub use axes::mesh;
pub use check::{Violation, check, check_anywhere};
pub use explain::{Pass, explain};
pub use layer::boundary::{can_repeat, stream_sizes};
pub use layer::fragment::BodyAction;
pub use layer::legal::{may_cut, strategies};
pub use layer::outline::{
    LayerBatch, LayerBytes, LayerOutline, Need, PassOutline, StepOutline, TiedOutline, boundary_exchanges, layer_bytes,
    layer_outline,
};
pub use layer::shelf::Shelf;
pub use step::visits::in_flight;

use layer::Purpose;
use layer::layers::Layers;
use layer::library::Library;
use layer::setting::{Manners, Setting};
use memory::arena::Arena;
use memory::place::{Effort, Placement};
use step::transfers::Transfers;
use step::{Job, step};

/// The programs of a training step, or every reason why there are none: rules broken, or memory missing.
pub fn compile(graph: &Graph, cluster: &Cluster, plan: &Plan) -> Result<Programs, Vec<Violation>> {
    let violations = check(graph, cluster, plan);
    if !violations.is_empty() {
        return Err(violations);
    }
    compiled(graph, plan, &vec![cluster.capacity(); plan.stages.len()])
}

/// The same where each stage lies on devices with so much memory for an arena, of which there are enough.
pub fn compile_within(graph: &Graph, plan: &Plan, capacities: &[Bytes]) -> Result<Programs, Vec<Violation>> {
    let violations = check_anywhere(graph, plan);
    if !violations.is_empty() {
        return Err(violations);
    }
    compiled(graph, plan, capacities)
}

/// The programs of a legal plan.
fn compiled(graph: &Graph, plan: &Plan, capacities: &[Bytes]) -> Result<Programs, Vec<Violation>> {
    let mesh = mesh(plan).map_err(|violation| vec![violation])?;
    let step = written_step(graph, &mesh, plan, Purpose::Training);
    verified(step.within(capacities, |_| Effort::Usual)?)
}

/// Programs for comparing plans: not verified, and placed only as well as they must be to fit.
pub struct Sketch {
    /// The programs.
    pub draft: Draft,
    /// Bytes that each stage would need if nothing were wasted.
    pub least: Vec<Bytes>,
}

/// The programs of a plan that is only compared with others: nobody will run or see most of these. Of those that cannot
/// fit, however they were placed, nothing is placed: the memory that is said to be missing is the least.
pub fn sketch(graph: &Graph, cluster: &Cluster, plan: &Plan) -> Result<Sketch, Vec<Violation>> {
    let violations = check(graph, cluster, plan);
    if !violations.is_empty() {
        return Err(violations);
    }
    sketched(graph, plan, &vec![cluster.capacity(); plan.stages.len()])
}

/// The same where each stage lies on devices with so much memory for an arena, of which there are enough.
pub fn sketch_within(graph: &Graph, plan: &Plan, capacities: &[Bytes]) -> Result<Sketch, Vec<Violation>> {
    let violations = check_anywhere(graph, plan);
    if !violations.is_empty() {
        return Err(violations);
    }
    sketched(graph, plan, capacities)
}

/// The sketch of a legal plan.
fn sketched(graph: &Graph, plan: &Plan, capacities: &[Bytes]) -> Result<Sketch, Vec<Violation>> {
    let mesh = mesh(plan).map_err(|violation| vec![violation])?;
    let step = written_step(graph, &mesh, plan, Purpose::Training);
    let least: Vec<Bytes> = step.arenas.iter().map(Arena::least).collect();
    let missing = missing(&least, capacities);
    if !missing.is_empty() {
        return Err(missing);
    }
    Ok(Sketch { draft: step.within(capacities, |capacity| Effort::Fitting(capacity.0))?, least })
}

/// What is said of stages that need more than there is.
fn missing(needs: &[Bytes], capacities: &[Bytes]) -> Vec<Violation> {
    let stages = (0..).zip(needs.iter().zip(capacities));
    let too_large = stages.filter(|(_, (needed, capacity))| needed > capacity);
    too_large.map(|(stage, (&needed, &capacity))| Violation::Memory { stage, needed, capacity }).collect()
}

/// The programs of a training step without regard to devices and memory: for tests and for asking what would be.
pub fn compile_unlimited(graph: &Graph, plan: &Plan) -> Result<Programs, Vec<Violation>> {
    verified(draft(graph, plan, Purpose::Training, USUAL)?)
}

/// The programs of a training step as another trainer would run it, without regard to memory: for predicting runs.
pub fn compile_as(graph: &Graph, plan: &Plan, software: &Software) -> Result<Programs, Vec<Violation>> {
    let violations = check_anywhere(graph, plan);
    if !violations.is_empty() {
        return Err(violations);
    }
    let mesh = mesh(plan).map_err(|violation| vec![violation])?;
    let setting = Setting { manners: Manners::of(software), ..Setting::new(graph, &mesh, plan, Purpose::Training) };
    let mut library = Library::default();
    let layers = Layers::new(setting, plan, &mut library);
    verified(Written::new(setting, plan, &layers, library).assembled(Manner { effort: Effort::Least, ..USUAL }))
}

/// The beginning of a plan: its first layers, for so many microbatches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Layers from the first on.
    pub layers: u32,
    /// Microbatches, each as large as those of the plan.
    pub microbatches: u32,
}

/// The programs of the beginnings of a plan of one stage: for asking what a layer or a microbatch more would take.
/// Layers are compiled once for all of them, or taken from the shelf, and nothing is verified. Arenas are placed with the least effort; what they need at least,
/// `live_bound`, is that of [`compile_unlimited`].
pub fn compile_samples(
    shelf: &mut Shelf,
    graph: &Graph,
    plan: &Plan,
    samples: &[Sample],
) -> Result<Vec<Draft>, Vec<Violation>> {
    let mesh = mesh(plan).map_err(|violation| vec![violation])?;
    let setting = Setting::new(graph, &mesh, plan, Purpose::Training);
    let mut library = Library::default();
    let layers = Layers::shelved(setting, plan, &mut library, shelf);
    let drafts = samples.iter().map(|&sample| {
        let graph = graph.part(&graph.layers[..sample.layers as usize]);
        let plan = Plan {
            batch: setting.sequences * u64::from(sample.microbatches),
            microbatches: sample.microbatches,
            stages: std::iter::once(0..sample.layers).collect(),
            ..plan.clone()
        };
        let setting = Setting { graph: &graph, ..setting };
        Written::new(setting, &plan, &layers, library.clone()).assembled(Manner { effort: Effort::Least, ..USUAL })
    });
    Ok(drafts.collect())
}

/// The programs that compute the loss of a batch and change nothing. Their blocks are those of [`compile`].
pub fn compile_evaluation(graph: &Graph, cluster: &Cluster, plan: &Plan) -> Result<Programs, Vec<Violation>> {
    let violations = check(graph, cluster, plan);
    if !violations.is_empty() {
        return Err(violations);
    }
    verified(draft(graph, plan, Purpose::Evaluation, USUAL)?)
}

fn verified(draft: Draft) -> Result<Programs, Vec<Violation>> {
    let unlimited = Bytes(u64::MAX);
    Programs::verified(draft, unlimited)
        .map_err(|defects| defects.iter().map(|defect| Violation::Program(defect.to_string())).collect())
}

/// How far and how hard to work.
#[derive(Clone, Copy)]
struct Manner {
    effort: Effort,
    /// The last pass to do: placing, or signals and waits.
    last: Pass,
}

const USUAL: Manner = Manner { effort: Effort::Usual, last: Pass::Synchronize };

fn draft(graph: &Graph, plan: &Plan, purpose: Purpose, manner: Manner) -> Result<Draft, Vec<Violation>> {
    let mesh = mesh(plan).map_err(|violation| vec![violation])?;
    Ok(written_step(graph, &mesh, plan, purpose).assembled(manner))
}

/// Passes 1 to 6.
fn written_step<'a>(graph: &'a Graph, mesh: &'a Mesh, plan: &Plan, purpose: Purpose) -> Written<'a> {
    let setting = Setting::new(graph, mesh, plan, purpose);
    let mut library = Library::default();
    let layers = Layers::new(setting, plan, &mut library);
    Written::new(setting, plan, &layers, library)
}

/// A step whose code is written, but whose buffers have no addresses.
struct Written<'a> {
    setting: Setting<'a>,
    microbatches: u32,
    library: Library,
    blocks: Vec<Block>,
    transfers: Vec<Transfer>,
    /// One for each stage.
    arenas: Vec<Arena>,
}

impl<'a> Written<'a> {
    /// Passes 5 and 6.
    fn new(setting: Setting<'a>, plan: &Plan, layers: &Layers, mut library: Library) -> Written<'a> {
        let transfers = Transfers::new(setting, plan);
        let job = Job { setting, plan, layers, transfers: &transfers };
        let (writers, blocks) = step(job, &mut library.collectives);
        let arenas = parallel::map(writers, Arena::new);
        Written { setting, microbatches: plan.microbatches, library, blocks, transfers: transfers.all, arenas }
    }

    /// Passes 7 and 8 for devices of this capacity, with more effort where it is needed; all stages that do not fit.
    fn within(self, capacities: &[Bytes], effort: impl Fn(Bytes) -> Effort) -> Result<Draft, Vec<Violation>> {
        assert_eq!(self.arenas.len(), capacities.len(), "each stage has its capacity");
        let sizes = |placements: &[Placement]| -> Vec<Bytes> {
            self.arenas.iter().zip(placements).map(|(arena, placement)| arena.size(placement)).collect()
        };
        let mut placements = self.placements(capacities.iter().map(|&capacity| effort(capacity)));
        let least: Vec<Bytes> = self.arenas.iter().map(Arena::least).collect();
        if !missing(&sizes(&placements), capacities).is_empty() && missing(&least, capacities).is_empty() {
            placements = self.placements(capacities.iter().map(|_| Effort::Most));
        }
        let missing = missing(&sizes(&placements), capacities);
        if missing.is_empty() { Ok(self.placed(placements, Pass::Synchronize)) } else { Err(missing) }
    }

    /// Passes 7 and 8.
    fn assembled(self, manner: Manner) -> Draft {
        let placements = self.placements(self.arenas.iter().map(|_| manner.effort));
        self.placed(placements, manner.last)
    }

    fn placements(&self, efforts: impl Iterator<Item = Effort>) -> Vec<Placement> {
        parallel::map(self.arenas.iter().zip(efforts).collect(), |(arena, effort): (&Arena, Effort)| {
            arena.place(effort)
        })
    }

    fn placed(self, placements: Vec<Placement>, last: Pass) -> Draft {
        let Written { setting, microbatches, library, blocks, transfers, arenas } = self;
        let stages = (0..).map(StageId).zip(arenas.into_iter().zip(placements)).collect();
        let roles = parallel::map(stages, |(stage, (arena, placement)): (StageId, (Arena, Placement))| {
            let mut role = arena.role(stage, &placement);
            if last >= Pass::Synchronize {
                synchronize::synchronize(&mut role, &library.fragments);
            }
            role
        });
        let step = StepSize { microbatches, sequences: setting.sequences, sequence: setting.graph.sequence };
        let Library { fragments, collectives } = library;
        let mesh = setting.mesh.clone();
        let role_of = Draft::roles_along(&mesh);
        Draft { step, fragments, collectives: collectives.all, blocks, transfers, roles, role_of, mesh }
    }
}

#[cfg(test)]
mod tests;
