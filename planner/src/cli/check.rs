//! `hetu-plan check`: whether a plan is legal and fits, and what it costs.

use std::fmt::Write as _;
use std::path::Path;

use compiler::Violation;
use cost_model::{CostModel, Interval, simulate};
use hetu_planner::{Candidate, Setting, played};
use ir::file::{Digest, print_plan, print_trace, trace_beside};
use ir::plan::{PlanFile, Predicted};
use ir::program::Programs;
use ir::trace::Trace;
use ir::units::Bytes;
use reports::{device_rate, model_flops};
use serde_json::{Value, json};

use super::costs::Speed;
use super::failure::Failure;
use super::input::{Job, Origin, check_published, job, write_published};
use super::losers::composition;
use super::output::{check_writable, complain, folder_of, show, write_whole};
use super::plan::detail;
use super::{fleet, json as document, spread, text};
use crate::options::CheckOptions;

pub(crate) fn check(options: &CheckOptions) -> Result<(), Failure> {
    let name = options.plan.display().to_string();
    if options.cluster.is_none()
        && let Some(job) = fleet::job(&options.plan)?
    {
        return fleet::check(options, &job);
    }
    let job = match &options.cluster {
        Some(cluster) => spread::job(options, cluster)?,
        None => job(&options.plan, options.profile.as_deref())?,
    };
    if let Some(output) = &options.output {
        check_writable(output)?;
        if job.origins[0] == Origin::Published {
            check_published(&job.model, output)?;
        }
    }
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
    let setting =
        Setting { graph: &graph, cluster: &job.cluster, costs: &job.costs, precision: plan.precision, line: None };
    let candidate = played(setting, plan, &programs);
    let warnings = warnings(&job, &candidate);
    let speed = Speed::of(&job.model, &job.cluster, plan.batch, candidate.trace.step);
    if let Some(output) = &options.output {
        write(&job, &programs, output)?;
    }
    if options.json {
        let mut document = report(&name, &job, &candidate, &warnings);
        document["candidate"]["speed"] = speed.data(options.training);
        return show(&format!("{document:#}\n"));
    }
    for warning in &warnings {
        complain(&format!("warning: {name}: {warning}"));
    }
    let mut text = described(&job, &candidate);
    let mut line = |key: &str, value: String| writeln!(text, "{key:<9} {value}").expect("a string can grow");
    line("Speed", speed.words());
    if let Some(words) = speed.training(options.training) {
        line("Training", words);
    }
    text += &format!("Checked {name}: it is legal and fits\n");
    if let Some(output) = &options.output {
        text += &format!("Wrote {}\n", output.display());
    }
    show(&text)
}

/// The plan with its prediction, and the trace of that beside it.
fn write(job: &Job, programs: &Programs, output: &Path) -> Result<(), Failure> {
    let trace = simulate(programs, &job.costs, detail(&job.file.plan)).expect("verified programs do not deadlock");
    let predicted = predicted(&job.costs, &trace, programs.peak(), Digest(programs.digest()));
    let [model, cluster] = &job.origins;
    let [model, cluster] = [model.reference(folder_of(output))?, cluster.reference(folder_of(output))?];
    let file = PlanFile::new(job.file.plan.clone(), (&job.model, &model), (&job.cluster, &cluster));
    let ways = job.costs.ways(&programs.draft().fragments);
    // Without measurements, those that the plan had are kept.
    let ways = if ways.is_empty() { job.file.ways.clone() } else { ways };
    let file = PlanFile { predicted: Some(predicted), ways, ..file };
    if job.origins[0] == Origin::Published {
        write_published(&job.model, output)?;
    }
    write_whole(&trace_beside(output), &print_trace(&trace))?;
    write_whole(output, &print_plan(&file))
}

/// What a plan's file says of its programs and their simulated step.
pub(crate) fn predicted(costs: &CostModel, trace: &Trace, peak: Bytes, programs: Digest) -> Predicted {
    let Interval { low, high } = costs.interval(trace);
    Predicted { step: trace.step, between: Some([low, high]), peak, programs }
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
    let Some(Predicted { programs, step, peak, .. }) = &job.file.predicted else { return Vec::new() };
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

fn described(job: &Job, candidate: &Candidate) -> String {
    let capacity = job.cluster.capacity();
    let free = capacity.saturating_sub(candidate.peak);
    let flops = model_flops(&job.model.graph(), job.file.plan.batch);
    let (rate, share) = device_rate(flops, candidate.trace.step, &job.cluster, job.file.plan.precision);
    let mut text = String::new();
    let mut line = |key: &str, value: String| writeln!(text, "{key:<9} {value}").expect("a string can grow");
    line("Model", text::model_line(&job.model));
    line("Cluster", text::cluster_line(&job.cluster));
    line("Plan", super::words::plan_label(&job.file.plan));
    let interval = job.costs.interval(&candidate.trace);
    let step = super::words::with_interval(candidate.trace.step, interval);
    line("Step", format!("{step}: {}", composition(candidate)));
    line("Rate", format!("{rate} of the model per device, {:.1} % of its peak", share * 100.0));
    line("Peak", format!("{} of {capacity}, {free} free", candidate.peak));
    line("Programs", Digest(candidate.digest).to_string());
    line("Trust", text::trust(candidate));
    line("Between", text::wrapped(&job.costs.interval_basis()));
    text
}

fn report(name: &str, job: &Job, candidate: &Candidate, warnings: &[String]) -> Value {
    json!({
        "format": 1,
        "plan": name,
        "legal": true,
        "capacity_bytes": job.cluster.capacity(),
        "free_bytes": Bytes(job.cluster.capacity().saturating_sub(candidate.peak).0),
        "candidate": document::candidate(candidate, &job.costs),
        "warnings": warnings,
    })
}
