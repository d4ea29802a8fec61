//! The main command: search, write, tell.

use std::path::{Path, PathBuf};
use std::time::Instant;

use cost_model::{CostModel, Detail, simulate};
use hetu_planner::{
    Candidate, Extent, Failures, Found, Goodput, Mix, Request, Rules, Setting, goodput, outer_choices_within, search,
};
use indicatif::{ProgressBar, ProgressStyle};
use ir::cluster::Cluster;
use ir::file::{Digest, parse_cluster, print_cluster, print_model, print_plan, print_trace, trace_beside};
use ir::graph::{Graph, LayerId};
use ir::model::Model;
use ir::plan::{Plan, PlanFile};
use ir::profile::Profile;
use ir::program::Programs;
use ir::units::Seconds;

use super::asked::{Asked, Headroom, asked_model, check_rules};
use super::check::{predicted, violations_failure};
use super::failure::Failure;
use super::input::{CLUSTER, Devices, Origin, check_published, devices, profile, read_text, write_published};
use super::margins::Margin;
use super::money::Cost;
use super::output::{check_folder, check_writable, end_at_interrupt, folder_of, show, show_painted, write_whole};
use super::robust::Robust;
use super::solve::{check_count, ways_to_cut};
use super::why_not::WhyNot;
use super::{explain, fleet, json, margins, no_plan, page, robust, sweep, text, why_not};
use crate::options::{Form, MethodName, PlanOptions, TrainingOptions};

/// What is asked for, with everything read.
pub(crate) struct Question {
    /// As the user named it.
    pub(crate) model_path: PathBuf,
    pub(crate) model_origin: Origin,
    pub(crate) model: Model,
    pub(crate) graph: Graph,
    /// The model where it is not what was named: written beside the plan.
    changed_model: Option<PathBuf>,
    pub(crate) devices: Devices,
    /// The same with what stays free taken away, for which plans are searched.
    roomy: Cluster,
    pub(crate) headroom: Headroom,
    pub(crate) rules: Rules,
    pub(crate) profile: Option<Profile>,
    pub(crate) costs: CostModel,
    pub(crate) batch: u64,
    /// How often devices fail, if that counts.
    pub(crate) failures: Option<Failures>,
    /// How much is to be trained.
    pub(crate) training: TrainingOptions,
}

impl Question {
    /// The same of another model, other devices or another batch.
    pub(super) fn with(&self, model: Model, devices: Devices, batch: u64) -> Question {
        let headroom = Headroom::of(&devices.cluster, Some(self.headroom.share));
        Question {
            model_path: self.model_path.clone(),
            model_origin: self.model_origin.clone(),
            graph: model.graph(),
            model,
            changed_model: None,
            roomy: headroom.taken(&devices.cluster),
            headroom,
            rules: self.rules.clone(),
            profile: self.profile.clone(),
            costs: CostModel::new(&devices.cluster, self.profile.as_ref()),
            devices,
            batch,
            failures: self.failures,
            training: self.training,
        }
    }

    /// The devices with what stays free taken away.
    pub(super) fn roomy(&self) -> &Cluster {
        &self.roomy
    }

    /// What a plan costs, if prices of devices are known.
    pub(crate) fn cost(&self, candidate: &Candidate) -> Option<Cost> {
        let tokens = self.batch as f64 * self.model.sequence as f64;
        Cost::of(&[(&self.devices.cluster, candidate.plan.rank_count())], candidate.trace.step, tokens)
    }

    /// What failures leave of a plan, if they count.
    pub(crate) fn goodput(&self, candidate: &Candidate) -> Option<Goodput> {
        let (parameters, devices) = (self.graph.parameter_count(), candidate.plan.rank_count());
        self.failures.map(|failures| goodput(parameters, devices, failures))
    }
}

/// What was found and written.
pub(crate) struct Planned {
    pub(crate) found: Found,
    /// Of uniform plans: the step of the best plan whose layers may be unlike, if it was searched.
    pub(crate) free: Option<Seconds>,
    /// Which of them was picked, from 0.
    pub(crate) picked: usize,
    /// What came of plans that one had in mind.
    pub(crate) why_not: Vec<WhyNot>,
    /// What more of each resource gives, if it was asked.
    pub(crate) margins: Option<Vec<Margin>>,
    /// How the plans do where prices are wrong, if it was asked; then they are in that order.
    pub(crate) robust: Option<Robust>,
    /// The picked plan, simulated whole.
    pub(crate) picked_whole: Candidate,
    /// Its programs, if something is told of them.
    pub(crate) programs: Option<Programs>,
    pub(crate) elapsed: Seconds,
    pub(crate) written: Vec<String>,
}

impl Planned {
    /// The programs of the picked plan, which are there for whoever explains or reports.
    pub(crate) fn programs(&self) -> &Programs {
        self.programs.as_ref().expect("what is told of was compiled")
    }
}

pub(crate) fn plan(options: &PlanOptions) -> Result<(), Failure> {
    if let Some(found) = fleet::wanted(options)? {
        return fleet::plan(options, found);
    }
    if let Some(asked) = &options.sweep.sweep {
        return sweep::sweep(options, asked);
    }
    let question = question(options)?;
    check_writable(&options.output)?;
    check_writable(&trace_beside(&options.output))?;
    if question.model_origin == Origin::Published {
        check_published(&question.model, &options.output)?;
    }
    if let Some(folder) = &options.report {
        check_folder(folder)?;
    }
    if options.method == MethodName::Exhaustive {
        check_count(assignments(&question))?;
    }
    end_at_interrupt()?;
    let form = options.form.form();
    let start = Instant::now();
    let mut found = searched(&question, options, form, &question.rules)?;
    let free = match question.rules.mix {
        Mix::Uniform if options.method != MethodName::Exhaustive => {
            let free = searched(&question, options, form, &question.rules.free())?;
            // Uniform plans are plans too.
            Some(free.candidates[0].trace.step.min(found.candidates[0].trace.step))
        }
        Mix::Uniform | Mix::Free => None,
    };
    let elapsed = Seconds(start.elapsed().as_secs_f64());
    let robust = options.order.robust.then(|| robust::rank(&question, &mut found));
    let margins = options.explain.then(|| margins::margins(&question, options, &found)).transpose()?;
    let picked = options.pick as usize - 1;
    let Some(candidate) = found.candidates.get(picked) else {
        let count = found.candidates.len();
        return Err(Failure::wrong(format!("--pick {}: the list has {count} plans", options.pick))
            .help("pick one of the list; --keep says how long it may be"));
    };
    let why_not = options.why_not.iter().map(|fixed| why_not::ask(&question, options, fixed));
    let why_not = why_not.collect::<Result<Vec<WhyNot>, Failure>>()?;
    let Whole { candidate: picked_whole, programs } = whole(&question, options, candidate)?;
    let mut outcome =
        Planned { found, free, picked, why_not, margins, robust, picked_whole, programs, elapsed, written: Vec::new() };
    write(&question, &mut outcome, options)?;
    match form {
        Form::Json => show(&format!("{:#}\n", json::answer(&question, &outcome))),
        Form::LastLine => show(&text::last_line(&outcome)),
        Form::Text => {
            let details = if options.explain { explain::explain(&question, &outcome) } else { String::new() };
            show_painted(&(text::answer(&question, &outcome) + &details + &text::last_line(&outcome)))
        }
    }
}

/// Visits of microbatches to layers up to which the trace of a step has its events without being asked: some megabytes.
const EVENTS_MAX: u64 = 4_096;

/// What the trace of a plan tells if no report is asked for.
pub(crate) fn detail(plan: &Plan) -> Detail {
    let visits = plan.strategies.len() as u64 * u64::from(plan.microbatches);
    if visits <= EVENTS_MAX { Detail::Events } else { Detail::Totals }
}

fn beside(options: &PlanOptions, name: &str) -> PathBuf {
    options.output.with_file_name(name)
}

pub(crate) fn question(options: &PlanOptions) -> Result<Question, Failure> {
    let question = read_question(options)?;
    check_rules(&question.rules, &question.graph, &question.roomy, question.batch)?;
    Ok(question)
}

/// The same, whatever its rules leave.
pub(super) fn read_question(options: &PlanOptions) -> Result<Question, Failure> {
    let Asked { path: model_path, origin: model_origin, model, changed: changed_model } = asked_model(options)?;
    let devices = match devices(options.cluster.as_deref())? {
        Devices { cluster, origin: Origin::Detected } => {
            known_machine(Devices { cluster, origin: Origin::Detected }, &beside(options, CLUSTER))?
        }
        named => named,
    };
    let profile = profile(options.profile.as_deref(), &devices.cluster)?;
    let costs = CostModel::new(&devices.cluster, profile.as_ref());
    let batch = options.batch.unwrap_or(model.training.batch);
    let failures = options.failures.failures();
    let known_price = devices.cluster.device.price_per_hour;
    let training = TrainingOptions { price: options.training.price.or(known_price), ..options.training };
    let (graph, rules) = (model.graph(), options.rules.rules());
    let headroom = Headroom::of(&devices.cluster, options.memory_headroom);
    let roomy = headroom.taken(&devices.cluster);
    Ok(Question {
        graph,
        model_path,
        model_origin,
        model,
        changed_model,
        devices,
        roomy,
        headroom,
        rules,
        profile,
        costs,
        batch,
        failures,
        training,
    })
}

/// The description of this machine that an earlier search wrote, if there is one: its memory may have been corrected
/// by hand, and plans beside it rely on it.
fn known_machine(found: Devices, path: &Path) -> Result<Devices, Failure> {
    if !path.exists() {
        return Ok(found);
    }
    let name = path.display().to_string();
    let known = parse_cluster(&read_text(path)?, &name)?;
    let device = |cluster: &Cluster| (cluster.device.name.clone(), cluster.device.execution);
    if device(&known) == device(&found.cluster) {
        return Ok(Devices { cluster: known, origin: Origin::File(path.to_owned()) });
    }
    let what = format!("{name} describes other devices than this machine, and would be overwritten");
    Err(Failure::wrong(what).help(format!("plan for them with --cluster {name}, or write the plan elsewhere with -o")))
}

/// How many assignments an enumeration would try, all in all.
fn assignments(question: &Question) -> f64 {
    let graph = &question.graph;
    let outers = outer_choices_within(graph, &question.roomy, question.batch, &question.rules);
    let of_one = |outer: &hetu_planner::Outer| {
        let choices = |kind: &ir::graph::KindId| {
            let all = compiler::strategies(&graph.kinds[kind.index()], outer.ranks, outer.sequences);
            let is_tried = |strategy: &&ir::plan::Strategy| {
                outer.degrees.contains(&strategy.tensor) && outer.rules.allows(graph, *kind, strategy)
            };
            all.iter().filter(is_tried).count() as f64
        };
        ways_to_cut(graph.layers.len(), outer.stages as usize) * graph.layers.iter().map(choices).product::<f64>()
    };
    outers.iter().map(of_one).sum()
}

pub(crate) fn searched(
    question: &Question,
    options: &PlanOptions,
    form: Form,
    rules: &Rules,
) -> Result<Found, Failure> {
    let setting = setting(question);
    let method = options.method.method()?;
    let request = Request { setting, batch: question.batch, method, keep: options.keep as usize, rules: rules.clone() };
    // Drawn only where stderr is a terminal.
    let bar = if form == Form::LastLine { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed}").expect("the template is valid");
    bar.set_style(style);
    bar.set_message("costs of layers");
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        if done == all {
            bar.set_message("best plans");
        }
    };
    let found = search(&request, &progress);
    bar.finish_and_clear();
    found.map_err(|reason| {
        let said = if form == Form::Json { show(&format!("{:#}\n", json::no_plan(&reason))) } else { Ok(()) };
        said.err().unwrap_or_else(|| no_plan::failure(&question.model_path, &reason))
    })
}

pub(crate) fn setting(question: &Question) -> Setting<'_> {
    Setting {
        graph: &question.graph,
        cluster: &question.roomy,
        costs: &question.costs,
        precision: question.model.training.precision,
        line: None,
    }
}

/// A plan simulated whole, with its programs if something is told of them.
struct Whole {
    candidate: Candidate,
    programs: Option<Programs>,
}

/// The picked plan with all that is to be told of it. One of very many microbatches was compiled with fewer of them
/// before.
fn whole(question: &Question, options: &PlanOptions, picked: &Candidate) -> Result<Whole, Failure> {
    let detail = if options.report.is_some() { Detail::Events } else { detail(&picked.plan) };
    if detail == Detail::Totals && !options.explain && picked.extent == Extent::Whole {
        return Ok(Whole { candidate: picked.clone(), programs: None });
    }
    let programs = compiler::compile(&question.graph, &question.devices.cluster, &picked.plan)
        .map_err(|violations| violations_failure("the picked plan", &violations))?;
    let trace = simulate(&programs, &question.costs, detail).expect("verified programs do not deadlock");
    let (peak, digest) = (programs.peak(), programs.digest());
    let candidate = Candidate { trace, peak, digest, extent: Extent::Whole, ..picked.clone() };
    Ok(Whole { candidate, programs: Some(programs) })
}

fn write(question: &Question, outcome: &mut Planned, options: &PlanOptions) -> Result<(), Failure> {
    let folder = folder_of(&options.output);
    if let Some(path) = &question.changed_model {
        write_whole(path, &print_model(&question.model))?;
    }
    let cluster = &question.devices.cluster;
    let reference = question.devices.origin.reference(folder)?;
    let model = question.model_origin.reference(folder)?;
    let plan = outcome.found.candidates[outcome.picked].plan.clone();
    let mut file = PlanFile::new(plan, (&question.model, &model), (cluster, &reference));
    let programs = compiler::compile(&question.graph, cluster, &file.plan)
        .map_err(|violations| violations_failure("the picked plan", &violations))?;
    file.ways = question.costs.ways(&programs.draft().fragments);
    let Candidate { trace, peak, digest, .. } = &outcome.picked_whole;
    file.predicted = Some(predicted(&question.costs, trace, *peak, Digest(*digest)));
    // The plan comes last: whoever finds it finds all that it refers to.
    let mut written = Vec::new();
    if question.devices.origin == Origin::Detected {
        written.push((beside(options, CLUSTER), print_cluster(cluster)));
    }
    written.push((trace_beside(&options.output), print_trace(trace)));
    written.push((options.output.clone(), print_plan(&file)));
    let published = match question.model_origin {
        Origin::Published => Some(write_published(&question.model, &options.output)?),
        Origin::File(_) | Origin::Preset(_) | Origin::Detected => None,
    };
    for (path, content) in &written {
        write_whole(path, content)?;
    }
    outcome.written.extend(published.iter().chain(&question.changed_model).map(|path| path.display().to_string()));
    // The plan is named first.
    outcome.written.splice(0..0, written.iter().rev().map(|(path, _)| path.display().to_string()));
    if let Some(folder) = &options.report {
        let report = page::write(question, outcome, folder)?;
        outcome.written.push(report.display().to_string());
    }
    Ok(())
}

/// What a layer is called in tables: its kind, and its number where there are several.
pub(crate) fn layer_name(graph: &Graph, layer: u32) -> String {
    let kind = graph.layers[layer as usize];
    let name = &graph.kind(LayerId(layer)).name;
    let is_one = graph.layers.iter().filter(|other| **other == kind).count() == 1;
    if is_one { name.clone() } else { format!("{name} {layer}") }
}
