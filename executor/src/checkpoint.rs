//! Checkpoints: all parameters and moments by layer and name, whole, so that any plan can resume another's.
//!
//! A file is in the safetensors format: `3/attention in matrix` is a parameter of layer 3, and behind another `/`
//! stand its moments. All are in 32 bits, whatever the plan computes in. The number of steps done is in the metadata.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ir::program::Draft;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use thiserror::Error;

use crate::host::Host;
use crate::parameters::{self, Copies, Mismatch, Quantity, Whole, Wholes};

const FORMAT: &str = "1";

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file could not be written or read.
    #[error("{}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is not a checkpoint of this program.
    #[error("{}: {words}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        words: String,
    },
    /// The file is of another model.
    #[error("{}: no tensor `{name}` of the model's shape; is it a checkpoint of another model?", .path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// The tensor that is missing or of another shape.
        name: String,
    },
}

/// Writes all parameters and moments, and the number of steps done.
pub(crate) fn save(draft: &Draft, host: &dyn Host, steps: u64, path: &Path) -> Result<(), CheckpointError> {
    let mut tensors = Vec::new();
    for quantity in Quantity::ALL {
        for ((layer, name), Whole { shape, values }) in parameters::gather(draft, host, quantity) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
            tensors.push((tensor_name(layer, &name, quantity), shape, bytes));
        }
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor has the bytes of its shape");
        (name, view)
    });
    let metadata = [("format".to_owned(), FORMAT.to_owned()), ("steps".to_owned(), steps.to_string())];
    let partial = path.with_extension("partial");
    let file_error = |error| CheckpointError::File { path: path.to_owned(), error };
    safetensors::serialize_to_file(views, Some(metadata.into()), &partial).map_err(|error| {
        if let SafeTensorError::IoError(error) = error {
            file_error(error)
        } else {
            format_error(path, &error.to_string())
        }
    })?;
    // The name must not appear before the bytes are safe.
    File::open(&partial).and_then(|file| file.sync_all()).map_err(file_error)?;
    fs::rename(&partial, path).map_err(file_error)
}

/// Gives every rank its parts of a checkpoint. Returns the number of steps done.
pub(crate) fn load(draft: &Draft, host: &mut dyn Host, path: &Path) -> Result<u64, CheckpointError> {
    let bytes = fs::read(path).map_err(|error| CheckpointError::File { path: path.to_owned(), error })?;
    let wrong = |error: SafeTensorError| format_error(path, &error.to_string());
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(wrong)?;
    let metadata: BTreeMap<&str, &str> =
        header.metadata().iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    if metadata.get("format") != Some(&FORMAT) {
        return Err(format_error(path, &format!("not a checkpoint of format {FORMAT}")));
    }
    let steps = metadata.get("steps").and_then(|steps| steps.parse().ok());
    let steps = steps.ok_or_else(|| format_error(path, "the number of steps is missing"))?;
    let file = SafeTensors::deserialize(&bytes).map_err(wrong)?;
    for quantity in Quantity::ALL {
        let mut wholes = Wholes::new();
        parameters::visit(draft, host.ranks(), (quantity, Copies::Exact), &mut |piece| {
            let key = (piece.layer, piece.parameter.name.clone());
            if wholes.contains_key(&key) {
                return;
            }
            if let Some(whole) = file.tensor(&tensor_name(key.0, &key.1, quantity)).ok().and_then(whole) {
                wholes.insert(key, whole);
            }
        });
        parameters::scatter(draft, host, quantity, &wholes).map_err(|Mismatch { layer, name }| {
            CheckpointError::Model { path: path.to_owned(), name: tensor_name(layer, &name, quantity) }
        })?;
    }
    Ok(steps)
}

fn whole(tensor: TensorView<'_>) -> Option<Whole> {
    if tensor.dtype() != Dtype::F32 {
        return None;
    }
    let (words, _) = tensor.data().as_chunks::<4>();
    let values = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
    Some(Whole { shape: tensor.shape().iter().map(|&size| size as u64).collect(), values })
}

fn tensor_name(layer: u32, name: &str, quantity: Quantity) -> String {
    match quantity {
        Quantity::Value => format!("{layer}/{name}"),
        Quantity::FirstMoment => format!("{layer}/{name}/first moment"),
        Quantity::SecondMoment => format!("{layer}/{name}/second moment"),
    }
}

fn format_error(path: &Path, words: &str) -> CheckpointError {
    CheckpointError::Format { path: path.to_owned(), words: words.to_owned() }
}
