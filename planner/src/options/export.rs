//! What is exported, and whose memory is asked.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// A plan to export.
#[derive(Args)]
pub(crate) struct ExportOptions {
    /// The plan.
    #[arg(value_name = "PLAN.YAML")]
    pub(crate) plan: PathBuf,
    /// The trainer.
    #[arg(long, value_enum)]
    pub(crate) to: Trainer,
    /// Write files into this folder; else one script that makes them is printed.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Steps of the training, over which the learning rate falls [default: those of the warm-up and 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: Option<u64>,
}

/// Trainers, by how they are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Trainer {
    /// Megatron-LM: arguments
    #[value(name = "megatron")]
    Arguments,
    /// torchtitan: a TOML file
    #[value(name = "torchtitan")]
    Toml,
    /// DeepSpeed: a JSON file
    #[value(name = "deepspeed")]
    Json,
    /// transformers and accelerate: a JSON and a YAML file
    #[value(name = "huggingface")]
    Accelerate,
}

/// A model whose memory is asked.
#[derive(Args)]
pub(crate) struct MemoryOptions {
    /// The model: a file, or the name of a shipped one.
    #[arg(value_name = "MODEL.YAML|NAME")]
    pub(crate) model: PathBuf,
    /// Numbers of devices that share the batch [default: powers of two up to 8, or up to all of the cluster]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) devices: Vec<u32>,
    /// Devices to fit into: a cluster file, or a shipped description; else the least shipped device is named.
    #[arg(long, value_name = "FILE|PRESET")]
    pub(crate) cluster: Option<String>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}
