//! The step of every role: all layers and microbatches. A list of tasks in order (pass 5), moved so that they overlap
//! (pass 6), then written as code without addresses, signals and waits. Roles are written side by side.

pub(crate) mod body;
pub(crate) mod context;
pub(crate) mod emit;
pub(crate) mod overlap;
pub(crate) mod rows;
pub(crate) mod schedule;
pub(crate) mod task;
pub(crate) mod transfers;
pub(crate) mod visits;
pub(crate) mod writer;

use ir::parallel;
use ir::plan::Plan;
use ir::program::{Block, StageId};

use crate::layer::Setting;
use crate::layer::layers::Layers;
use crate::layer::library::Collectives;
use emit::Emitter;
use transfers::Transfers;
use writer::Writer;

/// What roles have in common.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) setting: Setting<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) layers: &'a Layers,
    pub(crate) transfers: &'a Transfers,
}

/// Emitters of all roles, which know their tasks, and the blocks of parameters that they have.
pub(crate) fn emitters<'a>(job: Job<'a>, collectives: &Collectives) -> (Vec<Emitter<'a>>, Vec<Block>) {
    let mut blocks = Vec::new();
    let stages = (0..job.plan.stages.len() as u32).map(StageId);
    let emitters = stages.map(|stage| Emitter::new(job, stage, collectives, &mut blocks));
    (emitters.collect(), blocks)
}

/// The code of every role. `collectives` are those of the layers; what roles need besides is added.
pub(crate) fn step(job: Job<'_>, collectives: &mut Collectives) -> (Vec<Writer>, Vec<Block>) {
    let (emitters, blocks) = emitters(job, collectives);
    let mut writers = parallel::map(emitters, Emitter::write);
    // Each has numbered what it needs in its own way: roles that know nothing of each other give equal code on any
    // number of threads.
    for writer in &mut writers {
        let names = collectives.join(std::mem::take(&mut writer.collectives));
        writer.rename_collectives(&names);
    }
    (writers, blocks)
}
