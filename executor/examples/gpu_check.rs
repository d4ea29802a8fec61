//! Trainings on GPUs against the same on CPU ranks, and how fast a larger one is. Prints a line a plan, and fails if
//! losses disagree.
//!
//! `gpu_check [--gpus N] [--only TEXT] [--skip-checks] [--skip-speed] [--dry] [--list]
//! [--limit SECONDS] [--seconds SECONDS]`
//!
//! Plans run in a process of their own, which is ended and started again behind the plan that it is stuck in or dies
//! of. A
//! case that prints nothing for `--limit` is such; after `--seconds` no other case is begun. `--only` takes the cases
//! whose names have a text in them. `--dry` runs the CPU's part alone, with every plan on the CPU.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program whose results are printed")]

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use hetu_executor::{Backend, Batch, Issue, Session, Settings, StepResult};
use ir::graph::Graph;
use ir::model::{Embeddings, Family, Model, Precision, Training};
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::program::{Action, Programs};
use ir::seed::{Draws, Seed};
use ir::trace::Trace;
use ir::units::Seconds;

const STEPS: usize = 10;
/// The largest relative difference of a loss.
const BOUND_F32: f64 = 1e-4;
const BOUND_BF16: f64 = 1e-2;
/// A step without progress for so long has failed.
const PATIENCE: Seconds = Seconds(60.0);
/// A child that prints nothing for so long is ended.
const LIMIT: u64 = 240;
/// Steps that are not timed, and that are.
const WARM: usize = 3;
const TIMED: usize = 8;
/// Fragments shown of a traced step.
const SHOWN: usize = 14;

/// What begins a line that tells the parent which case is next.
const MARK: &str = "@case ";
const FAILED: &str = "FAILED";

fn main() -> ExitCode {
    let options = match Options::read(env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::FAILURE;
        }
    };
    let cases = cases(&options);
    match options.role {
        Role::List => {
            cases.iter().enumerate().for_each(|(index, case)| println!("{index} {}", case.name()));
            ExitCode::SUCCESS
        }
        Role::Child { from } => {
            run(&options, &cases, from);
            ExitCode::SUCCESS
        }
        Role::Parent => lead(&options, &cases),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Parent,
    Child { from: usize },
    List,
}

/// What GPUs are asked to show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Checks,
    Speed,
    Both,
}

/// Who runs what should run on GPUs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Gpus,
    Cpu,
}

struct Options {
    gpus: u32,
    only: String,
    wanted: Wanted,
    target: Target,
    limit: u64,
    seconds: u64,
    role: Role,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            gpus: 1,
            only: String::new(),
            wanted: Wanted::Both,
            target: Target::Gpus,
            limit: LIMIT,
            seconds: u64::MAX,
            role: Role::Parent,
        };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
            let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
            match name.as_str() {
                "--gpus" => options.gpus = number(value()?)? as u32,
                "--only" => options.only = value()?,
                "--limit" => options.limit = number(value()?)?,
                "--seconds" => options.seconds = number(value()?)?,
                "--child" => options.role = Role::Child { from: number(value()?)? as usize },
                "--list" => options.role = Role::List,
                "--dry" => (options.target, options.wanted) = (Target::Cpu, Wanted::Checks),
                "--skip-checks" => options.wanted = Wanted::Speed,
                "--skip-speed" => options.wanted = Wanted::Checks,
                _ => return Err(format!("{name} is no option; see the head of gpu_check.rs")),
            }
        }
        if ![1, 2, 4, 8].contains(&options.gpus) {
            return Err(format!("--gpus is 1, 2, 4 or 8, not {}", options.gpus));
        }
        Ok(options)
    }
}

// ---- The parent: children, one after the other.

fn lead(options: &Options, cases: &[Case]) -> ExitCode {
    let begin = Instant::now();
    let (mut next, mut failures, mut begun) = (0, Vec::new(), cases.len());
    while next < cases.len() {
        let mut child = match spawn(next) {
            Ok(child) => child,
            Err(error) => {
                eprintln!("no child process: {error}");
                return ExitCode::FAILURE;
            }
        };
        let lines = lines(&mut child);
        let mut current = next;
        let ended = loop {
            match lines.recv_timeout(Duration::from_secs(options.limit)) {
                Ok(line) => {
                    if let Some(index) = line.strip_prefix(MARK).and_then(|it| it.parse::<usize>().ok()) {
                        current = index;
                        if begin.elapsed().as_secs() >= options.seconds {
                            drop(child.kill());
                            drop(child.wait());
                            begun = current;
                            println!("not begun, as the time is up: {} cases", cases.len() - begun);
                            break true;
                        }
                        continue;
                    }
                    if line.contains(FAILED) {
                        failures.push(line.clone());
                    }
                    println!("{line}");
                }
                Err(RecvTimeoutError::Disconnected) => break child.wait().is_ok_and(|status| status.success()),
                Err(RecvTimeoutError::Timeout) => {
                    drop(child.kill());
                    drop(child.wait());
                    break false;
                }
            }
        };
        if ended {
            break;
        }
        let name = cases.get(current).map(Case::name).unwrap_or_default();
        let line = format!("{name:<78} {FAILED}: the process hung or died");
        println!("{line}");
        failures.push(line);
        next = current + 1;
    }
    println!(
        "\n{begun} of {} cases run, {} failed, {:.0} s",
        cases.len(),
        failures.len(),
        begin.elapsed().as_secs_f64()
    );
    failures.iter().for_each(|line| println!("  {line}"));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn spawn(from: usize) -> std::io::Result<Child> {
    let arguments = env::args().skip(1).chain(["--child".to_owned(), from.to_string()]);
    Command::new(env::current_exe()?).args(arguments).stdout(Stdio::piped()).spawn()
}

fn lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

// ---- Cases.

/// A plan of a model.
struct Case {
    kind: Kind,
    model: &'static str,
    precision: Precision,
    what: String,
    plan: Plan,
    issue: Issue,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Check,
    Speed,
}

impl Case {
    fn name(&self) -> String {
        let precision = match self.precision {
            Precision::Full => "f32",
            Precision::Mixed => "bf16",
        };
        let issue = match self.issue {
            Issue::Eager => "",
            Issue::Recorded => ", graph",
        };
        format!("{} {precision}: {}{issue}", self.model, self.what)
    }
}

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds: &[Kind] = match options.wanted {
        Wanted::Checks => &[Kind::Check],
        Wanted::Speed => &[Kind::Speed],
        Wanted::Both => &[Kind::Check, Kind::Speed],
    };
    if kinds.contains(&Kind::Check) {
        for name in ["tiny-llama", "tiny-gpt", "medium-llama"] {
            for precision in [Precision::Full, Precision::Mixed] {
                let layers = model(name).layers + 2;
                // Recorded steps are the same work: once for each precision is enough.
                let issues: &[Issue] = match (name, options.target) {
                    ("tiny-llama", Target::Gpus) => &[Issue::Eager, Issue::Recorded],
                    _ => &[Issue::Eager],
                };
                for &issue in issues {
                    for (what, plan) in plans(options.gpus, layers) {
                        cases.push(Case {
                            kind: Kind::Check,
                            model: name,
                            precision,
                            what,
                            plan: Plan { precision, ..plan },
                            issue,
                        });
                    }
                }
            }
        }
    }
    if kinds.contains(&Kind::Speed) {
        for (what, plan) in speed_plans(options.gpus) {
            for issue in [Issue::Eager, Issue::Recorded] {
                let (what, plan) = (what.clone(), plan.clone());
                cases.push(Case {
                    kind: Kind::Speed,
                    model: "llama-1b",
                    precision: Precision::Mixed,
                    what,
                    plan,
                    issue,
                });
            }
        }
    }
    cases.retain(|case| case.name().contains(&options.only));
    cases
}

const SINGLE: Strategy =
    Strategy { data: 1, tensor: 1, sequence: Sequence::Whole, shard: Shard::Nothing, recompute: Recompute::Nothing };

fn data(degree: u32, shard: Shard) -> Strategy {
    Strategy { data: degree, shard, ..SINGLE }
}

fn tensor(degree: u32, sequence: Sequence) -> Strategy {
    Strategy { tensor: degree, sequence, ..SINGLE }
}

/// Stages of nearly as many layers each.
fn even(layers: u32, stages: u32) -> Vec<std::ops::Range<u32>> {
    (0..stages).map(|stage| layers * stage / stages..layers * (stage + 1) / stages).collect()
}

/// Ways to compute again what is not kept, by name.
const RECOMPUTES: [(&str, Recompute); 3] =
    [("nothing", Recompute::Nothing), ("cheap", Recompute::Selective), ("full", Recompute::Full)];

/// What ranks of Data keep a share of, by name.
const SHARDS: [(&str, Shard); 4] = [
    ("nothing", Shard::Nothing),
    ("optimizer", Shard::Optimizer),
    ("gradients", Shard::Gradients),
    ("parameters", Shard::Parameters),
];

/// A plan of a model of so many layers, with a batch of 8.
fn small(layers: u32, microbatches: u32, stages: u32, strategy: Strategy) -> Plan {
    Plan {
        batch: 8,
        microbatches,
        schedule: Schedule::OneForwardOneBackward,
        precision: Precision::Full,
        stages: even(layers, stages),
        strategies: vec![strategy; layers as usize],
        prefetch: 1,
    }
}

/// Plans of a model of so many layers on so many GPUs.
fn plans(gpus: u32, layers: u32) -> Vec<(String, Plan)> {
    match gpus {
        1 => single_plans(layers),
        2 => simple_plans(gpus, layers),
        _ => [simple_plans(gpus, layers), mixed_plans(gpus, layers)].concat(),
    }
}

fn single_plans(layers: u32) -> Vec<(String, Plan)> {
    let mut all = Vec::new();
    for (name, recompute) in RECOMPUTES {
        for microbatches in [1, 2, 4, 8] {
            let plan = small(layers, microbatches, 1, Strategy { recompute, ..SINGLE });
            all.push((format!("recompute {name}, {microbatches} microbatches"), plan));
        }
    }
    let mut mixed = small(layers, 2, 1, SINGLE);
    for (strategy, (_, recompute)) in mixed.strategies.iter_mut().zip(RECOMPUTES.iter().cycle()) {
        strategy.recompute = *recompute;
    }
    all.push(("recompute by layer, 2 microbatches".to_owned(), mixed.clone()));
    all.push(("all forward, 2 microbatches".to_owned(), Plan { schedule: Schedule::AllForward, ..mixed }));
    all
}

/// Along one axis, and along two by turns.
fn simple_plans(n: u32, layers: u32) -> Vec<(String, Plan)> {
    let plan = |microbatches, stages, strategy| small(layers, microbatches, stages, strategy);
    let mut all: Vec<(String, Plan)> = Vec::new();
    let mut add = |what: String, plan: Plan| all.push((what, plan));
    for (name, shard) in SHARDS {
        add(format!("data {n}, shard {name}"), plan(1, 1, data(n, shard)));
    }
    let microbatches = 8 / n;
    for (name, shard) in [SHARDS[2], SHARDS[3]] {
        let strategy = Strategy { recompute: Recompute::Full, ..data(n, shard) };
        let what = format!("data {n}, shard {name}, recompute full, {microbatches} microbatches, prefetch 2");
        add(what, Plan { prefetch: 2, ..plan(microbatches, 1, strategy) });
    }
    let late = plan(1, 1, data(n, Shard::Parameters));
    add(format!("data {n}, shard parameters, prefetch 0"), Plan { prefetch: 0, ..late });
    let t = n.min(4);
    let both = |sequence| Strategy { data: n / t, shard: Shard::Optimizer, ..tensor(t, sequence) };
    add(format!("tensor {t}"), plan(2, 1, both(Sequence::Whole)));
    add(format!("tensor {t}, sequence split"), plan(2, 1, both(Sequence::Split)));
    let strategy = Strategy { recompute: Recompute::Selective, ..both(Sequence::Split) };
    add(format!("tensor {t}, sequence split, recompute cheap"), plan(4, 1, strategy));
    let p = n.min(4);
    let each = || data(n / p, Shard::Nothing);
    add(format!("pipeline {p}, 1f1b, 4 microbatches"), plan(4, p, each()));
    let forward = Plan { schedule: Schedule::AllForward, ..plan(4, p, each()) };
    add(format!("pipeline {p}, all forward, 4 microbatches"), forward);
    let strategy = Strategy { recompute: Recompute::Full, ..each() };
    add(format!("pipeline {p}, 1f1b, recompute full, 2 microbatches"), plan(2, p, strategy));
    // Layers that are spread in unlike ways: what is split along sequences is then split along heads, and the reverse.
    let mut unlike = plan(2, 1, data(n, Shard::Optimizer));
    let other = Strategy { data: n / 2, shard: Shard::Optimizer, ..tensor(2, Sequence::Split) };
    unlike.strategies.iter_mut().skip(1).step_by(2).for_each(|strategy| *strategy = other.clone());
    add(format!("data {n} and data {} tensor 2 by turns", n / 2), unlike.clone());
    unlike.strategies.iter_mut().for_each(|strategy| strategy.sequence = Sequence::Whole);
    add(format!("data {n} and data {} tensor 2 by turns, sequence whole", n / 2), unlike);
    all
}

/// Along several axes at once.
fn mixed_plans(n: u32, layers: u32) -> Vec<(String, Plan)> {
    let plan = |microbatches, stages, strategy| small(layers, microbatches, stages, strategy);
    let half = n / 2;
    let mut all: Vec<(String, Plan)> = SHARDS
        .into_iter()
        .map(|(name, shard)| {
            let strategy = Strategy { shard, data: half, ..tensor(2, Sequence::Split) };
            (format!("data {half}, tensor 2, sequence split, shard {name}"), plan(2, 1, strategy))
        })
        .collect();
    all.push((format!("pipeline 2, data {half}, shard optimizer"), plan(2, 2, data(half, Shard::Optimizer))));
    let strategy = Strategy { recompute: Recompute::Full, ..data(half, Shard::Parameters) };
    all.push((format!("pipeline 2, data {half}, shard parameters, recompute full"), plan(2, 2, strategy)));
    let strategy = Strategy { data: n / 4, ..tensor(2, Sequence::Split) };
    all.push((format!("pipeline 2, data {}, tensor 2, sequence split", n / 4), plan(4, 2, strategy)));
    all
}

fn speed_plans(gpus: u32) -> Vec<(String, Plan)> {
    let layers = model("llama-1b").layers + 2;
    let plan = |batch: u64, microbatches: u32, stages: u32, strategy: Strategy| Plan {
        batch,
        microbatches,
        schedule: Schedule::OneForwardOneBackward,
        precision: Precision::Mixed,
        stages: even(layers, stages),
        strategies: vec![strategy; layers as usize],
        prefetch: 1,
    };
    let cheap = |strategy: Strategy| Strategy { recompute: Recompute::Selective, ..strategy };
    let n = gpus;
    if n == 1 {
        return vec![
            ("batch 4, 1 microbatch".to_owned(), plan(4, 1, 1, SINGLE)),
            ("batch 4, 1 microbatch, recompute cheap".to_owned(), plan(4, 1, 1, cheap(SINGLE))),
            ("batch 16, 4 microbatches".to_owned(), plan(16, 4, 1, SINGLE)),
        ];
    }
    let wide = u64::from(4 * n);
    vec![
        (format!("data {n}, shard optimizer, batch {wide}"), plan(wide, 1, 1, data(n, Shard::Optimizer))),
        (format!("data {n}, shard parameters, batch {wide}"), plan(wide, 1, 1, data(n, Shard::Parameters))),
        (format!("tensor {n}, sequence split, batch 4"), plan(4, 1, 1, tensor(n, Sequence::Split))),
        (format!("pipeline {n}, batch {wide}, {} microbatches", 2 * n), plan(wide, 2 * n, n, SINGLE)),
    ]
}

fn model(name: &str) -> Model {
    let training = Training {
        batch: 8,
        precision: Precision::Full,
        learning_rate: 3e-3,
        warmup_steps: 0,
        weight_decay: 0.1,
        gradient_norm_max: 1.0,
        betas: [0.9, 0.95],
    };
    let tiny = Model {
        format: 1,
        name: name.to_owned(),
        family: Family::Llama,
        layers: 2,
        hidden: 64,
        heads: 8,
        key_value_heads: Some(4),
        feed_forward: 96,
        vocabulary: 128,
        sequence: 32,
        embeddings: Embeddings::Untied,
        rotary_base: 10_000.0,
        norm_epsilon: 1e-5,
        training,
    };
    match name {
        "tiny-gpt" => Model {
            family: Family::Gpt,
            key_value_heads: None,
            embeddings: Embeddings::Tied,
            feed_forward: 256,
            ..tiny
        },
        "medium-llama" => Model { layers: 4, hidden: 512, feed_forward: 1024, vocabulary: 1024, sequence: 256, ..tiny },
        "llama-1b" => Model {
            layers: 16,
            hidden: 2048,
            heads: 32,
            key_value_heads: Some(8),
            feed_forward: 8192,
            vocabulary: 32_000,
            sequence: 4096,
            ..tiny
        },
        _ => tiny,
    }
}

// ---- The child: cases, one after the other.

fn run(options: &Options, cases: &[Case], from: usize) {
    let mut expected = BTreeMap::new();
    for (index, case) in cases.iter().enumerate().skip(from) {
        println!("{MARK}{index}");
        let line = match case.kind {
            Kind::Check => check(options, case, &mut expected),
            Kind::Speed => speed(case),
        };
        println!("{:<78} {}", case.name(), line.unwrap_or_else(|wrong| format!("{FAILED}: {wrong}")));
    }
}

fn compiled(graph: &Graph, plan: &Plan) -> Result<Programs, String> {
    compiler::compile_unlimited(graph, plan).map_err(|all| {
        let first: Vec<String> = all.iter().take(2).map(ToString::to_string).collect();
        format!("the plan is not legal: {}", first.join("; "))
    })
}

fn load(model: &Model, programs: &Programs, backend: Backend) -> Result<Session, String> {
    let settings = Settings { training: model.training.clone(), steps: 100, backend, patience: PATIENCE };
    Session::load(programs, &settings, Seed(7)).map_err(|error| error.to_string())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Plain,
    Traced,
}

/// The same two batches by turns: what a training learns of them shows whether its updates are right.
fn step(model: &Model, batch: u64, session: &mut Session, step: Step) -> Result<StepResult, String> {
    let mut draws = Draws::new(Seed(session.steps_done() % 2));
    let count = batch * model.sequence + 1;
    let tokens: Vec<i32> = (0..count).map(|_| draws.below(model.vocabulary) as i32).collect();
    let batch = Batch { inputs: &tokens[..tokens.len() - 1], targets: &tokens[1..] };
    let result = match step {
        Step::Plain => session.step(batch),
        Step::Traced => session.step_traced(batch),
    };
    result.map_err(|fault| fault.to_string())
}

/// Losses and norms of all steps; the last one traced.
fn train(model: &Model, programs: &Programs, backend: Backend) -> Result<(Vec<[f64; 2]>, Option<Trace>), String> {
    let mut session = load(model, programs, backend)?;
    let mut numbers = Vec::new();
    let mut trace = None;
    for number in 1..=STEPS {
        let kind = if number == STEPS { Step::Traced } else { Step::Plain };
        let result = step(model, model.training.batch, &mut session, kind)?;
        numbers.push([result.loss, result.gradient_norm]);
        trace = result.trace;
    }
    Ok((numbers, trace))
}

type Expected = BTreeMap<(String, bool, String), Vec<[f64; 2]>>;

fn check(options: &Options, case: &Case, expected: &mut Expected) -> Result<String, String> {
    let model = model(case.model);
    let graph = model.graph();
    let programs = compiled(&graph, &case.plan)?;
    let is_large = model.hidden > 64;
    // A large model takes long on one thread a rank: all its plans are held to one of many ranks.
    let (what, reference) = if is_large {
        let strategies = vec![data(8, Shard::Optimizer); case.plan.strategies.len()];
        let layers = case.plan.strategies.len() as u32;
        let plan = Plan { microbatches: 1, stages: even(layers, 1), strategies, ..case.plan.clone() };
        ("data 8".to_owned(), compiled(&graph, &plan)?)
    } else {
        (case.what.clone(), programs.clone())
    };
    let key = (case.model.to_owned(), case.precision == Precision::Mixed, what);
    if !expected.contains_key(&key) {
        let (numbers, _) = train(&model, &reference, Backend::Threads)?;
        expected.insert(key.clone(), numbers);
    }
    let expected = &expected[&key];
    let backend = match options.target {
        Target::Gpus => Backend::Cuda { issue: case.issue },
        Target::Cpu => Backend::Shuffle { seed: 1 },
    };
    let begin = Instant::now();
    let (found, trace) = train(&model, &programs, backend)?;
    let took = begin.elapsed().as_secs_f64();
    let off = |index: usize| {
        let pairs = found.iter().zip(expected);
        pairs
            .map(|(a, b)| ((a[index] - b[index]) / b[index]).abs())
            .fold(0.0, |most: f64, off| if off.is_nan() { f64::INFINITY } else { most.max(off) })
    };
    let bound = match case.precision {
        Precision::Full => BOUND_F32,
        Precision::Mixed => BOUND_BF16,
    };
    let (losses, norms) = (off(0), off(1));
    let trace = trace.ok_or("the traced step has no trace")?;
    let mut line = format!("loss {losses:.1e}, norm {norms:.1e} ({took:.1} s)");
    if let Some(wrong) = wrong(&programs, &trace) {
        line += &format!(" {FAILED}: {wrong}");
    } else if losses > bound {
        let [first, last] = [found.first(), found.last()].map(|it| it.map_or(f64::NAN, |it| it[0]));
        let [should_first, should_last] = [expected.first(), expected.last()].map(|it| it.map_or(f64::NAN, |it| it[0]));
        line += &format!(
            " {FAILED}: over {bound:.0e}; losses {first:.5} .. {last:.5}, \
             expected {should_first:.5} .. {should_last:.5}"
        );
    }
    Ok(line)
}

/// What is wrong with the trace of a step.
fn wrong(programs: &Programs, trace: &Trace) -> Option<String> {
    let takes_time = |action: &Action| match action {
        Action::Compute(_) | Action::Exchange(_) | Action::Send(_) | Action::Receive(_) => true,
        Action::Free | Action::Signal(_) | Action::Wait(_) => false,
    };
    let ranks = 0..programs.mesh().rank_count();
    let count: usize =
        ranks.map(|rank| programs.role_of(rank).code.iter().filter(|instr| takes_time(&instr.action)).count()).sum();
    if trace.events.len() != count {
        return Some(format!("the trace has {} events, not {count}", trace.events.len()));
    }
    let is_inside = |start: f64, end: f64| 0.0 <= start && start <= end && end <= 1.1 * trace.step.0 + 1e-4;
    let outside = trace.events.iter().find(|event| !is_inside(event.start.0, event.end.0))?;
    Some(format!("an event of rank {} runs from {} to {} of {}", outside.rank, outside.start, outside.end, trace.step))
}

fn speed(case: &Case) -> Result<String, String> {
    let model = model(case.model);
    let graph = model.graph();
    let programs = compiled(&graph, &case.plan)?;
    let begin = Instant::now();
    let mut session = load(&model, &programs, Backend::Cuda { issue: case.issue })
        .map_err(|error| format!("arena {}: {error}", programs.peak()))?;
    println!("  {}: arena {}, loaded in {:.1} s", case.name(), programs.peak(), begin.elapsed().as_secs_f64());
    let mut times = Vec::new();
    let mut losses = Vec::new();
    for number in 0..WARM + TIMED {
        let result = step(&model, case.plan.batch, &mut session, Step::Plain)?;
        losses.push(result.loss);
        if number >= WARM {
            times.push(result.time.0);
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    if case.issue == Issue::Eager {
        let trace = step(&model, case.plan.batch, &mut session, Step::Traced)?.trace;
        show(&programs, &trace.ok_or("the traced step has no trace")?);
    }
    let tokens = (case.plan.batch * model.sequence) as f64;
    // As planners count it: products of parameters, and attention of which half is masked; recomputation is not work.
    let multiplied: u64 = graph.layers.iter().skip(1).map(|kind| graph.kinds[kind.index()].parameter_count()).sum();
    let attention = 6.0 * f64::from(model.layers) * model.hidden as f64 * model.sequence as f64;
    let flops = (6.0 * multiplied as f64 + attention) * tokens;
    let ranks = f64::from(programs.mesh().rank_count());
    if losses.iter().any(|loss| !loss.is_finite()) {
        return Err(format!("losses {losses:?}"));
    }
    Ok(format!(
        "{:.1} ms [{:.1}..{:.1}], {:.0} tokens/s, {:.0} TFLOP/s a GPU, loss {:.3} .. {:.3}",
        median * 1e3,
        times[0] * 1e3,
        times[times.len() - 1] * 1e3,
        tokens / median,
        flops / median / ranks / 1e12,
        losses[0],
        losses[losses.len() - 1],
    ))
}

/// Where the time of a traced step goes: totals of each rank, and the first rank's most costly work.
fn show(programs: &Programs, trace: &Trace) {
    for totals in &trace.totals {
        println!(
            "    rank {}: step {:.1} ms, compute {:.1}, exchange {:.1}, transfer {:.1}, hidden {:.1}, idle {:.1}",
            totals.rank,
            trace.step.0 * 1e3,
            totals.compute.0 * 1e3,
            totals.exchange.0 * 1e3,
            totals.transfer.0 * 1e3,
            totals.hidden.0 * 1e3,
            totals.idle.0 * 1e3
        );
    }
    let mut by_name: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for event in trace.events.iter().filter(|event| event.rank == 0) {
        let name = match event.action {
            Action::Compute(id) => programs.fragment(id).name.clone(),
            Action::Exchange(id) => {
                let collective = programs.collective(id);
                let bytes = collective.source_bytes();
                format!("{} {} {bytes}", collective.exchange.name(), collective.axis.name())
            }
            Action::Send(_) => "send".to_owned(),
            Action::Receive(_) => "receive".to_owned(),
            Action::Free | Action::Signal(_) | Action::Wait(_) => continue,
        };
        let entry = by_name.entry(name).or_default();
        entry.0 += 1;
        entry.1 += (event.end - event.start).0;
    }
    let mut rows: Vec<(String, (usize, f64))> = by_name.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (name, (count, time)) in rows.iter().take(SHOWN) {
        println!("    {:>9.2} ms {count:>5} x {:>8.1} us  {name}", time * 1e3, time * 1e6 / *count as f64);
    }
}
