//! What the command line says.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::cli::NAMES;

const EXAMPLES: &str = "\
EXAMPLES
  Train 200 steps on the shipped text, and write a report:
    hetu-exec plan.yaml --text examples/text/austen.txt --report out
  Save every 50 steps, and go on later, under the same plan or another one of the model:
    hetu-exec plan.yaml --text examples/text/austen.txt --checkpoint run --save-every 50
    hetu-exec plan.yaml --text examples/text/austen.txt --checkpoint run --resume
  Start again after failures, at most 5 times, as long as steps are gained:
    hetu-exec plan.yaml --text examples/text/austen.txt --checkpoint kept --supervise 5
  Under another supervisor, which starts the same command again and again:
    hetu-exec plan.yaml --text examples/text/austen.txt --checkpoint jobs --save-every 10min --resume auto
  Begin with the weights of a Hugging Face folder, and write a checkpoint as such a folder:
    hetu-plan examples/published/tiny-llama -o tuned/plan.yaml
    hetu-exec tuned/plan.yaml --text examples/text/austen.txt --from examples/published/tiny-llama
    hetu-exec export run --to exported
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
  0 done; 1 the run failed, or its output or last checkpoint could not be written; 2 wrong use or files;
  3 --supervise gave up.
  Signals end a training as Ctrl-C does, with a checkpoint: 130 Ctrl-C (SIGINT), 143 SIGTERM, 129 SIGHUP,
  138 SIGUSR1; a second one ends it at once. 141 nobody reads the output";

/// The option that asks for a child process, which must not ask for another one.
pub(crate) const SUPERVISE: &str = "--supervise";

/// Trains under a plan on CPU ranks or GPUs, and reports predicted beside measured.
///
/// Prints a line a step, and at the end a table of what was predicted and what was measured. The step time is that of
/// steps that are not traced; traced steps say where it goes.
#[derive(Parser)]
#[command(name = "hetu-exec", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Options {
    /// What to do instead of training
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
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
    /// Begin with the weights of a Hugging Face folder, config.json and safetensors, instead of random ones
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
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
    /// Save parameters and moments there: at the end, on signals such as Ctrl-C, and every so often
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Steps or time between checkpoints, such as `100` or `10min`; 0 for one at the end. The last two are kept, so
    /// there must be room for three
    #[arg(long, value_name = "N|TIME", default_value = "100", value_parser = every)]
    pub(crate) save_every: Every,
    /// Whether the training waits while a checkpoint is written
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Save::Waiting, requires = "checkpoint")]
    pub(crate) save: Save,
    /// Go on from the last good checkpoint in the folder of --checkpoint; with `auto`, begin if there is none
    #[arg(long, value_name = "auto", requires = "checkpoint", num_args = 0..=1, default_missing_value = "last")]
    pub(crate) resume: Option<Resume>,
    /// Train in a child process, and start it again from the last checkpoint when it fails: at most N times, and not if
    /// no step was saved since the failure before
    #[arg(long, value_name = "N", requires = "checkpoint")]
    pub(crate) supervise: Option<u32>,
    /// What may differ from the training that is resumed, separated by commas
    #[arg(long, value_name = "NAMES", requires = "resume", value_delimiter = ',', value_parser = NAMES)]
    pub(crate) allow: Vec<String>,
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

/// Everything but training.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write the parameters of a checkpoint as a Hugging Face folder: config.json and model.safetensors
    ///
    /// `transformers` loads it. Tokenizer files are not written: copy those that the model was trained with.
    Export(ExportOptions),
}

/// What to write, and where.
#[derive(Args)]
pub(crate) struct ExportOptions {
    /// A checkpoint, or the folder of --checkpoint: then its last one
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// A folder that is not there yet
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// How numbers are stored
    #[arg(long, value_name = "NAME", value_enum, default_value_t = StoredName::F32)]
    pub(crate) dtype: StoredName,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoredName {
    /// In 32 bits, as they are
    F32,
    /// In 16 bits, rounded
    Bf16,
}

/// How often something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Every {
    /// After so many steps; never, if they are none.
    Steps(u64),
    /// After the step that ends so much later or more.
    Time(Duration),
}

impl Display for Every {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Every::Steps(steps) => write!(f, "{steps}"),
            Every::Time(time) => write!(f, "{}s", time.as_secs()),
        }
    }
}

/// How a checkpoint is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Save {
    /// Between two steps: takes no memory
    Waiting,
    /// Beside the steps that follow, from a copy in memory; where there is no room for one, as `waiting`
    Background,
}

/// How a training goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resume {
    /// From the last checkpoint, which must be there
    #[value(hide = true)]
    Last,
    /// From the last checkpoint, or from the beginning
    Auto,
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

fn every(text: &str) -> Result<Every, String> {
    if let Ok(steps) = text.parse() {
        return Ok(Every::Steps(steps));
    }
    let units = [("s", 1), ("min", 60), ("h", 3600)];
    let time = units.into_iter().find_map(|(unit, seconds)| {
        let count: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        count.checked_mul(seconds).filter(|&seconds| seconds > 0)
    });
    let time = time.map(|seconds| Every::Time(Duration::from_secs(seconds)));
    time.ok_or_else(|| "give steps, such as 100, or a time, such as 90s, 10min or 2h".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "give a number from 0 to below 1, such as 0.05".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saves_are_so_many_steps_or_so_much_time_apart() {
        assert_eq!(every("0"), Ok(Every::Steps(0)));
        assert_eq!(
            ["90s", "10min", "2 h"].map(every),
            [90, 600, 7200].map(|s| Ok(Every::Time(Duration::from_secs(s))))
        );
        for wrong in ["", "min", "-1", "0s", "10 years", "9999999999999999999h", "é"] {
            assert!(every(wrong).is_err(), "{wrong}");
        }
    }
}
