//! Problems of bare numbers: where they come from, and how they are solved.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::MethodName;

/// A problem to solve.
#[derive(Args)]
pub(crate) struct SolveOptions {
    /// The problems, as JSON, the best of which is wanted; `-` reads them from standard input.
    #[arg(value_name = "PROBLEM.JSON")]
    pub(crate) problem: PathBuf,
    /// How they are solved.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) method: MethodName,
    /// Difference from the best that does not matter, as a share; 0 for the optimum itself [default: 0.0001 where
    /// stages are to be chosen, 0 where they are given]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) gap: Option<f64>,
    /// About how long to look, before the best so far must do. The dynamic program counts steps instead of looking at a
    /// clock, so that its answers are the same on any machine.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) time_limit: Option<f64>,
    /// Write the answer as the strategy file of the planner that the problem was imported from.
    #[arg(long, value_name = "FILE")]
    pub(crate) strategy: Option<PathBuf>,
}

/// Profiles to import.
#[derive(Args)]
pub(crate) struct ImportOptions {
    /// Whose they are.
    #[arg(value_enum)]
    pub(crate) from: Source,
    /// The folder with its JSON files, or with a folder `inputs` of them.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Layers and search settings under its names [default: case.json of the folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// GiB of a device, instead of the settings' `memory_constraint`.
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) memory: Option<u64>,
    /// Sequences of a step, instead of the settings' `settle_bsz`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) batch: Option<u32>,
    /// Microbatches of a step, instead of all divisors of the batch.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) microbatches: Option<u32>,
    /// How layers are cut into stages.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) partition: Partition,
    /// Where to write the problems.
    #[arg(short, long, value_name = "FILE", default_value = "problem.json")]
    pub(crate) output: PathBuf,
}

/// Planners whose profiles are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// Hetu-Galvatron 3.0: profiles of layers, memory and exchanges
    #[value(name = "galvatron")]
    LayerProfiles,
}

/// How layers are cut into stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Partition {
    /// As that planner does: as many to each stage, the rest to the last; steps by its rule of the ends
    #[default]
    Even,
    /// To be chosen; steps by the slowest stage
    Free,
}

/// What is planned, and where its problem goes.
#[derive(Args)]
pub(crate) struct DumpOptions {
    /// The model, as for planning.
    #[arg(value_name = "MODEL.YAML|NAME")]
    pub(crate) model: PathBuf,
    /// Devices: a cluster file, or a shipped description; this machine if absent.
    #[arg(long, value_name = "FILE|PRESET")]
    pub(crate) cluster: Option<String>,
    /// Sequences of a step, instead of the model's `training.batch`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) batch: Option<u64>,
    /// Where to write the problem.
    #[arg(short, long, value_name = "FILE", default_value = "problem.json")]
    pub(crate) output: PathBuf,
    /// More options of planning, behind `--`, such as `-- --profile profile.yaml --stages 2`.
    #[arg(last = true, value_name = "OPTION")]
    pub(crate) more: Vec<String>,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "give a share from 0 to less than 1, such as 0.001".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (1e-3..=1e9).contains(seconds));
    seconds.ok_or_else(|| "give seconds from 0.001 to 1e9".to_owned())
}
