//! `hetu-plan models` and `hetu-plan clusters`: what can be named without a file.

use ir::cluster::Cluster;
use ir::model::{Family, Model};

use super::failure::Failure;
use super::output::show;
use super::table::{Side, Table};
use super::words::{precision_word, short_count, thousands};

/// The shipped models, the smallest first.
pub(crate) fn models() -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("model", Side::Left),
        ("parameters", Side::Right),
        ("blocks", Side::Right),
        ("hidden", Side::Right),
        ("sequence", Side::Right),
        ("batch", Side::Right),
        ("precision", Side::Left),
        ("for", Side::Left),
    ]);
    for name in Model::presets() {
        let model = Model::preset(name)?;
        table.push(vec![
            name.to_owned(),
            short_count(model.graph().parameter_count() as f64),
            model.blocks().to_string(),
            thousands(model.hidden),
            thousands(model.sequence),
            thousands(model.training.batch),
            precision_word(model.training.precision).to_owned(),
            purpose(model.family).to_owned(),
        ]);
    }
    let note = "  A file works as well: examples/models has these. hetu-exec trains those that write text on.\n";
    show(&(table.text() + note))
}

/// What models of a family are for.
fn purpose(family: Family) -> &'static str {
    match family {
        Family::Gpt | Family::Llama => "writing text on",
        Family::Bert => "filling in text",
        Family::T5 => "answering text",
        Family::Vit | Family::Swin => "naming images",
    }
}

/// The shipped devices.
pub(crate) fn clusters() -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("device", Side::Left),
        ("memory", Side::Right),
        ("bf16", Side::Right),
        ("f32", Side::Right),
        ("inside a node", Side::Right),
        ("between nodes", Side::Right),
    ]);
    for name in Cluster::preset_devices() {
        let cluster = Cluster::preset(name)?;
        let device = &cluster.device;
        table.push(vec![
            name.to_owned(),
            device.memory.to_string(),
            device.bf16_rate.to_string(),
            device.f32_rate.to_string(),
            cluster.inside.rate.to_string(),
            cluster.between.rate.to_string(),
        ]);
    }
    show(&(table.text() + "  8xH100 is a node of eight, 64x8xH100 are 64 of them. A file works as well.\n"))
}
