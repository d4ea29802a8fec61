//! The manifest of a checkpoint: of what training it is, and which elements of which tensor stand where.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ir::region::Stretch;
use serde::{Deserialize, Serialize};

use super::CheckpointError;
use super::identity::Noted;
use crate::parameters::Quantity;

/// Its name in the folder.
pub(crate) const MANIFEST: &str = "manifest.json";
const FORMAT: u32 = 1;
/// A larger one is not read; each piece takes some hundred bytes.
const BYTES_MAX: u64 = 1 << 30;

/// What is saved, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Steps done.
    pub(crate) step: u64,
    /// Of the training.
    pub(crate) facts: Vec<Noted>,
    /// The file of each process.
    pub(crate) files: Vec<PiecesFile>,
}

/// What one process wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PiecesFile {
    /// Its size.
    pub(crate) bytes: u64,
    pub(crate) pieces: Vec<Piece>,
}

/// Elements of a tensor that stand together in a file, in 32 bits each, little end first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Piece {
    pub(crate) layer: u32,
    pub(crate) parameter: String,
    pub(crate) quantity: Quantity,
    pub(crate) stretch: Stretch,
    /// From the start of the file, in bytes.
    pub(crate) offset: u64,
    /// CRC-32 (ISO 3309) of its bytes.
    pub(crate) checksum: u32,
}

/// The file: the manifest with its own checksum, so that no damage goes unseen.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    format: u32,
    checksum: u32,
    manifest: Manifest,
}

/// The name of a process's file of pieces.
pub(crate) fn pieces_name(process: usize) -> String {
    format!("pieces-{process:05}.safetensors")
}

impl Manifest {
    /// As a file.
    pub(crate) fn print(&self) -> String {
        let sealed = Sealed { format: FORMAT, checksum: self.checksum(), manifest: self.clone() };
        serde_json::to_string(&sealed).expect("words and numbers have a JSON form") + "\n"
    }

    /// Whether a folder has one.
    pub(crate) fn is_at(folder: &Path) -> bool {
        folder.join(MANIFEST).exists()
    }

    /// Of a checkpoint's folder.
    pub(crate) fn read(folder: &Path) -> Result<Manifest, CheckpointError> {
        let path = folder.join(MANIFEST);
        let file_error = |error| CheckpointError::file(&path, error);
        let mut text = String::new();
        let file = File::open(&path).map_err(file_error)?;
        file.take(BYTES_MAX).read_to_string(&mut text).map_err(file_error)?;
        Manifest::parse(&text).map_err(|words| CheckpointError::damaged(&path, words))
    }

    /// From the text of a file.
    fn parse(text: &str) -> Result<Manifest, String> {
        let sealed: Sealed = serde_json::from_str(text).map_err(|error| format!("damaged: {error}"))?;
        if sealed.format != FORMAT {
            return Err(format!("format {} is not known here", sealed.format));
        }
        if sealed.checksum != sealed.manifest.checksum() {
            return Err("damaged: its checksum is another".to_owned());
        }
        let mut pieces =
            sealed.manifest.files.iter().flat_map(|file| file.pieces.iter().map(move |piece| (file, piece)));
        let is_wrong = |(file, piece): &(&PiecesFile, &Piece)| {
            let end = piece.bytes().checked_add(piece.offset);
            !piece.stretch.is_sound() || end.is_none_or(|end| end > file.bytes)
        };
        match pieces.find(is_wrong) {
            Some((_, piece)) => Err(format!("damaged: `{}` is out of bounds", piece.tensor())),
            None => Ok(sealed.manifest),
        }
    }

    fn checksum(&self) -> u32 {
        crc32fast::hash(&serde_json::to_vec(self).expect("words and numbers have a JSON form"))
    }
}

impl Piece {
    /// How many bytes it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.stretch.length.saturating_mul(size_of::<f32>() as u64)
    }

    /// The name of its tensor.
    pub(crate) fn tensor(&self) -> String {
        tensor_name((self.layer, &self.parameter), self.quantity)
    }
}

/// `3/attention in matrix`, and behind another `/` its moments.
pub(crate) fn tensor_name((layer, name): (u32, &str), quantity: Quantity) -> String {
    match quantity {
        Quantity::Value => format!("{layer}/{name}"),
        Quantity::FirstMoment => format!("{layer}/{name}/first moment"),
        Quantity::SecondMoment => format!("{layer}/{name}/second moment"),
    }
}

#[cfg(test)]
mod tests {
    use ir::region::{Region, Side};

    use super::*;

    fn manifest() -> Manifest {
        let region = Region { sides: vec![Side { size: 4, start: 2, length: 2 }] };
        let piece = Piece {
            layer: 3,
            parameter: "w".to_owned(),
            quantity: Quantity::FirstMoment,
            stretch: Stretch::all(region),
            offset: 24,
            checksum: 7,
        };
        let facts = vec![Noted { name: "hidden".to_owned(), value: "8".to_owned() }];
        Manifest { step: 5, facts, files: vec![PiecesFile { bytes: 32, pieces: vec![piece] }] }
    }

    #[test]
    fn a_manifest_is_read_back() {
        assert_eq!(Manifest::parse(&manifest().print()), Ok(manifest()));
        assert!(manifest().print().starts_with("{\"format\":1,"));
    }

    #[test]
    fn no_damage_goes_unseen() {
        let text = manifest().print();
        for index in 0..text.trim_end().len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[index] ^= 1 << bit;
                let text = String::from_utf8(bytes).expect("seven bits are UTF-8");
                if let Ok(found) = Manifest::parse(&text) {
                    assert_eq!(found, manifest(), "{text}");
                }
            }
            assert!(Manifest::parse(&text[..index]).is_err());
        }
        let mut small = manifest();
        small.files[0].bytes = 31;
        assert_eq!(Manifest::parse(&small.print()), Err("damaged: `3/w/first moment` is out of bounds".to_owned()));
    }
}
