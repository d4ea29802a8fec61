//! The tool from its options to its exit status.

mod checkpoints;
mod devices;
mod evaluation;
mod failure;
mod feed;
mod inputs;
mod logs;
mod memory;
mod published;
mod report;
mod show;
mod signals;
mod statistics;
mod summary;
mod supervise;
mod tensorboard;
mod together;
mod train;
mod words;

use std::path::Path;

use hetu_executor::{Backend, Issue, LoadError, Processes, Session, Settings, World as _};
use ir::cluster::Execution;
use ir::program::Programs;
use ir::seed::Seed;
use ir::units::{Bytes, Seconds};
use serde_json::json;

pub(crate) use checkpoints::NAMES;
pub(crate) use failure::Failure;
pub(crate) use published::export;
pub(crate) use supervise::run as supervise;
pub(crate) use train::Ending;

use checkpoints::Checkpoints;
use evaluation::{Evaluation, windows_read};
use failure::Outcome;
use feed::{Feeds, text_name};
use inputs::Inputs;
use logs::Logs;
use show::{Closed, Screen};
use signals::Signals;
use summary::Summary;
use together::Voice;
use train::{History, Parts, Trainer};
use words::{counted, short};

use crate::options::{BackendName, Options};

/// The largest single piece of work, one kernel, is far shorter even on slow machines.
const PATIENCE: Seconds = Seconds(600.0);

/// Does what the command line asks for.
pub(crate) fn run(options: &Options) -> Outcome<Ending> {
    // What can be seen to be wrong at once, before anything takes time.
    let launch = together::launch()?;
    let voice = Voice::of(launch.place.process);
    if voice == Voice::Heard {
        let mut folders = options.report.iter().chain(&options.checkpoint).chain(&options.tensorboard);
        folders.try_for_each(|folder| make(folder))?;
        options.csv.iter().try_for_each(|file| make(logs::folder_of(file)))?;
    }
    let is_alone = launch.place.processes == 1;
    let own_folder = if is_alone { checkpoints::open(options, &mut Processes::alone())? } else { None };
    let mut inputs = inputs::read(options)?;
    inputs.unlike = devices::unlike(&inputs, backend(options, &inputs));
    let weights = published::open(options, &inputs)?;
    let Feeds { training: feed, held_out, sources } = feed::read(options, &inputs)?;
    let held_out = held_out.filter(|_| options.evaluate_every > 0);
    let evaluation = match &held_out {
        Some(_) => Some(evaluation_programs(&inputs)?),
        None => None,
    };

    let mut screen = Screen::new(options, voice);
    inputs.notes.iter().chain(&inputs.unlike).chain(&foreign_ways(options, &inputs)).for_each(|note| screen.note(note));
    let tokens = Bytes((feed.bytes() + held_out.as_ref().map_or(0, feed::Feed::bytes)) as u64);
    check_memory((options, &inputs), (evaluation.as_ref(), tokens), launch.place.processes, &screen)?;
    let settings = settings(options, &inputs);
    let mut processes = together::join(&launch, options, &inputs, &sources)?;
    let others = processes.clone();
    let tell = |failure: &Failure| others.clone().fail(&failure.text);
    let folder = match own_folder {
        None if !is_alone => checkpoints::open(options, &mut processes).inspect_err(tell)?,
        own => own,
    };
    let mut checkpoints = folder.map(|folder| Checkpoints::new(folder, options, &inputs, &sources));
    let seed = Seed(options.seed);
    let mut session = Session::load_among(&inputs.programs, &settings, seed, &processes).map_err(load_failure)?;
    let (resumed, notes) = match &mut checkpoints {
        Some(checkpoints) => checkpoints.resume(&mut session, options, &mut processes).inspect_err(tell)?,
        None => (None, Vec::new()),
    };
    notes.iter().for_each(|note| screen.note(note));
    if let (Some(weights), None) = (&weights, &resumed) {
        weights.begin(&mut session).map_err(published::failure).inspect_err(tell)?;
    }
    let held_out_count = held_out.as_ref().map_or(0, feed::Feed::count);
    let read = windows_read(options.evaluate_windows, inputs.plan.batch, held_out_count);
    let windows = Windows { training: feed.count(), held_out: held_out_count, read };
    let evaluation = match (evaluation, held_out) {
        (Some(programs), Some(feed)) => {
            Some(Evaluation::load(&programs, &settings, (feed, read), &processes).inspect_err(tell)?)
        }
        (Some(_), None) | (None, Some(_) | None) => None,
    };
    let logs = match voice {
        Voice::Heard => Logs::open(options, session.steps_done()).inspect_err(tell)?,
        Voice::Silent => Logs::default(),
    };
    if head(&mut screen, (options, &inputs), windows, (&processes, resumed.as_deref())) == Err(Closed) {
        processes.fail("nobody reads its output");
        return Ok(Ending::Unread);
    }
    screen.begin(session.steps_done());
    let signals = Signals::listen().inspect_err(tell)?;
    let parts = Parts { session, feed, evaluation, checkpoints, signals, logs, processes };
    let history = Trainer::new(options, &inputs, parts).train(&mut screen)?;
    match voice {
        Voice::Heard => conclude((options, &inputs), &history, &mut screen),
        Voice::Silent => Ok(history.ending),
    }
}

/// Reports what came of it.
fn conclude((options, inputs): (&Options, &Inputs), history: &History, screen: &mut Screen) -> Outcome<Ending> {
    let mut summary = Summary::new(inputs, history)?;
    if let Some(folder) = &options.report {
        summary.wrote(report::write(folder, (inputs, history), summary.verdict())?);
    }
    summary.wrote(history.checkpoint.clone());
    summary.wrote(history.logs.iter().cloned());
    let printed = screen.summary(&summary.text(), summary.data());
    if let Some(words) = &history.unsaved {
        return Err(Failure::run(format!("the last checkpoint is missing: {words}")));
    }
    if let Some(words) = &history.unlogged {
        return Err(Failure::run(words));
    }
    match printed {
        Ok(()) => screen.check_lost().map(|()| history.ending),
        Err(Closed) => Ok(Ending::Unread),
    }
}

/// Writes a man page for the tool and each of its commands into a folder, which is made.
pub(crate) fn man(command: clap::Command, folder: &Path) -> Outcome<()> {
    make(folder)?;
    clap_mangen::generate_to(command, folder).map_err(|error| Failure::folder(folder, &error))
}

/// A folder that can be written, or a failure.
fn make(folder: &Path) -> Outcome<()> {
    // Of a name that nobody can foresee and lay a link under; it is gone at once.
    std::fs::create_dir_all(folder)
        .and_then(|()| tempfile::Builder::new().prefix(".hetu-exec-").tempfile_in(folder))
        .and_then(tempfile::NamedTempFile::close)
        .map_err(|error| Failure::folder(folder, &error))
}

fn evaluation_programs(inputs: &Inputs) -> Outcome<Programs> {
    compiler::compile_evaluation(&inputs.graph, &inputs.cluster, &inputs.plan).map_err(|violations| {
        let words: Vec<String> = violations.iter().map(ToString::to_string).collect();
        Failure::run(format!("the evaluation cannot be compiled: {}", words.join("; "))).help("--evaluate-every 0")
    })
}

fn settings(options: &Options, inputs: &Inputs) -> Settings {
    let backend = match backend(options, inputs) {
        BackendName::Threads => Backend::Threads,
        BackendName::Shuffle => Backend::Shuffle { seed: options.seed },
        BackendName::Cuda => Backend::Cuda { issue: if options.no_graph { Issue::Eager } else { Issue::Recorded } },
    };
    let (training, ways) = (inputs.model.training.clone(), inputs.ways.clone());
    Settings { training, steps: options.steps, backend, ways, patience: PATIENCE }
}

/// That the plan's ways to compute products mean nothing here, if GPUs run it and their library is another.
fn foreign_ways(options: &Options, inputs: &Inputs) -> Option<String> {
    let told = &inputs.ways.library;
    let is_run_by_gpus = matches!(backend(options, inputs), BackendName::Cuda);
    if inputs.ways.is_empty() || !is_run_by_gpus {
        return None;
    }
    // Where the library is missing, loading says so.
    let here = kernels::cuda::product_library().ok().filter(|here| here != told)?;
    Some(format!(
        "the plan says how {told} computes products fastest; here is {here}, which computes them as it expects to be \
         fastest: profile and plan again"
    ))
}

/// What was asked for, or else what the plan's cluster is.
fn backend(options: &Options, inputs: &Inputs) -> BackendName {
    options.backend.unwrap_or(match inputs.cluster.device.execution {
        Execution::Concurrent => BackendName::Cuda,
        Execution::Shared { .. } => BackendName::Threads,
    })
}

/// Everything that this process will have in the memory of this machine: arenas, tokens, and what passes through.
fn check_memory(
    (options, inputs): (&Options, &Inputs),
    (evaluation, tokens): (Option<&Programs>, Bytes),
    processes: u32,
    screen: &Screen,
) -> Outcome<()> {
    match backend(options, inputs) {
        BackendName::Threads | BackendName::Shuffle => {}
        // Arenas are not in this machine's memory; the devices say whether they are in theirs.
        BackendName::Cuda => return Ok(()),
    }
    let whole = memory::arenas(&inputs.programs) + evaluation.map_or(Bytes::ZERO, memory::arenas);
    // What ranks abroad exchange is small beside what ranks keep.
    let arenas = Bytes(whole.0 / u64::from(processes));
    let who = if processes == 1 { "all ranks together" } else { "the ranks of this process" };
    if let Some(note) = memory::check(who, arenas + tokens + memory::CHUNKS, memory::memory())? {
        screen.note(&note);
    }
    Ok(())
}

fn load_failure(error: LoadError) -> Failure {
    match &error {
        LoadError::Memory { .. } | LoadError::Thread { .. } => {
            Failure::run(&error).help("plan for fewer ranks, or stop other programs")
        }
        LoadError::Device { .. } => Failure::run(&error).help("train on the CPU instead: --backend threads"),
        LoadError::Uneven { .. } => {
            Failure::wrong_use(&error).help("start as many processes as the plan has ranks, or a part of these")
        }
        LoadError::Shuffled { .. } => Failure::wrong_use(&error).help("--backend threads"),
        LoadError::Unlike { .. } => {
            Failure::wrong_use(&error).help("start all processes with the same files and options")
        }
        LoadError::World(_) => Failure::run(&error).help("see what that process printed"),
        LoadError::Late { .. } => Failure::run(&error).help("see whether another program uses the GPUs"),
    }
}

/// Windows of the text.
#[derive(Clone, Copy)]
struct Windows {
    training: usize,
    held_out: usize,
    /// Those that an evaluation reads.
    read: u64,
}

impl Windows {
    /// In words; what is not read of the held-out part is said.
    fn words(self, sequence: u64) -> String {
        let Windows { training, held_out, read } = self;
        let sample = if read < held_out as u64 {
            format!(", of which the held-out loss reads {read}; --evaluate-windows {held_out} reads all")
        } else {
            String::new()
        };
        format!("{training} windows of {sequence} tokens to train on, {held_out} held out{sample}")
    }
}

/// What is about to run.
fn head(
    screen: &mut Screen,
    (options, inputs): (&Options, &Inputs),
    windows: Windows,
    (processes, resumed): (&Processes, Option<&Path>),
) -> Result<(), Closed> {
    let Inputs { plan, model, graph, programs, .. } = inputs;
    let (ranks, stages) = (programs.mesh().rank_count(), programs.mesh().stages());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let parameters = graph.parameter_count();
    let text = text_name(options);
    let sequences = plan.microbatch_sequences();
    let mut facts = vec![
        (
            "Model",
            format!("{}, {}, {} parameters", model.name, counted(model.layers.into(), "block"), short(parameters)),
        ),
        (
            "Plan",
            format!(
                "{}: {} on {}, {}, {} of {}",
                inputs.path.display(),
                counted(ranks.into(), "rank"),
                counted(cores as u64, "core"),
                counted(stages.into(), "stage"),
                counted(plan.microbatches.into(), "microbatch"),
                counted(sequences, "sequence")
            ),
        ),
        ("Text", format!("{text}: {}", windows.words(model.sequence))),
    ];
    if !processes.is_alone() {
        let count = processes.processes();
        facts.push(("Runs in", format!("{count} processes of {} each", counted(u64::from(ranks / count), "rank"))));
    }
    if let Some(path) = resumed {
        facts.push(("Resumed", path.display().to_string()));
    }
    let data = json!({
        "model": model.name,
        "parameters": parameters,
        "plan": inputs.path,
        "programs": format!("{:016x}", programs.digest()),
        "ranks": ranks,
        "stages": stages,
        "microbatches": plan.microbatches,
        "cores": cores,
        "processes": processes.processes(),
        "windows": windows.training,
        "held_out_windows": windows.held_out,
        "evaluated_windows": windows.read,
        "resumed": resumed,
        "text": options.text,
    });
    screen.head(&facts, data)
}
