//! What a command is given: models, clusters, profiles and plans, from files or by name.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cost_model::CostModel;
use ir::cluster::Cluster;
use ir::error::{Mistake, Mistakes, shown};
use ir::file::{
    FILE_MAX, parse_cluster, parse_config, parse_machines, parse_model, parse_plan, parse_profile, print_model,
};
use ir::fleet::Machines;
use ir::model::Model;
use ir::plan::{PlanFile, Reference};
use ir::profile::Profile;

use super::failure::Failure;
use super::output::{relative, write_whole};

/// A cluster, and how it was found.
pub(crate) struct Devices {
    pub(crate) cluster: Cluster,
    pub(crate) origin: Origin,
}

/// How a cluster or a model was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file.
    File(PathBuf),
    /// A shipped description, by its name.
    Preset(String),
    /// This machine.
    Detected,
    /// A published config.json: the model is written beside the plan, with the recipe that such files lack.
    Published,
}

impl Origin {
    /// What a plan in `folder` calls it.
    pub(crate) fn reference(&self, folder: &Path) -> Result<String, Failure> {
        match self {
            Origin::Preset(name) => Ok(name.clone()),
            Origin::File(path) => relative(path, folder),
            Origin::Detected => Ok(CLUSTER.to_owned()),
            Origin::Published => Ok(MODEL.to_owned()),
        }
    }
}

/// This machine as a cluster, beside the plan.
pub(crate) const CLUSTER: &str = "cluster.yaml";

/// A model that was published, beside the plan.
pub(crate) const MODEL: &str = "model.yaml";

/// The text of a file; `-` is standard input.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    if name == "-" {
        return Ok(ir::file::read(io::stdin().lock(), FILE_MAX, &name)?);
    }
    let file = File::open(path).map_err(|error| Failure::wrong(format!("cannot read {name}: {error}")))?;
    Ok(ir::file::read(file, FILE_MAX, &name)?)
}

/// The value of a file by its parser.
fn read<T>(path: &Path, parse: impl Fn(&str, &str) -> Result<T, Mistakes>) -> Result<T, Failure> {
    Ok(parse(&read_text(path)?, &path.display().to_string())?)
}

/// A model, and how it was found.
pub(crate) struct Named {
    pub(crate) model: Model,
    pub(crate) origin: Origin,
}

/// A model file, or a shipped model.
pub(crate) fn read_model(path: &Path) -> Result<Named, Failure> {
    let name = path.display().to_string();
    if path.exists() || name == "-" || looks_like_path(&name) {
        return Ok(Named { model: read(path, parse_model)?, origin: Origin::File(path.to_owned()) });
    }
    let model = Model::preset(&name)?;
    Ok(Named { origin: Origin::Preset(model.name.clone()), model })
}

/// Whether a path is of a published model: a config.json, or a folder.
pub(crate) fn is_published(path: &Path) -> bool {
    path.is_dir() || path.extension().is_some_and(|extension| extension == "json")
}

/// A model as [`read_model`] gives it, or a published one: a config.json, or the folder that holds it. `sequence` is
/// how many tokens its sequences shall have, which such files leave open.
pub(crate) fn read_published_or_model(path: &Path, sequence: Option<u64>) -> Result<Named, Failure> {
    if !is_published(path) {
        if let Some(sequence) = sequence {
            return Err(Failure::wrong(format!("--sequence-length {sequence} is for a {CONFIG}"))
                .help("the sequence of a model file stands in it"));
        }
        return read_model(path);
    }
    let path = if path.is_dir() { path.join(CONFIG) } else { path.to_owned() };
    let parse = |text: &str, name: &str| parse_config(text, name, sequence);
    let model = read(&path, parse)?;
    // Folders are named after what is in them, unlike the files.
    let folder = std::fs::canonicalize(&path).ok();
    let name = folder.as_deref().and_then(Path::parent).and_then(Path::file_name).and_then(|name| name.to_str());
    let name = name.filter(|name| path.ends_with(CONFIG) && !name.chars().any(char::is_control)).map(str::to_owned);
    Ok(Named { model: Model { name: name.unwrap_or_else(|| model.name.clone()), ..model }, origin: Origin::Published })
}

/// How models are described where their weights are published.
const CONFIG: &str = "config.json";

/// Makes sure that a published model can be written beside a plan. One that is there already may have been changed by
/// hand, and plans rely on it.
pub(crate) fn check_published(model: &Model, plan: &Path) -> Result<(), Failure> {
    let path = plan.with_file_name(MODEL);
    if !path.exists() || read(&path, parse_model).is_ok_and(|known| known == *model) {
        return Ok(());
    }
    let name = path.display();
    Err(Failure::wrong(format!("{name} is there already, and is another model"))
        .help(format!("plan for it with `hetu-plan {name}`, or write the plan elsewhere with -o")))
}

/// Writes a published model beside a plan. Gives back where.
pub(crate) fn write_published(model: &Model, plan: &Path) -> Result<PathBuf, Failure> {
    check_published(model, plan)?;
    let path = plan.with_file_name(MODEL);
    write_whole(&path, &print_model(model))?;
    Ok(path)
}

pub(crate) fn looks_like_path(name: &str) -> bool {
    name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml")
}

pub(crate) fn read_plan(path: &Path) -> Result<PlanFile, Failure> {
    read(path, parse_plan)
}

/// A cluster file, a preset, or this machine if nothing is named.
pub(crate) fn devices(named: Option<&str>) -> Result<Devices, Failure> {
    let Some(name) = named else {
        return Ok(Devices { cluster: machine::detect(None), origin: Origin::Detected });
    };
    if Path::new(name).exists() {
        let cluster = read(Path::new(name), parse_cluster)?;
        return Ok(Devices { cluster, origin: Origin::File(name.into()) });
    }
    let cluster = Cluster::preset(name).map_err(|mistakes| missing_cluster(name, mistakes))?;
    Ok(Devices { origin: Origin::Preset(cluster.name.clone()), cluster })
}

/// Machines, alike or not, and how they were found.
pub(crate) struct Found {
    pub(crate) machines: Machines,
    pub(crate) origin: Origin,
}

/// A cluster file, with or without parts, or presets.
pub(crate) fn machines(name: &str) -> Result<Found, Failure> {
    if Path::new(name).exists() {
        return Ok(Found { machines: read(Path::new(name), parse_machines)?, origin: Origin::File(name.into()) });
    }
    let machines = Machines::preset(name).map_err(|mistakes| missing_cluster(name, mistakes))?;
    let name = match &machines {
        Machines::Alike(cluster) => cluster.name.clone(),
        Machines::Unlike(fleet) => fleet.name.clone(),
    };
    Ok(Found { machines, origin: Origin::Preset(name) })
}

/// A name that looks like a path was meant as one.
fn missing_cluster(name: &str, mistakes: Mistakes) -> Failure {
    if looks_like_path(name) {
        return Failure::wrong(format!("cannot read {}: there is no such file", shown(name)));
    }
    mistakes.into()
}

/// A profile of the cluster's device.
pub(crate) fn profile(path: Option<&Path>, cluster: &Cluster) -> Result<Option<Profile>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let profile = read(path, parse_profile)?;
    if profile.device == cluster.device.name {
        return Ok(Some(profile));
    }
    let (measured, wanted) = (shown(&profile.device), shown(&cluster.device.name));
    let what =
        format!("measured on `{measured}`, but the devices of cluster `{}` are `{wanted}`", shown(&cluster.name));
    let help = "run hetu-profile on that device, or leave out --profile: prices are then modelled";
    Err(Mistake::new(&path.display().to_string(), what).help(help).into())
}

/// A plan with all that it refers to.
pub(crate) struct Job {
    pub(crate) file: PlanFile,
    pub(crate) model: Model,
    pub(crate) cluster: Cluster,
    pub(crate) costs: CostModel,
    /// How the model and the cluster were found.
    pub(crate) origins: [Origin; 2],
}

/// A plan and what it was made for, checked to be that.
pub(crate) fn job(path: &Path, profile_path: Option<&Path>) -> Result<Job, Failure> {
    let file = read_plan(path)?;
    // Beside the plan; a path that is absolute stays itself.
    let beside = |reference: &Reference| path.with_file_name(&reference.path);
    // Whatever is no file there may be the name of something shipped.
    let named = |reference: &Reference| {
        let found = beside(reference);
        if found.exists() || looks_like_path(&reference.path) { found } else { PathBuf::from(&reference.path) }
    };
    let model = read_model(&named(&file.model)).map_err(|failure| referred(failure, path, &file.model))?;
    let cluster = devices(Some(&named(&file.cluster).to_string_lossy()))
        .map_err(|failure| referred(failure, path, &file.cluster))?;
    let origins = [model.origin, cluster.origin];
    let (model, cluster) = (model.model, cluster.cluster);
    let profile = profile(profile_path, &cluster)?;
    let costs = CostModel::new(&cluster, profile.as_ref());
    let name = path.display().to_string();
    file.check(&model, &cluster, &name).map_err(|mistakes| Failure::negative(mistakes.to_string()))?;
    Ok(Job { file, model, cluster, costs, origins })
}

/// Says where the name of a file that cannot be read comes from.
fn referred(failure: Failure, plan: &Path, reference: &Reference) -> Failure {
    let note = format!("\n  note: {} refers to `{}`", plan.display(), shown(&reference.path));
    Failure { text: failure.text + &note, ..failure }
}
