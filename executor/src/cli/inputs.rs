//! From the plan file to verified programs, with all that the plan refers to.

use std::fs::File;
use std::path::{Path, PathBuf};

use ir::cluster::Cluster;
use ir::error::{Mistake, Mistakes};
use ir::file::{Digest, FILE_MAX, TRACE_MAX, parse_cluster, parse_model, parse_plan, parse_trace, trace_beside};
use ir::graph::Graph;
use ir::model::Model;
use ir::plan::{Devices, Plan, PlanFile, Predicted};
use ir::program::Programs;
use ir::trace::Trace;
use ir::ways::Ways;

use super::failure::{Failure, Outcome};
use crate::options::Options;

/// A plan that can run, with what it was made for.
pub(crate) struct Inputs {
    /// The plan file's name.
    pub(crate) path: PathBuf,
    pub(crate) plan: Plan,
    /// How its products are computed.
    pub(crate) ways: Ways,
    /// The model file's name.
    pub(crate) model_path: PathBuf,
    pub(crate) model: Model,
    pub(crate) cluster: Cluster,
    pub(crate) graph: Graph,
    pub(crate) programs: Programs,
    /// What these very programs are expected to cost.
    pub(crate) predicted: Option<Predicted>,
    /// A simulated step of these very programs.
    pub(crate) predicted_trace: Option<Trace>,
    /// The devices that the plan was made for.
    pub(crate) devices: Devices,
    /// A sentence, if it runs on others.
    pub(crate) unlike: Option<String>,
    /// What the user should know, though it is no error.
    pub(crate) notes: Vec<String>,
}

/// Reads the plan, its model and its cluster, and compiles.
pub(crate) fn read(options: &Options) -> Outcome<Inputs> {
    let path = options.plan.clone().expect("the command line demands a plan");
    let file = parse_plan(&text(&path)?, &name(&path))?;
    let model_path = beside(&path, &file.model.path);
    let model = model(&path, &file)?;
    if !model.family.is_decoder() {
        let what = format!("{}: models of the family `{}` are planned, not trained", model.name, model.family.name());
        return Err(Failure::wrong_use(what + ": a text gives each token the one behind it to predict, and no more"));
    }
    let cluster = cluster(&path, &file)?;
    file.check(&model, &cluster, &name(&path))?;
    let graph = model.graph();
    let programs = compiler::compile(&graph, &cluster, &file.plan).map_err(|violations| {
        let mistakes = violations.iter().map(|violation| Mistake::new(&name(&path), violation.to_string()));
        Mistakes(mistakes.collect())
    })?;
    let mut notes = Vec::new();
    let predicted = prediction(&path, &file, &programs, options, &mut notes)?;
    let predicted_trace = predicted_trace(&path, &programs, &mut notes);
    let named = || Devices { cluster: cluster.name.clone(), device: cluster.device.name.clone() };
    let devices = file.devices.unwrap_or_else(named);
    let (plan, ways) = (file.plan, file.ways);
    let unlike = None;
    Ok(Inputs {
        path,
        plan,
        ways,
        model_path,
        model,
        cluster,
        graph,
        programs,
        predicted,
        predicted_trace,
        devices,
        unlike,
        notes,
    })
}

/// The model's file, or the shipped model of that name if there is no such file.
fn model(plan: &Path, file: &PlanFile) -> Outcome<Model> {
    let path = beside(plan, &file.model.path);
    if !path.exists()
        && let Ok(model) = Model::preset(&file.model.path)
    {
        return Ok(model);
    }
    Ok(parse_model(&text_of("model", plan, &path)?, &name(&path))?)
}

/// The cluster's file, or the preset of that name if there is no such file.
fn cluster(plan: &Path, file: &PlanFile) -> Outcome<Cluster> {
    let path = beside(plan, &file.cluster.path);
    let looks_like_file = file.cluster.path.contains(['/', '.']);
    if !path.exists() && !looks_like_file {
        return Cluster::preset(&file.cluster.path).map_err(|mistakes| {
            let note = format!("{} refers to it as its cluster", plan.display());
            Failure { text: format!("{mistakes}\n  note: {note}"), ..Failure::from(mistakes) }
        });
    }
    Ok(parse_cluster(&text_of("cluster", plan, &path)?, &name(&path))?)
}

/// What was predicted, if it was of these programs.
fn prediction(
    path: &Path,
    file: &PlanFile,
    programs: &Programs,
    options: &Options,
    notes: &mut Vec<String>,
) -> Outcome<Option<Predicted>> {
    let Some(predicted) = &file.predicted else { return Ok(None) };
    let digest = Digest(programs.digest());
    if predicted.programs == digest {
        return Ok(Some(predicted.clone()));
    }
    let what =
        format!("{}: predicted for programs {}, but it compiles to {digest}", path.display(), predicted.programs);
    if options.ignore_prediction {
        notes.push(format!("{what}; the prediction is left out"));
        return Ok(None);
    }
    Err(Failure::wrong_use(what)
        .help("make the plan again with `hetu-plan`, or run it without its prediction: --ignore-prediction"))
}

fn predicted_trace(plan: &Path, programs: &Programs, notes: &mut Vec<String>) -> Option<Trace> {
    let path = trace_beside(plan);
    let file = File::open(&path).ok()?;
    let read = ir::file::read(file, TRACE_MAX, &name(&path));
    match read.and_then(|text| parse_trace(&text, &name(&path))) {
        Ok(trace) if trace.digest == programs.digest() => match trace.check(programs) {
            Ok(()) => Some(trace),
            Err(words) => {
                notes.push(format!("{} is left out: {words}", path.display()));
                None
            }
        },
        Ok(_) => {
            notes.push(format!("{} is of other programs and is left out", path.display()));
            None
        }
        Err(mistakes) => {
            notes.push(format!("{} is left out: {}", path.display(), mistakes.0[0].what));
            None
        }
    }
}

/// A path that stands in the plan, seen from here.
fn beside(plan: &Path, path: &str) -> PathBuf {
    plan.parent().unwrap_or(Path::new("")).join(path)
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn text(path: &Path) -> Outcome<String> {
    let file = File::open(path).map_err(|error| Mistakes::from(unreadable(path, &error)))?;
    Ok(ir::file::read(file, FILE_MAX, &name(path))?)
}

/// The text of a file to which the plan refers.
fn text_of(kind: &str, plan: &Path, path: &Path) -> Outcome<String> {
    let help = format!("{} refers to it as its {kind}; paths there are relative to the plan", plan.display());
    let file = File::open(path).map_err(|error| Mistakes::from(unreadable(path, &error).help(help)))?;
    Ok(ir::file::read(file, FILE_MAX, &name(path))?)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Mistake {
    Mistake::new(&name(path), format!("cannot be read: {error}"))
}
