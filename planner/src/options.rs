//! The command line.

mod examples;
mod export;
mod fixed;
mod money;
mod problems;
mod replay;
mod rules;
mod spread;
mod suggested;
mod sweep;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use hetu_planner::Failures;
use ir::units::{BytesPerSecond, Seconds};
use solver::Method;

use crate::cli::Failure;
use examples::EXAMPLES;
pub(crate) use export::{ExportOptions, MemoryOptions, Trainer};
pub(crate) use fixed::Fixed;
use money::MoneyOptions;
pub(crate) use money::Objective;
pub(crate) use problems::{DumpOptions, ImportOptions, Partition, SolveOptions};
pub(crate) use replay::{FitName, ReplayOptions};
pub(crate) use rules::RuleOptions;
pub(crate) use spread::SpreadOptions;
use suggested::Suggested;
pub(crate) use suggested::lists;
pub(crate) use sweep::{Sweep, SweepOptions, Varied};

/// Finds the fastest plan to train a model on given devices.
///
/// Every pipeline depth, count of microbatches and mix of per-layer strategies (data, tensor, sequence, sharding,
/// recomputation) is considered; the best are compiled and simulated whole. The fastest that fits is written as a file
/// that hetu-exec runs.
#[derive(Parser)]
#[command(name = "hetu-plan", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Options {
    /// What to do instead of planning.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// What to plan.
    #[command(flatten)]
    pub(crate) plan: PlanOptions,
    /// Print completions for a shell: bash, zsh or fish.
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub(crate) completions: Option<Shell>,
    /// Write a man page for each command into this folder.
    #[arg(long, value_name = "DIR", exclusive = true)]
    pub(crate) man: Option<PathBuf>,
}

/// Everything but the search.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say whether a plan is legal and fits, and what it costs; name every violation.
    ///
    /// The model and cluster are those that the plan refers to, relative to the plan file. A plan that was made for
    /// other content is refused. With --cluster a model is named instead, and options say how it is spread. Exit
    /// status 1 if the plan is not legal or does not fit.
    Check(CheckOptions),
    /// Say at once whether a model fits: what each of some devices holds, by ZeRO stage and recomputation.
    ///
    /// Each row is a plan that was compiled and placed in memory, not a formula.
    Memory(MemoryOptions),
    /// List the shipped models, which can be named instead of a file.
    Models,
    /// List the shipped devices, of which clusters are made: 8xH100, or 64x8xH100 for 64 nodes of 8.
    Clusters,
    /// Solve problems of bare numbers, and print the best assignment, its objective and what is proven, as JSON.
    ///
    /// docs/problem.md describes the file and what is printed. Exit status 1 if nothing fits.
    Solve(SolveOptions),
    /// Write the profiles of another planner as problems, under its own formulas.
    ///
    /// What a file lacks is named by file and key. `hetu-plan solve` finds the optimum, and --strategy writes it as that
    /// planner's strategy file.
    Import(ImportOptions),
    /// Plan, and write the problem of bare numbers that was solved for the plan's stages and microbatches.
    Dump(DumpOptions),
    /// Print the program of every stage of a plan as text.
    Compile(CompileOptions),
    /// Predict runs that others measured, and say how far off that is, by source.
    ///
    /// Each row of a file is a run: shape of the model, devices, how it was spread, by which software, and what a step
    /// took; docs/replay.md names the columns. Rows that cannot be read are named by their line, and the others go on.
    Replay(ReplayOptions),
    /// Write a plan as the arguments or the configuration of another trainer, with the line that starts it.
    ///
    /// What of the plan that trainer cannot say stands at the head of the script and on standard error, and the exit
    /// status is then 3.
    Export(ExportOptions),
}

/// The search.
#[derive(Args)]
pub(crate) struct PlanOptions {
    /// The model: a file with its sizes and how it is trained, the name of a shipped one such as llama3-8b, or the
    /// config.json of a Hugging Face folder or that folder, of which model.yaml is made beside the plan.
    #[arg(value_name = "MODEL.YAML|NAME|CONFIG.JSON", required_unless_present_any = ["completions", "man"])]
    #[arg(value_parser = Suggested::models(), hide_possible_values = true)]
    pub(crate) model: Option<PathBuf>,
    /// Devices: a cluster file, or a shipped description such as 8xA100-80GB or 64x8xH100; this machine if absent. Unlike
    /// devices have a `+` between them, as in 2x8xH100+4x8xA100, or are `parts` of the file.
    #[arg(long, value_name = "FILE|PRESET", value_parser = Suggested::clusters(), hide_possible_values = true)]
    pub(crate) cluster: Option<String>,
    /// Measured prices, as hetu-profile writes them; must be of the cluster's device.
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
    /// Where to write the plan; its simulated step stands beside it, as plan.trace beside plan.yaml. Folders are made.
    #[arg(short, long, value_name = "FILE", default_value = "plan.yaml")]
    pub(crate) output: PathBuf,
    /// Write a page, pictures and a timeline of the best plan into this folder. The trace of a long step has its events
    /// only then.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Sequences of a step, instead of the model's `training.batch`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) batch: Option<u64>,
    /// Tokens of a sequence, instead of those of the model, which is then written beside the plan [default of a
    /// config.json: as many as it allows, at most 4096 where positions are rotated]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sequence_length: Option<u64>,
    /// Part of the memory of each device that stays free [default: 2% on GPUs, 0% on CPU ranks]
    #[arg(long, value_name = "PERCENT", value_parser = headroom)]
    pub(crate) memory_headroom: Option<f64>,
    /// What plans may be.
    #[command(flatten)]
    pub(crate) rules: RuleOptions,
    /// How strategies are chosen.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) method: MethodName,
    /// How many plans are listed at most; 16 or more are compared, whatever is listed.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) keep: u32,
    /// Where devices fail.
    #[command(flatten)]
    pub(crate) failures: FailureOptions,
    /// Which plan of the list is written, described and reported.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) pick: u32,
    /// How much is to be trained, and what it costs.
    #[command(flatten)]
    pub(crate) training: TrainingOptions,
    /// By what plans are ranked.
    #[command(flatten)]
    pub(crate) order: OrderOptions,
    /// What they may cost.
    #[command(flatten)]
    pub(crate) money: MoneyOptions,
    /// Say what the best plan is with these fixed, and what forbids it or makes it slower; may be repeated. Keys: tensor,
    /// stages, data, microbatches, shard, recompute, schedule, sequence, as in "tensor=8 stages=4".
    #[arg(long, value_name = "KEY=VALUE ...", value_parser = fixed::fixed)]
    pub(crate) why_not: Vec<Fixed>,
    /// Several plans at once.
    #[command(flatten)]
    pub(crate) sweep: SweepOptions,
    /// Describe the best plan: strategies by layer, exchanges with bytes and prices, memory by class; and what more
    /// memory, faster links or more devices would give, by planning again with a little more of each.
    #[arg(long)]
    pub(crate) explain: bool,
    /// How much is printed.
    #[command(flatten)]
    pub(crate) form: FormOptions,
}

/// By what plans are ranked.
#[derive(Args, Clone, Copy)]
pub(crate) struct OrderOptions {
    /// Rank the listed plans by the step that they keep in 9 of 10 cases in which prices are wrong. In each of 64 cases
    /// products, attention, what memory bounds, and exchanges inside and between nodes take a number of times as long as
    /// priced, each its own (log-normal, nine of ten within the interval of the step); the list then says in which share
    /// of them each plan is the fastest.
    #[arg(long)]
    pub(crate) robust: bool,
}

/// How often devices fail, and what a save takes.
#[derive(Args, Clone, Copy)]
pub(crate) struct FailureOptions {
    /// Mean time between failures of one device, such as 4h or 300d: say how often to save, and which part of the time
    /// counts.
    #[arg(long, value_name = "TIME", requires = "save_rate", value_parser = mtbf)]
    mtbf: Option<Seconds>,
    /// Rate at which all devices together write a checkpoint, such as 2GB/s; it is read at the same.
    #[arg(long, value_name = "RATE", requires = "mtbf", value_parser = save_rate)]
    save_rate: Option<BytesPerSecond>,
}

impl FailureOptions {
    /// Both, if they are given.
    pub(crate) fn failures(self) -> Option<Failures> {
        let (device_mtbf, save_rate) = self.mtbf.zip(self.save_rate)?;
        Some(Failures { device_mtbf, save_rate })
    }
}

/// A number and its unit, with or without a space between them.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let value = units.iter().find_map(|(unit, scale)| {
        let number: f64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        Some(number * scale)
    })?;
    // Within these all formulas give finite numbers.
    (1e-3..=1e15).contains(&value).then_some(value)
}

fn mtbf(text: &str) -> Result<Seconds, String> {
    // In this order: `min` and `s` end unlike all others.
    let units = [("min", 60.0), ("h", 3600.0), ("d", 86_400.0), ("s", 1.0)];
    scaled(text, &units).map(Seconds).ok_or_else(|| "give a time with its unit (s, min, h, d), such as 4h".to_owned())
}

fn save_rate(text: &str) -> Result<BytesPerSecond, String> {
    let units = [("TB/s", 1e12), ("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)];
    let rate = scaled(text, &units).map(BytesPerSecond);
    rate.ok_or_else(|| "give a rate in bytes (not bits) with its unit, such as 2GB/s".to_owned())
}

/// In which form results are printed.
#[derive(Args, Clone, Copy)]
pub(crate) struct FormOptions {
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
    /// Whether only the last line counts.
    #[command(flatten)]
    last: LastOption,
}

#[derive(Args, Clone, Copy)]
struct LastOption {
    /// Print only the last line, and no progress.
    #[arg(long, conflicts_with = "json")]
    quiet: bool,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Text for people.
    Text,
    /// Its last line.
    LastLine,
    /// A document for programs.
    Json,
}

impl FormOptions {
    /// What is to be printed.
    pub(crate) fn form(self) -> Form {
        if self.json {
            Form::Json
        } else if self.last.quiet {
            Form::LastLine
        } else {
            Form::Text
        }
    }
}

/// How much is to be trained, and what it costs.
#[derive(Args, Clone, Copy)]
pub(crate) struct TrainingOptions {
    /// Tokens to train on, such as 300B or 1T: how many days and device-hours that takes is told.
    #[arg(long, value_name = "COUNT", value_parser = tokens)]
    pub(crate) tokens: Option<f64>,
    /// What a device costs, such as 2.5/device-hour, in any currency.
    #[arg(long, value_name = "PRICE", value_parser = price, requires = "tokens")]
    pub(crate) price: Option<f64>,
}

/// A plan to check.
#[derive(Args)]
pub(crate) struct CheckOptions {
    /// The plan; with --cluster a model, as a file or by name.
    #[arg(value_name = "PLAN.YAML|MODEL", value_parser = Suggested::models(), hide_possible_values = true)]
    pub(crate) plan: PathBuf,
    /// Check a plan of the options below, for these devices: a cluster file, or a shipped description such as 8xH100.
    #[arg(long, value_name = "FILE|PRESET", value_parser = Suggested::clusters(), hide_possible_values = true)]
    pub(crate) cluster: Option<String>,
    /// Tokens of a sequence, where the model is a config.json [default: as many as it allows, at most 4096 where
    /// positions are rotated]
    #[arg(long, requires = "cluster", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sequence_length: Option<u64>,
    /// How all layers are spread.
    #[command(flatten)]
    pub(crate) spread: SpreadOptions,
    /// Measured prices, as hetu-profile writes them; must be of the cluster's device.
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
    /// Write the plan there with what was predicted, and its simulated step beside it, for hetu-exec.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// How much is to be trained, and what it costs.
    #[command(flatten)]
    pub(crate) training: TrainingOptions,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A count of tokens: `300B`, `1T`, `2e9`.
fn tokens(text: &str) -> Result<f64, String> {
    const UNITS: [(char, f64); 5] = [('K', 1e3), ('M', 1e6), ('B', 1e9), ('G', 1e9), ('T', 1e12)];
    let last = text.chars().last().map(|letter| letter.to_ascii_uppercase());
    let unit = UNITS.into_iter().find(|(letter, _)| last == Some(*letter));
    let (number, scale) = unit.map_or((text, 1.0), |(_, scale)| (&text[..text.len() - 1], scale));
    let count = number.trim().parse::<f64>().ok().map(|number| number * scale);
    count.filter(|count| count.is_finite() && *count >= 1.0).ok_or_else(|| "give a count such as 300B or 1T".to_owned())
}

/// A share in percent: `5%` or `5`.
fn headroom(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    let share = number.filter(|percent| (0.0..=90.0).contains(percent)).map(|percent| percent / 100.0);
    share.ok_or_else(|| "give a percentage from 0% to 90%, such as 5%".to_owned())
}

/// A price of a device for an hour: `2.5/device-hour`, or the number alone.
fn price(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/device-hour").unwrap_or(text);
    let price = number.trim().parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| "give a price such as 2.5/device-hour".to_owned())
}

/// A plan to compile.
#[derive(Args)]
pub(crate) struct CompileOptions {
    /// The plan.
    #[arg(value_name = "PLAN.YAML")]
    pub(crate) plan: PathBuf,
    /// Show what this pass of the compiler makes instead: 1 gradients, 2 what is kept, 3 kernels and exchanges,
    /// 4 fragments, 5 tasks, 6 tasks that overlap, 7 code with addresses, 8 with signals and waits, 9 verified.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) pass: Option<u8>,
    /// Where to write the programs; standard output if absent.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// A method by its word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodName {
    /// A dynamic program: fast, and as exact as prices are.
    #[default]
    #[value(alias = "dynamic")]
    Dp,
    /// An integer program, to check the other by; slow.
    #[value(alias = "integer")]
    Ilp,
    /// Every assignment, one after another; for tiny problems only.
    Exhaustive,
}

impl MethodName {
    /// The method, without limits; a failure if the program was built without it.
    pub(crate) fn method(self) -> Result<Method, Failure> {
        match self {
            MethodName::Dp => Ok(Method::DYNAMIC),
            #[cfg(feature = "ilp")]
            MethodName::Ilp => Ok(Method::IntegerProgram { time_limit: f64::INFINITY }),
            #[cfg(not(feature = "ilp"))]
            MethodName::Ilp => Err(Failure::wrong("this hetu-plan was built without the feature `ilp`")
                .help("build it with `cargo install --path planner --features ilp`: that needs cmake, a C++ compiler and libclang")),
            MethodName::Exhaustive => Ok(Method::Exhaustive),
        }
    }
}
