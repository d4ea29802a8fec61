//! Pass 5 and 6: layers × microbatches become the code of each role. Roles are written side by side.

use ir::parallel;
use ir::plan::Plan;
use ir::program::{Block, StageId};

use crate::layer::Setting;
use crate::layers::Layers;
use crate::library::Collectives;
use crate::role::RoleWriter;
use crate::transfers::Transfers;
use crate::writer::Writer;

/// Writes the code of every role, without addresses, signals and waits. `collectives` are those of the layers; what
/// roles need besides is added.
pub(crate) fn schedule(
    setting: Setting<'_>,
    plan: &Plan,
    layers: &Layers,
    (transfers, collectives): (&Transfers, &mut Collectives),
) -> (Vec<Writer>, Vec<Block>) {
    let mut blocks = Vec::new();
    let role = |stage| RoleWriter::new((setting, plan), layers, StageId(stage), transfers, (collectives, &mut blocks));
    let roles: Vec<RoleWriter<'_>> = (0..plan.stages.len() as u32).map(role).collect();
    let mut writers = parallel::map(roles, RoleWriter::write);
    // Each has numbered what it needs in its own way: roles that know nothing of each other give equal code on any
    // number of threads.
    for writer in &mut writers {
        let names = collectives.join(std::mem::take(&mut writer.collectives));
        writer.rename_collectives(&names);
    }
    (writers, blocks)
}
