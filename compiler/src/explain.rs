//! What each pass makes, as text: for reading along.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ir::graph::{Graph, KindId, LayerKind, Node, Tensor, TensorId};
use ir::plan::{Plan, Strategy};
use ir::program::{Collective, StageId};
use ir::software::{Repeat, TensorExchanges};

use crate::axes::{StrategyAxes, mesh};
use crate::check::Violation;
use crate::layer::differentiate::differentiate;
use crate::layer::fragment::{Body, BodyAction};
use crate::layer::layers::Layers;
use crate::layer::library::Library;
use crate::layer::retain::retain;
use crate::layer::spread::{Rule, Spread, Step, ValueId};
use crate::layer::{Purpose, Setting, backward_spread, forward_spread};
use crate::step::transfers::Transfers;
use crate::step::{Job, emitters};
use crate::{Manner, USUAL};

/// A pass of the compiler; the numbers are those of the table at the head of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pass {
    /// Operations and their gradients.
    Differentiate = 1,
    /// What is kept, and what is computed again.
    Retain,
    /// Local kernels and exchanges.
    Spread,
    /// Fragments.
    Fragment,
    /// Tasks in the order in which they are due.
    Schedule,
    /// Tasks where they overlap.
    Overlap,
    /// Code with addresses.
    Arena,
    /// Code with signals and waits.
    Synchronize,
    /// The same, verified.
    Verify,
}

impl Pass {
    /// All passes, in order.
    pub const ALL: [Pass; 9] = [
        Pass::Differentiate,
        Pass::Retain,
        Pass::Spread,
        Pass::Fragment,
        Pass::Schedule,
        Pass::Overlap,
        Pass::Arena,
        Pass::Synchronize,
        Pass::Verify,
    ];
}

/// What a pass makes of a plan, as text. Devices and memory are not regarded.
pub fn explain(graph: &Graph, plan: &Plan, pass: Pass) -> Result<String, Vec<Violation>> {
    match pass {
        Pass::Differentiate | Pass::Retain | Pass::Spread => layers(graph, plan, pass),
        Pass::Fragment => bodies(graph, plan),
        Pass::Schedule | Pass::Overlap => tasks(graph, plan, pass),
        Pass::Arena | Pass::Synchronize => {
            let draft = crate::draft(graph, plan, Purpose::Training, Manner { last: pass, ..USUAL })?;
            Ok(ir::text::print(&draft))
        }
        Pass::Verify => Ok(ir::text::print(crate::compile_unlimited(graph, plan)?.draft())),
    }
}

/// Each kind of layer under each of its strategies, once.
fn distinct<'a>(graph: &'a Graph, plan: &'a Plan) -> impl Iterator<Item = (KindId, &'a Strategy)> {
    let mut seen = BTreeSet::new();
    let pairs = graph.layers.iter().copied().zip(&plan.strategies);
    pairs.filter(move |&(kind, strategy)| seen.insert((kind.0, strategy)))
}

fn layers(graph: &Graph, plan: &Plan, pass: Pass) -> Result<String, Vec<Violation>> {
    let mesh = mesh(plan).map_err(|violation| vec![violation])?;
    let mut text = String::new();
    for (id, strategy) in distinct(graph, plan) {
        let kind = &graph.kinds[id.index()];
        let differentiated = differentiate(kind);
        let retained = retain(kind, &differentiated, strategy.recompute, Repeat::Needed);
        let names = Names(&differentiated.tensors);
        match pass {
            Pass::Differentiate => {
                title(&mut text, kind, None);
                names.nodes(&mut text, "forward", &kind.nodes);
                names.nodes(&mut text, "backward", &differentiated.backward);
            }
            Pass::Retain => {
                title(&mut text, kind, Some(strategy));
                let kept: Vec<&str> = retained.kept.iter().map(|&id| names.of(id)).collect();
                line(&mut text, &format!("  keeps {}", kept.join(", ")));
                names.nodes(&mut text, "backward", &retained.backward);
            }
            Pass::Spread
            | Pass::Fragment
            | Pass::Schedule
            | Pass::Overlap
            | Pass::Arena
            | Pass::Synchronize
            | Pass::Verify => {
                title(&mut text, kind, Some(strategy));
                let axes = StrategyAxes::new(&mesh, strategy);
                let rule = Rule {
                    mesh: &mesh,
                    axes: &axes,
                    tensors: &differentiated.tensors,
                    exchanges: TensorExchanges::Beside,
                };
                let forward = forward_spread(kind, rule);
                let backward = backward_spread(kind, rule, &differentiated, &retained, &forward);
                names.steps(&mut text, "forward", &forward);
                names.steps(&mut text, "backward", &backward);
            }
        }
    }
    Ok(text)
}

fn bodies(graph: &Graph, plan: &Plan) -> Result<String, Vec<Violation>> {
    let mesh = mesh(plan).map_err(|violation| vec![violation])?;
    let setting = Setting::new(graph, &mesh, plan, Purpose::Training);
    let mut library = Library::default();
    let layers = Layers::new(setting, plan, &mut library);
    let mut text = String::new();
    for ((id, strategy), layer) in distinct(graph, plan).zip(&layers.distinct) {
        title(&mut text, &graph.kinds[id.index()], Some(strategy));
        body(&mut text, "forward", &layer.forward, &library);
        body(&mut text, "backward", &layer.backward, &library);
    }
    Ok(text)
}

fn tasks(graph: &Graph, plan: &Plan, pass: Pass) -> Result<String, Vec<Violation>> {
    let mesh = mesh(plan).map_err(|violation| vec![violation])?;
    let setting = Setting::new(graph, &mesh, plan, Purpose::Training);
    let mut library = Library::default();
    let layers = Layers::new(setting, plan, &mut library);
    let transfers = Transfers::new(setting, plan);
    let (emitters, _) = emitters(Job { setting, plan, layers: &layers, transfers: &transfers }, &library.collectives);
    let mut text = String::new();
    for (emitter, stage) in emitters.iter().zip((0..).map(StageId)) {
        let tasks = if pass == Pass::Schedule { emitter.scheduled() } else { emitter.overlapped() };
        line(&mut text, &format!("stage {}", stage.0));
        text.push_str(&emitter.facts.print(&tasks));
    }
    Ok(text)
}

fn line(text: &mut String, words: &str) {
    text.push_str(words.trim_end());
    text.push('\n');
}

fn title(text: &mut String, kind: &LayerKind, strategy: Option<&Strategy>) {
    match strategy {
        None => line(text, &kind.name),
        Some(Strategy { data, tensor, sequence, shard, recompute }) => {
            let words = format!("data {data}, tensor {tensor}, {sequence:?}, shard {shard:?}, recompute {recompute:?}");
            line(text, &format!("{}: {}", kind.name, words.to_lowercase()));
        }
    }
}

fn body(text: &mut String, name: &str, body: &Body, library: &Library) {
    line(text, &format!("  {name}"));
    for step in &body.steps {
        match step.action {
            BodyAction::Compute(id) => {
                let fragment = &library.fragments[id.index()];
                let kernels: Vec<&str> = fragment.kernels.iter().map(|kernel| kernel.op.name()).collect();
                line(text, &format!("    f{} {}: {}", id.0, fragment.name, kernels.join(", ")));
            }
            BodyAction::Exchange(id, axis) => {
                let Collective { exchange, shape, .. } = &library.collectives.all[id.index()];
                line(text, &format!("    c{} {} over {} of {shape:?}", id.0, exchange.name(), axis.name()));
            }
        }
    }
}

/// Names of tensors.
struct Names<'a>(&'a [Tensor]);

impl Names<'_> {
    fn of(&self, id: TensorId) -> &str {
        &self.0[id.index()].name
    }

    fn list(&self, ids: impl Iterator<Item = TensorId>) -> String {
        ids.map(|id| self.of(id).to_owned()).collect::<Vec<_>>().join(", ")
    }

    fn nodes(&self, text: &mut String, name: &str, nodes: &[Node]) {
        line(text, &format!("  {name}"));
        for node in nodes {
            let ends = [&node.inputs, &node.outputs].map(|ids| self.list(ids.iter().copied()));
            line(text, &format!("    {:<24} {} -> {}", node.op.name(), ends[0], ends[1]));
        }
    }

    fn steps(&self, text: &mut String, name: &str, spread: &Spread) {
        line(text, &format!("  {name}"));
        let value = |&ValueId(id): &ValueId| {
            let value = &spread.values[id];
            let mut words = self.of(value.tensor).to_owned();
            for (dimension, axes) in value.layout.splits().iter().enumerate().filter(|(_, axes)| !axes.is_empty()) {
                write!(words, " /{dimension}{axes:?}").expect("a string takes all that is written to it");
            }
            if !value.layout.partial().is_empty() {
                let axes: Vec<usize> = value.layout.partial().iter().collect();
                write!(words, " +{axes:?}").expect("a string takes all that is written to it");
            }
            words
        };
        let list = |ids: &[ValueId]| ids.iter().map(value).collect::<Vec<_>>().join(", ");
        for step in &spread.steps {
            match step {
                Step::Kernel { op, inputs, outputs } => {
                    line(text, &format!("    {:<24} {} -> {}", op.name(), list(inputs), list(outputs)));
                }
                Step::Exchange { exchange, source, destination, .. } => {
                    let ends = [source, destination].map(value);
                    line(text, &format!("    {:<24} {} -> {}", exchange.name(), ends[0], ends[1]));
                }
            }
        }
    }
}
