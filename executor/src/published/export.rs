//! A checkpoint as a published folder: config.json and model.safetensors, which `transformers` loads.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ir::file::{parse_model, print_config};
use ir::model::Model;
use serde_json::{Map, Value, json};

use super::names::{self, Packing, Parameter, Scope, Source};
use super::numbers::Stored;
use super::{CONFIG, PublishedError, WEIGHTS};
use crate::checkpoint::{CheckpointError, Folder, Manifest, read_whole};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Steps that were trained.
    pub step: u64,
    /// Tensors of the file.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: u64,
}

/// Writes the parameters of a checkpoint, or of the last one in a folder of checkpoints, into the new folder `to`. It
/// has its name when all is on the disk. Takes memory for the largest parameter twice.
///
/// # Errors
/// There is no such checkpoint, it is damaged, its model has no published form, or `to` is there already or cannot be
/// written.
pub fn export(checkpoint: &Path, to: &Path, stored: Stored) -> Result<Exported, PublishedError> {
    if to.exists() {
        return Err(PublishedError::wrong(to, "it is there already, and is not overwritten"));
    }
    let from = found(checkpoint)?;
    let manifest = Manifest::read(&from)?;
    let model = model(&from, &manifest)?;
    let config = print_config(&model, stored.config_word()).map_err(|words| PublishedError::wrong(&from, words))?;
    let parameters = names::parameters(&model, Packing::Apart);
    let sources: Vec<&Source> = parameters.iter().flat_map(|parameter| &parameter.sources).collect();
    let whole =
        to.file_name().and(to.parent()).ok_or_else(|| PublishedError::wrong(to, "it is no name of a folder"))?;
    let parent = if whole.as_os_str().is_empty() { Path::new(".") } else { whole };
    let file_error = |error| PublishedError::file(to, error);
    fs::create_dir_all(parent).map_err(file_error)?;
    let partial = place(parent).map_err(file_error)?;
    write_config(&partial.path().join(CONFIG), &config).map_err(file_error)?;
    write_weights(
        &partial.path().join(WEIGHTS),
        (&from, &manifest),
        (&parameters, names::prefix(model.family)),
        stored,
    )?;
    let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
    let named = sync(partial.path()).and_then(|()| fs::rename(partial.path(), to)).and_then(|()| sync(parent));
    named.map_err(file_error)?;
    let parameters = sources.iter().map(|source| source.shape.iter().product::<u64>()).sum();
    Ok(Exported { checkpoint: from, step: manifest.step, tensors: sources.len(), parameters })
}

/// A checkpoint, by its own folder or by that of all of its training.
fn found(path: &Path) -> Result<PathBuf, PublishedError> {
    if Manifest::is_at(path) {
        return Ok(path.to_owned());
    }
    let last = Folder::last_path(path);
    last.ok_or_else(|| PublishedError::wrong(path, "there is no checkpoint"))
}

/// The model that a checkpoint is of: its facts have the names of keys of a model file.
fn model(from: &Path, manifest: &Manifest) -> Result<Model, PublishedError> {
    const KEYS: [&str; 14] = [
        "family",
        "layers",
        "hidden",
        "heads",
        "key_value_heads",
        "head_size",
        "attention_bias",
        "feed_forward",
        "vocabulary",
        "sequence",
        "embeddings",
        "rotary_base",
        "rotary_scaling",
        "norm_epsilon",
    ];
    let lines = manifest.facts.iter().filter(|fact| KEYS.contains(&fact.name.as_str()));
    let lines: String = lines.map(|fact| format!("{}: {}\n", fact.name, fact.value)).collect();
    let text = format!("format: 1\nname: exported\n{lines}training: {{ batch: 1 }}\n");
    parse_model(&text, &from.display().to_string()).map_err(|mistakes| {
        let words = mistakes.0.iter().map(|mistake| mistake.what.clone()).collect::<Vec<_>>().join("; ");
        PublishedError::wrong(from, format!("its manifest describes no model: {words}"))
    })
}

/// A folder beside the one that shall be, of a name that nobody has; it is gone unless it is given that name.
fn place(parent: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    // As any folder of the user, not for the user alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.prefix(".hetu-exec-").tempdir_in(parent)
}

fn write_config(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn write_weights(
    path: &Path,
    (from, manifest): (&Path, &Manifest),
    (parameters, prefix): (&[Parameter], &str),
    stored: Stored,
) -> Result<(), PublishedError> {
    let file_error = |error| PublishedError::file(path, error);
    let mut file = BufWriter::new(File::create_new(path).map_err(file_error)?);
    file.write_all(&header(parameters, prefix, stored)).map_err(file_error)?;
    for parameter in parameters {
        let mut values = vec![0.0; parameter.shape.iter().product::<u64>() as usize];
        read_whole(from, manifest, ((parameter.layer, parameter.name), &parameter.shape), &mut values)?;
        for source in &parameter.sources {
            let published = published(source, &parameter.shape, &values);
            file.write_all(&stored.write(&published)).map_err(file_error)?;
        }
    }
    file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all()).map_err(file_error)
}

/// A published tensor, of the values of its parameter.
fn published(source: &Source, shape: &[u64], values: &[f32]) -> Vec<f32> {
    let mut published = vec![0.0; source.shape.iter().product::<u64>() as usize];
    for window in &source.windows {
        for run in window.stretch(shape).runs() {
            let own = &values[run.whole as usize..(run.whole + run.length) as usize];
            let places = window.rows(run.local..run.local + run.length).flat_map(super::window::Row::elements);
            places.zip(own).for_each(|(place, &value)| published[place as usize] = value);
        }
    }
    published
}

/// Names, shapes and places of all tensors, in their order.
fn header(parameters: &[Parameter], prefix: &str, stored: Stored) -> Vec<u8> {
    let mut entries = Map::new();
    // As its readers demand.
    entries.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut offset = 0;
    for source in parameters.iter().flat_map(|parameter| &parameter.sources) {
        let end = offset + source.shape.iter().product::<u64>() * stored.bytes();
        let name = match source.scope {
            Scope::Body => format!("{prefix}{}", source.name),
            Scope::Head => source.name.clone(),
        };
        let entry = json!({ "dtype": stored.word(), "shape": source.shape, "data_offsets": [offset, end] });
        entries.insert(name, entry);
        offset = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(size_of::<u64>()), b' ');
    [&(text.len() as u64).to_le_bytes(), text.as_slice()].concat()
}

impl From<CheckpointError> for PublishedError {
    fn from(error: CheckpointError) -> PublishedError {
        PublishedError::Checkpoint(error)
    }
}
