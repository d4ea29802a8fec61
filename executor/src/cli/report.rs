//! The report of a training.

use std::path::{Path, PathBuf};

use ir::cluster::{Cluster, Execution, Link};
use ir::graph::{Graph, KindId};
use ir::model::{Embeddings, Model};
use reports::{Report, StepRecord, Verdict, write_report};

use super::failure::{Failure, Outcome};
use super::inputs::Inputs;
use super::train::History;
use super::words::short;

/// Writes the report; gives back its files.
pub(crate) fn write(
    folder: &Path,
    (inputs, history): (&Inputs, &History),
    verdict: Option<&Verdict>,
) -> Outcome<Vec<PathBuf>> {
    let steps: Vec<StepRecord> = history.rows.iter().map(|row| row.record()).collect();
    let report = Report {
        title: &format!("{} on {}", inputs.model.name, inputs.cluster.name),
        model: &model_facts(&inputs.model, &inputs.graph),
        cluster: &cluster_facts(&inputs.cluster),
        plan: &inputs.plan,
        layers: &layer_names(&inputs.graph),
        programs: &inputs.programs,
        predicted: inputs.predicted_trace.as_ref(),
        between: inputs.predicted.as_ref().and_then(|predicted| predicted.between),
        measured: history.trace(),
        steps: &steps,
        candidates: &[],
        choice: None,
        verdict,
        capacity: inputs.cluster.capacity(),
        unlike: inputs.unlike.as_deref(),
    };
    write_report(folder, &report).map_err(Failure::run)
}

fn facts<const N: usize>(facts: [(&str, String); N]) -> Vec<(String, String)> {
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn model_facts(model: &Model, graph: &Graph) -> Vec<(String, String)> {
    let embeddings = match model.embeddings {
        Embeddings::Tied => "shared with the head",
        Embeddings::Untied => "apart from the head",
    };
    facts([
        ("name", model.name.clone()),
        ("family", model.family.name().to_owned()),
        ("parameters", short(graph.parameter_count())),
        ("blocks", model.layers.to_string()),
        ("hidden", model.hidden.to_string()),
        ("heads", format!("{}, {} of keys and values", model.heads, model.groups())),
        ("feed-forward", model.feed_forward.to_string()),
        ("vocabulary", model.vocabulary.to_string()),
        ("sequence", format!("{} tokens", model.sequence)),
        ("embeddings", embeddings.to_owned()),
    ])
}

fn cluster_facts(cluster: &Cluster) -> Vec<(String, String)> {
    let execution = match cluster.device.execution {
        Execution::Concurrent => "streams side by side".to_owned(),
        Execution::Shared { cores } => format!("{cores} cores shared by the ranks of a node"),
    };
    let link = |link: &Link| format!("{}, {}, {:.0}", link.name, link.rate, link.latency);
    facts([
        ("name", cluster.name.clone()),
        ("devices", format!("{} × {} {}", cluster.nodes, cluster.devices_per_node, cluster.device.name)),
        ("execution", execution),
        ("memory of a rank", format!("{} of {}", cluster.capacity(), cluster.device.memory)),
        ("inside a node", link(&cluster.inside)),
        ("between nodes", link(&cluster.between)),
    ])
}

/// `embedding`, `block 1`, …, `head`.
fn layer_names(graph: &Graph) -> Vec<String> {
    let name = |(index, kind): (usize, &KindId)| {
        let name = &graph.kinds[kind.index()].name;
        let is_alone = graph.layers.iter().filter(|other| *other == kind).count() == 1;
        if is_alone { name.clone() } else { format!("{name} {index}") }
    };
    graph.layers.iter().enumerate().map(name).collect()
}
