//! Planning on unlike devices, and by money: search, write, tell.

mod check;
mod json;
mod pool;
mod text;

use std::time::Instant;

use cost_model::{CostModel, FleetModel};
use hetu_planner::{FleetRequest, Line, Mix, Parts, Seated};
use ir::cluster::Cluster;
use ir::file::{Digest, print_model, print_plan, print_trace, trace_beside};
use ir::fleet::{Fleet, Machines};
use ir::graph::Graph;
use ir::plan::{PlanFile, Predicted};
use ir::profile::Profile;
use ir::trace::Trace;
use ir::units::{Bytes, Seconds};

use super::asked::{Asked, Headroom, asked_model};
use super::check::violations_failure;
use super::failure::Failure;
use super::input::{Found, Origin, check_published, machines, profile, write_published};
use super::output::{check_writable, end_at_interrupt, folder_of, show, show_painted, write_whole};
use super::plan::detail;
use crate::options::{Form, MethodName, PlanOptions};
pub(crate) use check::{check, job};
use pool::Pool;

/// What is asked for, with everything read.
pub(super) struct Question {
    asked: Asked,
    graph: Graph,
    fleet: Fleet,
    origin: Origin,
    kind: Kind,
    /// What of each part stays free, and the parts without it.
    headrooms: Vec<Headroom>,
    roomy: Vec<Cluster>,
    /// Of the devices, if they are alike.
    profile: Option<Profile>,
    costs: FleetModel,
    batch: u64,
}

/// Whether the devices are alike, and their file is that of a cluster without parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Alike,
    Unlike,
}

impl Question {
    fn parts(&self) -> Parts<'_> {
        Parts { clusters: &self.roomy, costs: &self.costs }
    }

    fn request(&self, options: &PlanOptions) -> Result<FleetRequest<'_>, Failure> {
        Ok(FleetRequest {
            graph: &self.graph,
            precision: self.asked.model.training.precision,
            parts: self.parts(),
            batch: self.batch,
            method: options.method.method()?,
            keep: options.keep as usize,
            rules: options.rules.rules(),
        })
    }

    /// What a part is called: its device where there are no parts.
    fn name(&self, part: usize) -> &str {
        let cluster = &self.fleet.parts[part];
        if self.kind == Kind::Alike { &cluster.device.name } else { &cluster.name }
    }

    /// Tokens of a step.
    fn tokens(&self) -> f64 {
        self.batch as f64 * self.asked.model.sequence as f64
    }
}

/// The devices of a plan by part: which, and how many.
fn used<'a>(fleet: &'a Fleet, seated: &Seated) -> Vec<(&'a Cluster, u32)> {
    let ranks = seated.candidate.plan.rank_count() / seated.parts.len() as u32;
    let stages = |part: usize| seated.parts.iter().filter(|&&other| other == part).count() as u32;
    let all = fleet.parts.iter().enumerate().map(|(part, cluster)| (cluster, stages(part) * ranks));
    all.filter(|(_, count)| *count > 0).collect()
}

/// The machines that options name, if they are unlike or if money counts.
pub(crate) fn wanted(options: &PlanOptions) -> Result<Option<Found>, Failure> {
    let Some(name) = options.cluster.as_deref() else { return Ok(None) };
    let found = machines(name)?;
    let is_wanted = options.money.is_asked() || matches!(found.machines, Machines::Unlike(_));
    Ok(is_wanted.then_some(found))
}

/// Plans for such machines.
pub(crate) fn plan(options: &PlanOptions, found: Found) -> Result<(), Failure> {
    check_options(options, &found)?;
    let question = question(options, found)?;
    check_writable(&options.output)?;
    check_writable(&trace_beside(&options.output))?;
    if question.asked.origin == Origin::Published {
        check_published(&question.asked.model, &options.output)?;
    }
    end_at_interrupt()?;
    let start = Instant::now();
    let pool = Pool::new(&question, options)?;
    let elapsed = Seconds(start.elapsed().as_secs_f64());
    let picked = options.pick as usize - 1;
    let Some(seated) = pool.offers.get(picked).map(|offer| &offer.seated) else {
        let count = pool.offers.len();
        return Err(Failure::wrong(format!("--pick {}: the list has {count} plans", options.pick))
            .help("pick one of the list; --keep says how long it may be"));
    };
    let written = write(&question, seated, options)?;
    let answer = text::Answer { question: &question, pool: &pool, picked, elapsed, written: &written };
    match options.form.form() {
        Form::Json => show(&format!("{:#}\n", json::answer(&answer))),
        Form::LastLine => show(&answer.last_line()),
        Form::Text => show_painted(&(answer.text() + &answer.last_line())),
    }
}

/// What is not there for unlike devices yet is said before anything is searched.
fn check_options(options: &PlanOptions, found: &Found) -> Result<(), Failure> {
    let is_unlike = matches!(found.machines, Machines::Unlike(_));
    let refused = [
        (options.sweep.sweep.is_some(), "--sweep"),
        (!options.why_not.is_empty(), "--why-not"),
        (options.explain, "--explain"),
        (options.report.is_some(), "--report"),
        (options.order.robust, "--robust"),
        (options.failures.failures().is_some(), "--mtbf"),
        (options.method == MethodName::Exhaustive, "--method exhaustive"),
        (options.rules.rules().mix == Mix::Uniform, "--uniform"),
        (options.profile.is_some() && is_unlike, "--profile"),
    ];
    let Some((_, name)) = refused.into_iter().find(|(is_set, _)| *is_set) else { return Ok(()) };
    let what = if is_unlike { "where devices are unlike" } else { "beside --objective, --max-cost and --max-step" };
    Err(Failure::wrong(format!("{name} is not there {what}"))
        .help("leave it out, or plan for a cluster of equal devices by time alone"))
}

fn question(options: &PlanOptions, found: Found) -> Result<Question, Failure> {
    let asked = asked_model(options)?;
    let (fleet, kind) = match found.machines {
        Machines::Alike(cluster) => (Fleet::of(&cluster), Kind::Alike),
        Machines::Unlike(fleet) => (fleet, Kind::Unlike),
    };
    if options.money.needs_prices()
        && let Some((index, part)) =
            fleet.parts.iter().enumerate().find(|(_, part)| part.device.price_per_hour.is_none())
    {
        let place = if kind == Kind::Alike { "device".to_owned() } else { format!("parts[{index}].device") };
        let what = format!("nothing says what a {} costs", part.device.name);
        return Err(Failure::wrong(what)
            .help(format!("write `price_per_hour: 2.5` into `{place}` of a cluster file, as examples/clusters/mixed-2x8xH100-4x8xA100.yaml does")));
    }
    let profile = profile(options.profile.as_deref(), &fleet.parts[0])?;
    let costs = match &profile {
        Some(_) => FleetModel::alone(&CostModel::new(&fleet.parts[0], profile.as_ref())),
        None => FleetModel::new(&fleet),
    };
    let headrooms: Vec<Headroom> = fleet.parts.iter().map(|part| Headroom::of(part, options.memory_headroom)).collect();
    let roomy = headrooms.iter().zip(&fleet.parts).map(|(headroom, part)| headroom.taken(part)).collect();
    let batch = options.batch.unwrap_or(asked.model.training.batch);
    Ok(Question {
        graph: asked.model.graph(),
        asked,
        fleet,
        origin: found.origin,
        kind,
        headrooms,
        roomy,
        profile,
        costs,
        batch,
    })
}

/// What a plan's file says of its simulated step.
fn predicted(costs: &FleetModel, trace: &Trace, stages: &[usize], [peak, digest]: [u64; 2]) -> Predicted {
    let interval = costs.interval(trace, stages);
    let between = Some([interval.low, interval.high]);
    Predicted { step: trace.step, between, peak: Bytes(peak), programs: Digest(digest) }
}

/// Writes the plan, and its step beside it. Gives what was written, the plan first.
fn write(question: &Question, seated: &Seated, options: &PlanOptions) -> Result<Vec<String>, Failure> {
    let Asked { model, origin, changed, .. } = &question.asked;
    let request = question.request(options)?;
    let line = Line::new(request.parts, seated.parts.clone());
    let setting = request.on(&line);
    let plan = &seated.candidate.plan;
    let programs = setting.compile(plan).map_err(|violations| violations_failure("the picked plan", &violations))?;
    let trace = setting.simulate(&programs, detail(plan)).expect("verified programs do not deadlock");
    let folder = folder_of(&options.output);
    let references = [origin.reference(folder)?, question.origin.reference(folder)?];
    let model_reference = (model, references[0].as_str());
    let mut file = match question.kind {
        Kind::Alike => PlanFile::new(plan.clone(), model_reference, (&question.fleet.parts[0], &references[1])),
        Kind::Unlike => {
            PlanFile::on_parts(plan.clone(), model_reference, (&question.fleet, &references[1]), &seated.parts)
        }
    };
    file.predicted = Some(predicted(&question.costs, &trace, &seated.parts, [programs.peak().0, programs.digest()]));
    let mut written = vec![options.output.display().to_string(), trace_beside(&options.output).display().to_string()];
    if let Some(path) = changed {
        write_whole(path, &print_model(model))?;
        written.push(path.display().to_string());
    }
    if *origin == Origin::Published {
        written.push(write_published(model, &options.output)?.display().to_string());
    }
    write_whole(&trace_beside(&options.output), &print_trace(&trace))?;
    // The plan comes last: whoever finds it finds all that it refers to.
    write_whole(&options.output, &print_plan(&file))?;
    Ok(written)
}
