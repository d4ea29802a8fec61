//! `hetu-plan import`: the profiles of another planner as problems, under its own formulas.

mod costs;
mod fit;
mod profile;
mod settings;
mod space;
mod tables;

use std::path::Path;

use super::failure::Failure;
use super::input::read_text;
use super::output::{check_writable, show, write_whole};
use super::problems::Problems;
use crate::options::{ImportOptions, Partition};
use costs::Formulas;
use profile::{Files, Profile};
use settings::Settings;
use tables::{Lacks, Table};

pub(crate) fn import(options: &ImportOptions) -> Result<(), Failure> {
    check_writable(&options.output)?;
    let settings = settings(options)?;
    let problems = problems(&options.folder, &settings, options.partition)?;
    write_whole(&options.output, &problems.print())?;
    let (count, output) = (problems.choices.len(), options.output.display());
    show(&format!("Wrote {output}: {count} outer choices. Next: hetu-plan solve {output}\n"))
}

/// The settings with what options say instead.
fn settings(options: &ImportOptions) -> Result<Settings, Failure> {
    let path = options.settings.clone().unwrap_or_else(|| options.folder.join("case.json"));
    let name = path.display().to_string();
    if options.settings.is_none() && !path.exists() {
        return Err(Failure::wrong(format!("{name}: there is no such file"))
            .help("give --settings FILE with model_layer_configs and search_engine; docs/problem.md has an example"));
    }
    let mut settings: Settings = serde_json::from_str(&read_text(&path)?).map_err(|error| {
        Failure::wrong(format!("{name}:{}: {error}", error.line())).help("docs/problem.md has an example")
    })?;
    let engine = &mut settings.search_engine;
    if let Some(gibibytes) = options.memory {
        engine.hardware_info.memory_constraint = gibibytes;
    }
    if let Some(batch) = options.batch {
        engine.batch_size_info.settle_bsz = i64::from(batch);
    }
    if let Some(microbatches) = options.microbatches {
        engine.batch_size_info.settle_chunk = i64::from(microbatches);
    }
    let mistakes = settings.mistakes(&name);
    if mistakes.is_empty() { Ok(settings) } else { Err(Failure::wrong(mistakes.join("\nerror: "))) }
}

/// The problems of the profiles in a folder.
fn problems(folder: &Path, settings: &Settings, partition: Partition) -> Result<Problems, Failure> {
    let profile = profile(folder, settings)?;
    let choices = space::choices(&Formulas { settings, profile: &profile }, partition);
    if choices.is_empty() {
        return Err(Failure::wrong("no outer choice has a strategy for every layer")
            .help("the batch must have a sequence for each rank that shares it; try another --batch"));
    }
    Ok(Problems::new(choices))
}

fn profile(folder: &Path, settings: &Settings) -> Result<Profile, Failure> {
    let lacks = Lacks::default();
    let open = |prefix: &str| Table::open(folder, prefix, &lacks);
    let files = Files {
        computation: open("computation_profiling")?,
        memory: open("memory_profiling")?,
        sums: open("allreduce_bandwidth")?,
        stages: open("p2p_bandwidth")?,
        overlap: open("overlap_coefficient")?,
        sizes: open("sp_time")?,
    };
    let profile = Profile::new(settings, &files);
    drop(files);
    lacks.finish()?;
    Ok(profile)
}

#[cfg(test)]
mod tests;
