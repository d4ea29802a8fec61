//! `hetu-plan check` of a plan whose stages lie on unlike devices.

use std::fmt::Write as _;
use std::path::Path;

use compiler::Violation;
use cost_model::FleetModel;
use hetu_planner::{Candidate, Line, Parts, Seated, Setting, played};
use ir::file::Digest;
use ir::fleet::{Fleet, Machines};
use ir::plan::PlanFile;
use serde_json::json;

use super::text::way;
use super::used;
use crate::cli::costs::Speed;
use crate::cli::failure::Failure;
use crate::cli::input::{looks_like_path, machines, read_model, read_plan};
use crate::cli::losers::composition;
use crate::cli::money::Cost;
use crate::cli::output::{complain, show};
use crate::cli::text::{model_line, trust};
use crate::cli::words::{plan_label, with_interval};
use crate::cli::{json as document, table};
use crate::options::CheckOptions;

/// A plan and the fleet that it was made for.
pub(crate) struct FleetJob {
    file: PlanFile,
    fleet: Fleet,
}

/// The plan of a file, if it refers to unlike devices.
pub(crate) fn job(path: &Path) -> Result<Option<FleetJob>, Failure> {
    // Standard input is read once only, by whoever checks plans on equal devices.
    if path == Path::new("-") {
        return Ok(None);
    }
    let file = read_plan(path)?;
    let name = &file.cluster.path;
    let beside = path.with_file_name(name);
    let found =
        if beside.exists() || looks_like_path(name) { beside.to_string_lossy().into_owned() } else { name.clone() };
    Ok(match machines(&found).map(|found| found.machines) {
        Ok(Machines::Unlike(fleet)) => Some(FleetJob { file, fleet }),
        // Whatever is wrong is said where the plan is read again.
        Ok(Machines::Alike(_)) | Err(_) => None,
    })
}

/// Says whether the plan is legal and fits, and what it costs.
pub(crate) fn check(options: &CheckOptions, FleetJob { file, fleet }: &FleetJob) -> Result<(), Failure> {
    let name = options.plan.display().to_string();
    if options.profile.is_some() || options.output.is_some() {
        return Err(Failure::wrong("--profile and -o are not there where devices are unlike").help("leave them out"));
    }
    let reference = &file.model.path;
    let beside = options.plan.with_file_name(reference);
    let model = if beside.exists() || looks_like_path(reference) { beside } else { reference.into() };
    let model = read_model(&model)?.model;
    let stages = file.check_parts(&model, fleet, &name).map_err(|mistakes| Failure::negative(mistakes.to_string()))?;
    let (graph, costs, plan) = (model.graph(), FleetModel::new(fleet), &file.plan);
    let line = Line::new(Parts { clusters: &fleet.parts, costs: &costs }, stages.clone());
    let first = stages[0];
    let setting = Setting {
        graph: &graph,
        cluster: &fleet.parts[first],
        costs: costs.part(first),
        precision: plan.precision,
        line: Some(&line),
    };
    let programs = setting.compile(plan).map_err(|violations| failure(&name, fleet, &stages, &violations))?;
    let seated = Seated { candidate: played(setting, plan, &programs), parts: stages };
    let Candidate { trace, peak, digest, .. } = &seated.candidate;
    if let Some(predicted) = file.predicted.as_ref().filter(|predicted| predicted.programs != Digest(*digest)) {
        let now = Digest(*digest);
        complain(&format!(
            "warning: {name}: was predicted for programs {}, but now compiles to {now}; plan again",
            predicted.programs
        ));
    }
    let tokens = plan.batch as f64 * model.sequence as f64;
    let cost = Cost::of(&used(fleet, &seated), trace.step, tokens);
    let interval = costs.interval(trace, &seated.parts);
    if options.json {
        let mut candidate = document::candidate(&seated.candidate, costs.part(first));
        candidate["step_seconds_between"] = json!([interval.low, interval.high]);
        candidate["cost"] = json!(cost.map(|cost| cost.data()));
        let parts: Vec<&String> = seated.parts.iter().map(|&part| &fleet.parts[part].name).collect();
        let report = json!({ "format": 1, "plan": name, "legal": true, "parts": parts, "candidate": candidate });
        return show(&format!("{report:#}\n"));
    }
    let mut text = String::new();
    let mut line = |key: &str, value: String| writeln!(text, "{key:<9} {value}").expect("a string can grow");
    line("Model", model_line(&model));
    line("Plan", plan_label(plan));
    line("Stages", way(|part| fleet.parts[part].name.as_str(), &seated.parts));
    line("Step", format!("{}: {}", with_interval(trace.step, interval), composition(&seated.candidate)));
    line("Peak", format!("{peak}, in the stage that needs most"));
    line("Programs", Digest(*digest).to_string());
    line("Trust", trust(&seated.candidate));
    line("Speed", Speed::on(plan.rank_count(), tokens, trace.step).words());
    if let Some(cost) = cost {
        line("Cost", cost.words());
    }
    text += &memory(fleet, &seated).text();
    text += &format!("Checked {name}: it is legal and fits\n");
    show(&text)
}

/// What each stage needs of what its devices have.
fn memory(fleet: &Fleet, seated: &Seated) -> table::Table {
    let columns = [("stage", table::Side::Right), ("on", table::Side::Left), ("layers", table::Side::Left)];
    let columns = [columns.as_slice(), &[("peak", table::Side::Right), ("of", table::Side::Right)]].concat();
    let mut rows = table::Table::new(&columns);
    let plan = &seated.candidate.plan;
    for (stage, (layers, &part)) in plan.stages.iter().zip(&seated.parts).enumerate() {
        let part = &fleet.parts[part];
        rows.push(vec![
            stage.to_string(),
            part.name.clone(),
            format!("{}..{}", layers.start, layers.end),
            seated.candidate.trace.totals[stage].arena.to_string(),
            part.capacity().to_string(),
        ]);
    }
    rows
}

/// All violations, with the devices of the stage that does not fit.
fn failure(name: &str, fleet: &Fleet, stages: &[usize], violations: &[Violation]) -> Failure {
    let said = |violation: &Violation| {
        let place = match violation {
            Violation::Memory { stage, .. } => format!("on {}: ", fleet.parts[stages[*stage as usize]].name),
            // Rules name their layer; they are alike on all devices.
            Violation::DegreesDoNotNest { .. }
            | Violation::LayerCount { .. }
            | Violation::Stages { .. }
            | Violation::Ranks { .. }
            | Violation::Devices { .. }
            | Violation::Zero { .. }
            | Violation::Many { .. }
            | Violation::Uneven { .. }
            | Violation::Microbatches { .. }
            | Violation::NoEffect { .. }
            | Violation::Tie { .. }
            | Violation::Program(_) => String::new(),
        };
        format!("error: {name}: {place}{violation}")
    };
    let failure = Failure::negative(violations.iter().map(said).collect::<Vec<_>>().join("\n"));
    if violations.iter().any(|violation| matches!(violation, Violation::Memory { .. })) {
        return failure.help("more microbatches, more recomputation or more sharding need less memory; or move layers to a part with more");
    }
    failure
}
