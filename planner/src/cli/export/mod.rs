//! `hetu-plan export`: a plan in the words of a trainer that people run, and what of it that trainer cannot say.
//!
//! Each trainer has a file here. Which option was seen in which source of its project stands in
//! `reports/results/export.md`.

mod accelerate;
mod arguments;
mod common;
mod json;
mod toml;

use std::fmt::Write as _;
use std::fs;

use super::check::violations_failure;
use super::failure::Failure;
use super::input::{Job, job};
use super::output::{check_writable, show, write_whole};
use super::words::plan_label;
use crate::options::{ExportOptions, Trainer};
use common::Common;

/// What a trainer is given.
pub(crate) struct Export {
    /// The trainer and its version.
    trainer: &'static str,
    /// Configuration files, by name.
    files: Vec<(&'static str, String)>,
    /// The commands that start it; they find the files in their folder.
    commands: String,
    /// What of the plan it cannot say, and what is said instead.
    unsaid: Vec<String>,
    /// What else the user should know.
    notes: Vec<String>,
}

/// Exit status of an export that does not say all of the plan.
const NOT_ALL: u8 = 3;
/// The script that starts the trainer.
const SCRIPT: &str = "launch.sh";

pub(crate) fn export(options: &ExportOptions) -> Result<(), Failure> {
    let name = options.plan.display().to_string();
    let job = job(&options.plan, None)?;
    if !job.model.family.is_decoder() {
        let what = format!("{}: models of the family `{}` cannot be exported", job.model.name, job.model.family.name());
        return Err(Failure::negative(format!("error: {what}")).help("export plans of `gpt` and `llama` models"));
    }
    let violations = compiler::check(&job.model.graph(), &job.cluster, &job.file.plan);
    if !violations.is_empty() {
        return Err(violations_failure(&name, &violations));
    }
    let export = said(&job, options)?;
    match &options.output {
        None => show(&script(&export, &job, &inline(&export)))?,
        Some(folder) => {
            fs::create_dir_all(folder)
                .map_err(|error| Failure::wrong(format!("cannot write {}: {error}", folder.display())))?;
            let script = (SCRIPT, script(&export, &job, "cd \"$(dirname \"$0\")\"\n"));
            let files: Vec<_> = export.files.iter().cloned().chain([script]).collect();
            for (file, _) in &files {
                check_writable(&folder.join(file))?;
            }
            for (file, content) in &files {
                write_whole(&folder.join(file), content)?;
            }
            let names: Vec<String> = files.iter().map(|(file, _)| folder.join(file).display().to_string()).collect();
            show(&format!("Wrote {}\n", names.join(", ")))?;
        }
    }
    if export.unsaid.is_empty() {
        return Ok(());
    }
    let lines: String = export.unsaid.iter().map(|line| format!("\n  {line}")).collect();
    Err(Failure { status: NOT_ALL, text: format!("warning: {name}: {} cannot say all of it:{lines}", export.trainer) })
}

fn said(job: &Job, options: &ExportOptions) -> Result<Export, Failure> {
    let steps = options.steps.unwrap_or(job.model.training.warmup_steps + 1000);
    let common = Common::of(job, steps)?;
    match options.to {
        Trainer::Arguments => Ok(arguments::export(&common)),
        Trainer::Toml => toml::export(&common),
        Trainer::Json => Ok(json::export(&common)),
        Trainer::Accelerate => accelerate::export(&common),
    }
}

/// The script, with what it says and does not say at its head.
fn script(export: &Export, job: &Job, begin: &str) -> String {
    let mut text = String::from("#!/usr/bin/env bash\n");
    let mut line = |words: &str| writeln!(text, "# {words}").expect("a string can grow");
    line(&format!("{} for {}, {}.", job.model.name, job.cluster.name, export.trainer));
    line(&format!("The plan: {}.", plan_label(&job.file.plan)));
    if export.unsaid.is_empty() {
        line("This says all of the plan.");
    } else {
        line("NOT SAID, for want of an option:");
        export.unsaid.iter().for_each(|words| line(&format!("  {words}")));
    }
    export.notes.iter().for_each(|words| line(&format!("Note: {words}")));
    format!("{text}set -euo pipefail\n{begin}\n{}", export.commands)
}

/// The files, written by the script itself.
fn inline(export: &Export) -> String {
    let write = |(name, content): &(&str, String)| format!("cat > {name} <<'END'\n{content}END\n");
    export.files.iter().map(write).collect()
}
