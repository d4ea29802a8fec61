//! What the command line says.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use clap_complete::Shell;

const EXAMPLES: &str = "\
EXAMPLES
  Train 200 steps on the shipped text, and write a report:
    hetu-exec plan.yaml --text examples/text/austen.txt --report out
  Save every 50 steps, and go on later, under the same plan or another one of the model:
    hetu-exec plan.yaml --text examples/text/austen.txt --checkpoint run --save-every 50
    hetu-exec plan.yaml --text examples/text/austen.txt --checkpoint run --resume
  Losses for a program:
    hetu-exec plan.yaml --text examples/text/austen.txt --json | jq -c '[.step, .loss]'

RECIPE (keys of `training` in the model file)
  learning_rate, warmup_steps
    The rate rises in n equal parts, from 1/n of the largest in step 1 to all of it in step n, then
    falls along half a cosine to a tenth at the last step of --steps.
  weight_decay
    Decoupled; of matrices, embeddings and positions, not of norms and biases.
  betas, epsilon
    AdamW with bias correction; epsilon is added to the root of the second moment.
  gradient_norm_max
    A gradient of a larger norm, over all parameters, is scaled to it.
  Initial matrices and tables are normal with a deviation of 0.02, those that write into the
  residual stream of 0.02/sqrt(2 blocks); norms are 1, biases 0. The loss is the mean over the
  tokens of a step.

EXIT STATUS
  0 done, 1 the run failed, 2 wrong use or files, 130 interrupted by Ctrl-C, 141 nobody reads the output";

/// Trains under a plan on CPU ranks or GPUs, and reports predicted beside measured.
///
/// Prints a line a step, and at the end a table of what was predicted and what was measured. The step time is that of
/// steps that are not traced; traced steps say where it goes.
#[derive(Parser)]
#[command(name = "hetu-exec", version, after_help = EXAMPLES)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Options {
    /// The plan: what `hetu-plan` wrote, or a person
    #[arg(value_name = "PLAN", required_unless_present = "completions")]
    pub(crate) plan: Option<PathBuf>,
    /// Steps of the whole training; the learning rate falls until then
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: u64,
    /// The text to train on, in UTF-8
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// `bytes`, or a tokenizer.json
    #[arg(long, value_name = "bytes|FILE", default_value = "bytes")]
    pub(crate) tokenizer: PathBuf,
    /// Decides initial parameters and the order of the text, whatever the plan
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write report.html, pictures, trace.json and results.json there
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Steps between losses of the held-out text; 0 for none
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) evaluate_every: u64,
    /// Windows of the held-out text of which each such loss is the mean, the same random ones each time [default: as
    /// many as 8 batches have]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) evaluate_windows: Option<u64>,
    /// Share of the text, from its end, that is not trained on; 0 for none
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    pub(crate) held_out: f64,
    /// Steps between traced ones, which say what ran when; 0 for none
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) trace_every: u64,
    /// Save parameters and moments there: at the end, on Ctrl-C, and every so many steps
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Steps between checkpoints, of which the last two are kept; 0 for one at the end
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) save_every: u64,
    /// Go on from the last checkpoint in the folder of --checkpoint
    #[arg(long, requires = "checkpoint")]
    pub(crate) resume: bool,
    /// Who runs the ranks [default: cuda if the plan's cluster has GPUs, else threads]
    #[arg(long, value_name = "NAME", value_enum)]
    pub(crate) backend: Option<BackendName>,
    /// On GPUs, issue every step anew instead of replaying a recorded one
    #[arg(long)]
    pub(crate) no_graph: bool,
    /// Run a plan whose prediction is of other programs
    #[arg(long)]
    pub(crate) ignore_prediction: bool,
    /// Print one JSON object a line, in seconds and bytes
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the summary only
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Print completions for a shell
    #[arg(long, value_name = "SHELL", value_enum, exclusive = true)]
    pub(crate) completions: Option<Shell>,
}

/// Who runs the ranks.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum BackendName {
    /// A thread a rank, in real time
    Threads,
    /// A GPU of this machine for each rank
    Cuda,
    /// All ranks in one thread, in a random order that the programs allow; freed memory is poisoned
    Shuffle,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "give a number from 0 to below 1, such as 0.05".to_owned())
}
