//! `hetu-plan check`: whether a plan is legal and fits, and what it costs.

use std::fmt::Write as _;

use compiler::Violation;
use hetu_planner::{Candidate, Setting, played};
use ir::file::Digest;
use ir::plan::Predicted;
use ir::units::Bytes;
use serde_json::{Value, json};

use super::failure::Failure;
use super::input::{Job, job};
use super::losers::composition;
use super::output::{complain, show};
use super::rate::{device_rate, model_flops};
use super::{json as document, text};
use crate::options::CheckOptions;

pub(crate) fn check(options: &CheckOptions) -> Result<(), Failure> {
    let name = options.plan.display().to_string();
    let job = job(&options.plan, options.profile.as_deref())?;
    let graph = job.model.graph();
    let plan = &job.file.plan;
    let programs = match compiler::compile(&graph, &job.cluster, plan) {
        Ok(programs) => programs,
        Err(violations) => {
            if options.json {
                let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
                show(&format!("{:#}\n", json!({ "format": 1, "plan": name, "legal": false, "violations": list })))?;
            }
            return Err(violations_failure(&name, &violations));
        }
    };
    let setting = Setting { graph: &graph, cluster: &job.cluster, costs: &job.costs, precision: plan.precision };
    let candidate = played(setting, plan, &programs);
    let warnings = warnings(&job, &candidate);
    if options.json {
        return show(&format!("{:#}\n", report(&name, &job, &candidate, &warnings)));
    }
    for warning in &warnings {
        complain(&format!("warning: {name}: {warning}"));
    }
    show(&described(&name, &job, &candidate))
}

/// All violations, each on its line, with what would help.
pub(crate) fn violations_failure(name: &str, violations: &[Violation]) -> Failure {
    let lines: Vec<String> = violations.iter().map(|violation| format!("error: {name}: {violation}")).collect();
    let failure = Failure::negative(lines.join("\n"));
    let is_memory = violations.iter().any(|violation| matches!(violation, Violation::Memory { .. }));
    if is_memory {
        return failure.help("more microbatches, more recomputation or more sharding need less memory");
    }
    failure
}

/// What a plan file says that is no longer so.
fn warnings(job: &Job, candidate: &Candidate) -> Vec<String> {
    let Some(Predicted { programs, step, peak }) = &job.file.predicted else { return Vec::new() };
    let mut warnings = Vec::new();
    let now = Digest(candidate.digest);
    if *programs != now {
        warnings.push(format!("was predicted for programs {programs}, but now compiles to {now}; plan again"));
    } else if *peak != candidate.peak {
        warnings.push(format!("a peak of {peak} was predicted, but it is {}", candidate.peak));
    } else if (step.0 / candidate.trace.step.0 - 1.0).abs() > 1e-3 {
        warnings.push(format!(
            "a step of {step} was predicted, with other prices; with these it is {}",
            candidate.trace.step
        ));
    }
    warnings
}

fn described(name: &str, job: &Job, candidate: &Candidate) -> String {
    let capacity = job.cluster.capacity();
    let free = capacity.saturating_sub(candidate.peak);
    let flops = model_flops(&job.model, &job.model.graph(), job.file.plan.batch);
    let (rate, share) = device_rate(flops, candidate.trace.step, &job.cluster, job.file.plan.precision);
    let mut text = String::new();
    let mut line = |key: &str, value: String| writeln!(text, "{key:<9} {value}").expect("a string can grow");
    line("Model", text::model_line(&job.model));
    line("Cluster", text::cluster_line(&job.cluster));
    line("Plan", super::words::plan_label(&job.file.plan));
    line("Step", format!("{}: {}", candidate.trace.step, composition(candidate)));
    line("Rate", format!("{rate} of the model per device, {:.1} % of its peak", share * 100.0));
    line("Peak", format!("{} of {capacity}, {free} free", candidate.peak));
    line("Programs", Digest(candidate.digest).to_string());
    line("Trust", text::trust(candidate));
    text + &format!("Checked {name}: it is legal and fits\n")
}

fn report(name: &str, job: &Job, candidate: &Candidate, warnings: &[String]) -> Value {
    json!({
        "format": 1,
        "plan": name,
        "legal": true,
        "capacity_bytes": job.cluster.capacity(),
        "free_bytes": Bytes(job.cluster.capacity().saturating_sub(candidate.peak).0),
        "candidate": document::candidate(candidate),
        "warnings": warnings,
    })
}
