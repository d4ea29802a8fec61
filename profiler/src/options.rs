//! The command line of `hetu-profile`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

const EXAMPLES: &str = "\
EXAMPLES
  hetu-profile cluster
      measures a general catalogue and writes profile.yaml
  hetu-profile cluster --model tiny-llama --ranks 4 --cluster-out cluster.yaml
      measures just what plans of this model on 4 ranks are made of, and describes the machine
  hetu-profile cluster --model tiny-llama --only matmul --again
      measures its products again
  hetu-profile cluster --model llama-1b --devices cuda --ranks 2 --cluster-out cluster.yaml
      on two GPUs, in the precision of the model and under load as in a long training

A second call measures only what the file lacks. Ctrl-C keeps what was measured.
Exit status: 0 done, 1 measuring failed, 2 wrong use or files, 130 stopped by Ctrl-C.";

/// Measures what work takes on this machine, for plans that can be trusted.
#[derive(Debug, Parser)]
#[command(name = "hetu-profile", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Prints a completion script for a shell, and ends
    #[arg(long, value_name = "SHELL")]
    pub(crate) completions: Option<Shell>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Times kernels, exchanges and transfers on the GPUs or CPU ranks of this machine
    #[command(after_help = EXAMPLES)]
    Cluster(ClusterOptions),
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct ClusterOptions {
    /// Where the profile is kept; what it has already is not measured again
    #[arg(short, long, value_name = "FILE", default_value = "profile.yaml")]
    pub(crate) output: PathBuf,
    /// Measures what plans of this model are made of, instead of a general catalogue: a file, a shipped model by name,
    /// or a Hugging Face folder or its config.json
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) model: Option<PathBuf>,
    /// What runs the ranks [default: cuda if the driver is there and serves a GPU, else cpu]
    #[arg(long, value_name = "NAME", value_enum)]
    pub(crate) devices: Option<Devices>,
    /// How many ranks: GPUs, or what shares the cores [default: all GPUs; one a core, at least 4]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) ranks: Option<u32>,
    /// Also writes this machine as a cluster, with the rates that were measured
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_out: Option<PathBuf>,
    /// Time for all measurements [default: 90, or 150 on GPUs, or 20 with --quick]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) budget: Option<f64>,
    /// A first impression: fewer repetitions, less time
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measures everything again, also what the file has
    #[arg(long)]
    pub(crate) again: bool,
    /// Measures only work whose name contains this text, such as `matmul` or `all-reduce`
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Prints the profile as JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// What runs ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Devices {
    /// A GPU each
    Cuda,
    /// Threads that share the cores
    Cpu,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => Ok(seconds),
        Ok(_) | Err(_) => Err("a number of seconds above 0, such as 90".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
