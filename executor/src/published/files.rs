//! The safetensors files of a folder: which tensor stands where. Nothing is believed before it is checked against the
//! sizes of the files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ir::error::shown;
use serde::Deserialize;
use serde_json::Value;

use super::numbers::Stored;
use super::{INDEX, PublishedError, WEIGHTS};

/// Bytes that say how long the header is.
const LENGTH_BYTES: u64 = 8;
/// A longer header is not read; that of a model of a thousand layers takes a few megabytes.
const HEADER_MAX: u64 = 100 << 20;

/// Where a tensor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which file.
    pub(super) path: PathBuf,
    pub(super) stored: Stored,
    pub(super) shape: Vec<u64>,
    /// Its first byte, in the file.
    pub(super) offset: u64,
}

/// A tensor in a header.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// All tensors of a folder by name.
pub(super) fn tensors(folder: &Path) -> Result<BTreeMap<String, Place>, PublishedError> {
    let single = folder.join(WEIGHTS);
    if single.exists() {
        return header(&single);
    }
    let index = folder.join(INDEX);
    if !index.exists() {
        let is_older = folder.join("pytorch_model.bin").exists();
        let more = if is_older { ": pytorch_model.bin cannot be read here" } else { "" };
        return Err(PublishedError::wrong(folder, format!("there is no {WEIGHTS} and no {INDEX}{more}")));
    }
    let named = named(&index)?;
    let mut all: BTreeMap<String, Place> = BTreeMap::new();
    let mut files: Vec<&String> = named.values().collect();
    files.sort_unstable();
    files.dedup();
    for file in files {
        let path = folder.join(file);
        if !path.exists() {
            let words = format!("`{}` is not there, but {INDEX} names it", shown(file));
            return Err(PublishedError::wrong(folder, words));
        }
        for (name, place) in header(&path)? {
            if named.get(&name) != Some(file) {
                let words = format!("{INDEX} does not say that `{}` is in it", shown(&name));
                return Err(PublishedError::wrong(&path, words));
            }
            all.insert(name, place);
        }
    }
    match named.iter().find(|(name, _)| !all.contains_key(*name)) {
        Some((name, file)) => {
            let words = format!("there is no `{}`, but {INDEX} says so", shown(name));
            Err(PublishedError::wrong(&folder.join(file), words))
        }
        None => Ok(all),
    }
}

/// The file of each tensor, as the index says.
fn named(index: &Path) -> Result<BTreeMap<String, String>, PublishedError> {
    let wrong = |words: String| PublishedError::wrong(index, words);
    let mut text = String::new();
    let file = File::open(index).map_err(|error| PublishedError::file(index, error))?;
    file.take(HEADER_MAX).read_to_string(&mut text).map_err(|error| PublishedError::file(index, error))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| wrong(format!("no JSON: {error}")))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| wrong("there is no `weight_map`".to_owned()))?;
    let mut named = BTreeMap::new();
    for (name, file) in map {
        let file = file.as_str().filter(|file| Path::new(file).file_name().is_some_and(|name| name == *file));
        let file = file.ok_or_else(|| wrong(format!("`{}` is in no file of this folder", shown(name))))?;
        named.insert(name.clone(), file.to_owned());
    }
    Ok(named)
}

/// All tensors of a file by name.
fn header(path: &Path) -> Result<BTreeMap<String, Place>, PublishedError> {
    let wrong = |words: String| PublishedError::wrong(path, words);
    let mut file = File::open(path).map_err(|error| PublishedError::file(path, error))?;
    let bytes = file.metadata().map_err(|error| PublishedError::file(path, error))?.len();
    let few = || wrong(format!("no safetensors: {bytes} bytes are fewer than its header has"));
    if bytes < LENGTH_BYTES {
        return Err(few());
    }
    let unread = |error| PublishedError::file(path, error);
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length).map_err(unread)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_MAX {
        return Err(wrong(format!("no safetensors: a header of {length} bytes is too long")));
    }
    if length > bytes - LENGTH_BYTES {
        return Err(few());
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).map_err(unread)?;
    let entries: BTreeMap<String, Value> =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("no safetensors: its header: {error}")))?;
    let start = LENGTH_BYTES + length;
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries.into_iter().filter(|(name, _)| name != "__metadata__") {
        let entry: Entry = serde_json::from_value(entry)
            .map_err(|error| wrong(format!("no safetensors: `{}` in its header: {error}", shown(&name))))?;
        let place = place(path, entry, start, bytes).map_err(|words| wrong(format!("`{}`: {words}", shown(&name))))?;
        tensors.insert(name, place);
    }
    Ok(tensors)
}

fn place(path: &Path, entry: Entry, start: u64, bytes: u64) -> Result<Place, String> {
    let Entry { dtype, shape, data_offsets: [first, end] } = entry;
    let Some(stored) = Stored::of(&dtype) else {
        return Err(format!("stored as {}, which cannot be read here: F32, BF16 and F16 can", shown(&dtype)));
    };
    let size = shape.iter().try_fold(stored.bytes(), |product, &size| product.checked_mul(size));
    if end.checked_sub(first) != size {
        return Err(format!("{first}..{end} are not the bytes of {shape:?} in {dtype}"));
    }
    if start.checked_add(end).is_none_or(|end| end > bytes) {
        return Err(format!("it ends behind the file, which has {bytes} bytes; is it whole?"));
    }
    Ok(Place { path: path.to_owned(), stored, shape, offset: start + first })
}

/// A tensor that is being read.
pub(super) struct Opened {
    file: File,
    place: Place,
    bytes: Vec<u8>,
}

impl Opened {
    pub(super) fn new(place: &Place) -> Result<Opened, PublishedError> {
        let file = File::open(&place.path).map_err(|error| PublishedError::file(&place.path, error))?;
        Ok(Opened { file, place: place.clone(), bytes: Vec::new() })
    }

    /// Adds elements from this one on to `values`.
    pub(super) fn read(&mut self, first: u64, count: u64, values: &mut Vec<f32>) -> Result<(), PublishedError> {
        let Opened { file, place, bytes } = self;
        let word = place.stored.bytes();
        bytes.resize((count * word) as usize, 0);
        file.seek(SeekFrom::Start(place.offset + first * word))
            .and_then(|_| file.read_exact(bytes))
            .map_err(|error| PublishedError::file(&place.path, error))?;
        place.stored.read(bytes, values);
        Ok(())
    }
}
