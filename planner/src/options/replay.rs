//! What runs are predicted, and how.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Runs to predict.
#[derive(Args)]
pub(crate) struct ReplayOptions {
    /// Tables of runs.
    #[arg(value_name = "RUNS.CSV", required = true)]
    pub(crate) runs: Vec<PathBuf>,
    /// Predict all rows as this software runs them: a file, or hetu, megatron-2021, megatron-2022, deepspeed-2021,
    /// mosaicml-2023 or torchtitan-2024 [default: what each row says].
    #[arg(long = "as", value_name = "SOFTWARE")]
    pub(crate) software: Option<String>,
    /// Write what was predicted beside what was measured, a line for each row; with --fit the description instead.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Fit the few numbers of the description that steps can say (rates and times of the host) to the rows, and predict
    /// with them; `--fit=left-out` fits to all sources but one, too, and says how far off that one then is.
    #[arg(long, value_enum, value_name = "TO", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub(crate) fit: Option<FitName>,
    /// Draw all rows as an SVG picture.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// To which sources a description is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitName {
    /// To all.
    All,
    /// To all, and to all but one, for each.
    LeftOut,
}
