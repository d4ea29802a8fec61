//! Turns a plan into verified programs, in nine passes. The compiler obeys: it has no thresholds, every choice is a
//! field of the plan.
//!
//! | # | pass | what it does | why here |
//! |---|---|---|---|
//! | 1 | differentiate | operations write their gradients | on the logical graph, before anything is cut |
//! | 2 | retain | keeps or recomputes what the backward pass reads | recomputed operations are spread like any other |
//! | 3 | spread | local kernels and the exchanges between them | from layouts alone |
//! | 4 | fragment | runs of kernels with their temporaries placed | once for equal layers, all microbatches |
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
use ir::parallel;
use ir::plan::Plan;
use ir::program::{Draft, Programs, Role, StageId, StepSize};
use ir::software::Software;
use ir::units::Bytes;

pub use axes::mesh;
pub use check::{Violation, check};
pub use explain::{Pass, explain};
pub use layer::fragment::BodyAction;
pub use layer::legal::strategies;
pub use layer::outline::{
    LayerBatch, LayerBytes, LayerOutline, Need, PassOutline, StepOutline, boundary_exchanges, layer_bytes,
    layer_outline,
};
pub use step::visits::in_flight;

use layer::Purpose;
use layer::layers::Layers;
use layer::library::Library;
use layer::setting::{Manners, Setting};
use memory::arena::arena;
use memory::place::Effort;
use step::transfers::Transfers;
use step::{Job, step};

/// The programs of a training step, or every reason why there are none: rules broken, or memory missing.
pub fn compile(graph: &Graph, cluster: &Cluster, plan: &Plan) -> Result<Programs, Vec<Violation>> {
    verified(compile_draft(graph, cluster, plan)?)
}

/// The same programs before they are verified: for comparing plans, most of which nobody will run or see.
pub fn compile_draft(graph: &Graph, cluster: &Cluster, plan: &Plan) -> Result<Draft, Vec<Violation>> {
    let violations = check(graph, cluster, plan);
    if !violations.is_empty() {
        return Err(violations);
    }
    let capacity = cluster.capacity();
    let mut draft = draft(graph, plan, Purpose::Training, USUAL)?;
    let could_fit = |role: &Role| role.live_bound <= capacity;
    if draft.roles.iter().any(|role| role.arena > capacity) && draft.roles.iter().all(could_fit) {
        draft = self::draft(graph, plan, Purpose::Training, Manner { effort: Effort::Most, ..USUAL })?;
    }
    let too_large = draft.roles.iter().filter(|role| role.arena > capacity);
    let memory = |role: &Role| Violation::Memory { stage: role.id.0, needed: role.arena, capacity };
    let missing: Vec<Violation> = too_large.map(memory).collect();
    if missing.is_empty() { Ok(draft) } else { Err(missing) }
}

/// The programs of a training step without regard to devices and memory: for tests and for asking what would be.
pub fn compile_unlimited(graph: &Graph, plan: &Plan) -> Result<Programs, Vec<Violation>> {
    verified(draft(graph, plan, Purpose::Training, USUAL)?)
}

/// The programs of a training step as another trainer would run it, without regard to memory: for predicting runs.
pub fn compile_as(graph: &Graph, plan: &Plan, software: &Software) -> Result<Programs, Vec<Violation>> {
    let violations = check::without_devices(graph, plan);
    if !violations.is_empty() {
        return Err(violations);
    }
    let mesh = mesh(plan).map_err(|violation| vec![violation])?;
    let setting = Setting { manners: Manners::of(software), ..Setting::new(graph, &mesh, plan, Purpose::Training) };
    let mut library = Library::default();
    let layers = Layers::new(setting, plan, &mut library);
    verified(assembled(setting, plan, &layers, library, Manner { effort: Effort::Least, ..USUAL }))
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
/// Layers are compiled once for all of them, and nothing is verified. Arenas are placed with the least effort; what they need at least,
/// `live_bound`, is that of [`compile_unlimited`].
pub fn compile_samples(graph: &Graph, plan: &Plan, samples: &[Sample]) -> Result<Vec<Draft>, Vec<Violation>> {
    let mesh = mesh(plan).map_err(|violation| vec![violation])?;
    let setting = Setting::new(graph, &mesh, plan, Purpose::Training);
    let mut library = Library::default();
    let layers = Layers::new(setting, plan, &mut library);
    let drafts = samples.iter().map(|&sample| {
        let graph = graph.part(&graph.layers[..sample.layers as usize]);
        let plan = Plan {
            batch: setting.sequences * u64::from(sample.microbatches),
            microbatches: sample.microbatches,
            stages: std::iter::once(0..sample.layers).collect(),
            ..plan.clone()
        };
        let setting = Setting { graph: &graph, ..setting };
        assembled(setting, &plan, &layers, library.clone(), Manner { effort: Effort::Least, ..USUAL })
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
    let setting = Setting::new(graph, &mesh, plan, purpose);
    let mut library = Library::default();
    let layers = Layers::new(setting, plan, &mut library);
    Ok(assembled(setting, plan, &layers, library, manner))
}

/// Passes 5 to 8.
fn assembled(setting: Setting<'_>, plan: &Plan, layers: &Layers, mut library: Library, manner: Manner) -> Draft {
    let transfers = Transfers::new(setting, plan);
    let job = Job { setting, plan, layers, transfers: &transfers };
    let (writers, blocks) = step(job, &mut library.collectives);
    let roles = parallel::map(writers.into_iter().enumerate().collect(), |(stage, writer)| {
        let mut role = arena(StageId(stage as u32), writer, manner.effort);
        if manner.last >= Pass::Synchronize {
            synchronize::synchronize(&mut role, &library.fragments);
        }
        role
    });
    let sequence = setting.graph.sequence;
    let step = StepSize { microbatches: plan.microbatches, sequences: setting.sequences, sequence };
    let Library { fragments, collectives } = library;
    let mesh = setting.mesh.clone();
    let role_of = Draft::roles_along(&mesh);
    let transfers = transfers.all;
    Draft { step, fragments, collectives: collectives.all, blocks, transfers, roles, role_of, mesh }
}

#[cfg(test)]
mod tests;
