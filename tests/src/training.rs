//! Trainings of a few steps on random tokens, and how their results compare.

use executor::{Backend, Batch, Session, Settings, StepResult};
use ir::graph::Graph;
use ir::model::Model;
use ir::plan::Plan;
use ir::program::Programs;
use ir::seed::{Draws, Seed};
use ir::units::Seconds;
use ir::ways::Ways;

/// Steps over which the learning rate falls.
const SCHEDULE: u64 = 20;

/// The seed of all initial parameters.
pub const SEED: Seed = Seed(7);

/// The programs of a plan.
///
/// # Panics
/// If the plan does not compile.
pub fn compiled(graph: &Graph, plan: &Plan) -> Programs {
    compiler::compile_unlimited(graph, plan).unwrap_or_else(|all| panic!("{plan:?}: {:#?}", &all[..all.len().min(3)]))
}

/// Programs with their initial parameters.
///
/// # Panics
/// If they cannot be loaded.
pub fn load(model: &Model, programs: &Programs, backend: Backend) -> Session {
    let (training, ways) = (model.training.clone(), Ways::default());
    let settings = Settings { training, steps: SCHEDULE, backend, ways, patience: Seconds(120.0) };
    Session::load(programs, &settings, SEED).expect("the programs load")
}

/// Tokens of a step and, one further, their targets: a function of the step alone. Words follow each other by a rule
/// with exceptions, so that there is something to learn.
pub fn tokens(model: &Model, step: u64) -> Vec<i32> {
    let mut draws = Draws::new(Seed(1000 + step));
    let mut last = draws.below(model.vocabulary);
    let sequence = model.decoder.map_or(model.sequence, |decoder| decoder.sequence);
    let count = model.training.batch * sequence + 1;
    (0..count)
        .map(|_| {
            let exception = draws.below(4) == 0;
            last = if exception { draws.below(model.vocabulary) } else { (3 * last + 1) % model.vocabulary };
            last as i32
        })
        .collect()
}

/// Tokens that an encoder reads in a step: a function of the step alone. None for models without a decoder beside it.
pub fn source(model: &Model, step: u64) -> Vec<i32> {
    let mut draws = Draws::new(Seed(3000 + step));
    let count = model.decoder.map_or(0, |_| model.training.batch * model.sequence);
    (0..count).map(|_| draws.below(model.vocabulary) as i32).collect()
}

/// Numbers of patches of a step: a function of the step alone. None for models of text.
pub fn patches(model: &Model, step: u64) -> Vec<f32> {
    let patch = model.images.as_ref().map_or(0, |images| images.patch);
    let count = model.training.batch * model.sequence * patch;
    let seed = Seed(2000 + step);
    (0..count).map(|index| seed.normal(index) as f32).collect()
}

/// Does one step on the tokens of that step.
///
/// # Panics
/// If the step fails.
pub fn step(model: &Model, session: &mut Session) -> StepResult {
    let tokens = tokens(model, session.steps_done());
    let inputs = &tokens[..tokens.len() - 1];
    let (patches, targets) = (patches(model, session.steps_done()), &tokens[1..]);
    let source = source(model, session.steps_done());
    let batch = match &model.images {
        None => Batch { inputs, patches: &[], source: &source, targets },
        Some(_) => Batch {
            inputs: &[],
            patches: &patches,
            source: &[],
            targets: &targets[..targets.len() / model.sequence as usize * model.graph().sequence as usize],
        },
    };
    session.step(batch).unwrap_or_else(|fault| panic!("{fault}"))
}

/// What came of each step: its loss and its gradient norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// Losses.
    pub losses: Vec<f64>,
    /// Gradient norms before clipping.
    pub norms: Vec<f64>,
}

/// Trains from the start for `steps`.
///
/// # Panics
/// If a step fails.
pub fn course(model: &Model, programs: &Programs, backend: Backend, steps: usize) -> Course {
    trained(model, programs, backend, steps).1
}

/// Trains from the start for `steps`: the session afterwards, and what came of the steps.
///
/// # Panics
/// If a step fails.
pub fn trained(model: &Model, programs: &Programs, backend: Backend, steps: usize) -> (Session, Course) {
    let mut session = load(model, programs, backend);
    let (losses, norms) = (0..steps).map(|_| step(model, &mut session)).map(|it| (it.loss, it.gradient_norm)).unzip();
    (session, Course { losses, norms })
}

impl Course {
    /// The bits of all numbers.
    pub fn bits(&self) -> Vec<u64> {
        self.losses.iter().chain(&self.norms).map(|number| number.to_bits()).collect()
    }

    /// The largest relative difference of losses and of norms; infinite if a number is none.
    pub fn distance(&self, other: &Course) -> [f64; 2] {
        [(&self.losses, &other.losses), (&self.norms, &other.norms)].map(|(ours, theirs)| {
            let relative = |(a, b): (&f64, &f64)| {
                let difference = ((a - b) / b).abs();
                if difference.is_finite() { difference } else { f64::INFINITY }
            };
            ours.iter().zip(theirs).map(relative).fold(0.0, f64::max)
        })
    }
}
