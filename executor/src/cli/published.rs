//! Published weights: where a training begins from them, and where a checkpoint becomes some.

use std::io::Write;

use hetu_executor::{CheckpointError, PublishedError, Stored, Weights};

use super::checkpoints;
use super::failure::{Failure, Outcome};
use super::inputs::Inputs;
use super::words::counted;
use crate::options::{ExportOptions, Options, Resume, StoredName};

/// The weights of `--from`, checked to be of the plan's model.
pub(crate) fn open(options: &Options, inputs: &Inputs) -> Outcome<Option<Weights>> {
    let Some(folder) = &options.from else { return Ok(None) };
    if options.resume == Some(Resume::Last) {
        return Err(Failure::wrong_use("--from begins a training, but --resume goes on with one")
            .help("leave one of them out; with --resume auto, --from counts where there is no checkpoint"));
    }
    Weights::open(folder, &inputs.model).map(Some).map_err(failure)
}

/// `hetu-exec export`.
pub(crate) fn export(options: &ExportOptions) -> Outcome<()> {
    let stored = match options.dtype {
        StoredName::F32 => Stored::F32,
        StoredName::Bf16 => Stored::Bf16,
    };
    let exported = hetu_executor::export(&options.checkpoint, &options.to, stored).map_err(failure)?;
    let words = format!(
        "Wrote {}: {}, {} parameters in {}, of {} after {}\n",
        options.to.display(),
        counted(exported.tensors as u64, "tensor"),
        exported.parameters,
        match options.dtype {
            StoredName::F32 => "f32",
            StoredName::Bf16 => "bf16",
        },
        exported.checkpoint.display(),
        counted(exported.step, "step"),
    );
    // What was written is there, whoever listens.
    let _ = std::io::stdout().write_all(words.as_bytes());
    Ok(())
}

/// As the tool says it.
pub(crate) fn failure(error: PublishedError) -> Failure {
    match error {
        PublishedError::Checkpoint(error @ (CheckpointError::Damaged { .. } | CheckpointError::Model { .. })) => {
            Failure::wrong_use(error).help("export another checkpoint")
        }
        PublishedError::Checkpoint(error) => checkpoints::failure(error),
        PublishedError::Config(mistakes) => mistakes.into(),
        PublishedError::File { .. } | PublishedError::Wrong { .. } => Failure::wrong_use(error),
    }
}
