//! A file of pieces: what the ranks of one process save, and how any ranks take it up.
//!
//! It is in the safetensors format, so that other programs can read it: a header that names each piece, then the
//! bytes. Bytes go through memory in chunks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use ir::program::Draft;
use ir::region::Stretch;
use serde_json::{Map, Value, json};

use super::CheckpointError;
use super::files::Files;
use super::manifest::{Manifest, Piece, PiecesFile, pieces_name, tensor_name};
use crate::host::Host;
use crate::moves::{self, Parts, Pouring, Tally};
use crate::parameters::{CHUNK, Part, Quantity, chunks};

const WORD: usize = size_of::<f32>();
/// The header's length stands before it, in so many bytes; it ends at a multiple of as many.
const LENGTH_BYTES: usize = 8;

/// What the ranks of this process stand for: each element of every quantity once over all processes.
struct Own<'a> {
    header: Vec<u8>,
    parts: Vec<(Quantity, Part<'a>)>,
}

impl<'a> Own<'a> {
    fn of(draft: &'a Draft, host: &dyn Host) -> Own<'a> {
        let among = 0..draft.mesh.rank_count();
        let of = |quantity| {
            let owned = moves::owned(draft, &host.ranks(), among.clone(), quantity);
            owned.into_iter().map(move |part| (quantity, part))
        };
        let parts: Vec<(Quantity, Part<'a>)> = Quantity::ALL.into_iter().flat_map(of).collect();
        Own { header: header(&parts), parts }
    }

    /// What describes the pieces; checksums are not yet known.
    fn pieces(&self) -> Vec<Piece> {
        let mut offset = self.header.len() as u64;
        let piece = |(quantity, part): &(Quantity, Part<'_>)| {
            let (layer, parameter, stretch) = (part.layer, part.parameter.name.clone(), part.stretch.clone());
            let piece = Piece { layer, parameter, quantity: *quantity, stretch, offset, checksum: 0 };
            offset += piece.bytes();
            piece
        };
        self.parts.iter().map(piece).collect()
    }
}

/// Writes what the ranks of this process stand for into a new file, and sees it on the disk.
pub(crate) fn write(draft: &Draft, host: &dyn Host, files: &dyn Files, path: &Path) -> io::Result<PiecesFile> {
    let own = Own::of(draft, host);
    let read = |index: usize, first, values: &mut [f32]| {
        let (_, part) = &own.parts[index];
        part.read(host, first, values);
    };
    write_all((&own.header, own.pieces()), read, files, path)
}

/// Bytes of a [`Copy`] of what the ranks of this process stand for.
pub(crate) fn copy_bytes(draft: &Draft, host: &dyn Host) -> u64 {
    Own::of(draft, host).pieces().iter().map(Piece::bytes).sum()
}

/// What the ranks of this process stood for at one moment.
#[derive(Debug)]
pub(crate) struct Copy {
    header: Vec<u8>,
    pieces: Vec<Piece>,
    values: Vec<Vec<f32>>,
}

impl Copy {
    /// As it is now.
    pub(crate) fn of(draft: &Draft, host: &dyn Host) -> Copy {
        let own = Own::of(draft, host);
        let copy = |(_, part): &(Quantity, Part<'_>)| {
            let mut values = vec![0.0; part.stretch.length as usize];
            for range in chunks(part.stretch.range()) {
                let [start, end] = [range.start, range.end].map(|index| (index - part.stretch.first) as usize);
                part.read(host, range.start, &mut values[start..end]);
            }
            values
        };
        let (pieces, values) = (own.pieces(), own.parts.iter().map(copy).collect());
        Copy { header: own.header, pieces, values }
    }

    /// Writes it into a new file, as [`write`] would have done.
    pub(crate) fn write(self, files: &dyn Files, path: &Path) -> io::Result<PiecesFile> {
        let Copy { header, pieces, values } = self;
        let firsts: Vec<u64> = pieces.iter().map(|piece| piece.stretch.first).collect();
        let read = |index: usize, first: u64, into: &mut [f32]| {
            let start = (first - firsts[index]) as usize;
            into.copy_from_slice(&values[index][start..start + into.len()]);
        };
        write_all((&header, pieces), read, files, path)
    }
}

/// Writes pieces, whose elements `read` gives by the piece's index, from one on; and sees the file on the disk.
fn write_all(
    (header, mut pieces): (&[u8], Vec<Piece>),
    read: impl Fn(usize, u64, &mut [f32]),
    files: &dyn Files,
    path: &Path,
) -> io::Result<PiecesFile> {
    let mut file = files.make_file(path)?;
    file.write_all(header)?;
    for (index, piece) in pieces.iter_mut().enumerate() {
        let mut hasher = crc32fast::Hasher::new();
        for range in chunks(piece.stretch.range()) {
            let mut values = vec![0.0; (range.end - range.start) as usize];
            read(index, range.start, &mut values);
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            hasher.update(&bytes);
            file.write_all(&bytes)?;
        }
        piece.checksum = hasher.finalize();
    }
    file.sync()?;
    let bytes = header.len() as u64 + pieces.iter().map(Piece::bytes).sum::<u64>();
    Ok(PiecesFile { bytes, pieces })
}

/// Names, shapes and places of all parts, in their order.
fn header(parts: &[(Quantity, Part<'_>)]) -> Vec<u8> {
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({ "format": "1" }));
    let mut offset = 0;
    for (quantity, part) in parts {
        let end = offset + part.stretch.length * WORD as u64;
        let (name, shape) = shown(tensor_name(part.key(), *quantity), &part.stretch);
        entries.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(LENGTH_BYTES), b' ');
    [&(text.len() as u64).to_le_bytes(), text.as_slice()].concat()
}

/// The name and shape of a piece: those of the tensor if it is whole, else with what it is of it.
fn shown(tensor: String, stretch: &Stretch) -> (String, Vec<u64>) {
    let region = &stretch.region;
    if stretch.length == region.whole() {
        return (tensor, region.shape());
    }
    let range = |range: Range<u64>| format!("{}..{}", range.start, range.end);
    let sides: Vec<String> = region.sides.iter().map(|side| range(side.start..side.start + side.length)).collect();
    let name = format!("{tensor} [{}]", sides.join(", "));
    if stretch.length == region.elements() {
        return (name, region.sides.iter().map(|side| side.length).collect());
    }
    (format!("{name} {}", range(stretch.range())), vec![stretch.length])
}

/// Gives every rank of this process its parts of a checkpoint.
pub(crate) fn read(
    draft: &Draft,
    host: &mut dyn Host,
    folder: &Path,
    manifest: &Manifest,
) -> Result<(), CheckpointError> {
    let of = |quantity| (quantity, (moves::all(draft, host.ranks(), quantity), Tally::default()));
    let mut asked: BTreeMap<Quantity, (Parts<'_>, Tally)> = Quantity::ALL.into_iter().map(of).collect();
    for (process, file) in manifest.files.iter().enumerate() {
        read_file(host, &folder.join(pieces_name(process)), file, &mut asked)?;
    }
    for (quantity, (parts, tally)) in asked {
        if let Some((layer, name)) = tally.missing(&parts).next() {
            let name = tensor_name((layer, &name), quantity);
            return Err(CheckpointError::Model { path: folder.to_owned(), name });
        }
    }
    Ok(())
}

fn read_file(
    host: &mut dyn Host,
    path: &Path,
    description: &PiecesFile,
    asked: &mut BTreeMap<Quantity, (Parts<'_>, Tally)>,
) -> Result<(), CheckpointError> {
    let file_error = |error| CheckpointError::file(path, error);
    let mut file = File::open(path).map_err(file_error)?;
    let bytes = file.metadata().map_err(file_error)?.len();
    if bytes != description.bytes {
        let words = format!("damaged: {bytes} bytes, but {} were written", description.bytes);
        return Err(CheckpointError::damaged(path, words));
    }
    for piece in &description.pieces {
        let (parts, tally) = asked.get_mut(&piece.quantity).expect("all quantities are asked for");
        let key = (piece.layer, piece.parameter.as_str());
        let Some(parts) = parts.get(&key) else { continue };
        let mut pouring = Pouring::new(&piece.stretch, parts);
        if pouring.is_unasked() {
            continue;
        }
        file.seek(SeekFrom::Start(piece.offset)).map_err(file_error)?;
        let (taken, checksum) = read_piece(host, &mut file, &piece.stretch, &mut pouring).map_err(file_error)?;
        if checksum != piece.checksum {
            return Err(CheckpointError::damaged(
                path,
                format!("damaged: the checksum of `{}` is another", piece.tensor()),
            ));
        }
        tally.add(key, taken);
    }
    Ok(())
}

/// Hands over the elements of a piece; gives back how many were taken, and the checksum of all.
fn read_piece(
    host: &mut dyn Host,
    file: &mut File,
    stretch: &Stretch,
    pouring: &mut Pouring<'_, '_>,
) -> io::Result<(u64, u32)> {
    let mut hasher = crc32fast::Hasher::new();
    let mut taken = 0;
    let mut space = vec![0; WORD * CHUNK.min(stretch.length as usize)];
    for range in chunks(stretch.range()) {
        let bytes = &mut space[..WORD * (range.end - range.start) as usize];
        file.read_exact(bytes)?;
        hasher.update(bytes);
        let (words, _) = bytes.as_chunks();
        let values: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        taken += pouring.pour(host, range.start, &values);
    }
    Ok((taken, hasher.finalize()))
}

/// Reads all values of a parameter from a checkpoint, whoever saved them.
///
/// # Errors
/// A file cannot be read or is damaged, or not all of a parameter of this shape is there.
pub(crate) fn read_whole(
    folder: &Path,
    manifest: &Manifest,
    ((layer, name), shape): ((u32, &str), &[u64]),
    values: &mut [f32],
) -> Result<(), CheckpointError> {
    let mut count = 0;
    for (process, file) in manifest.files.iter().enumerate() {
        let path = folder.join(pieces_name(process));
        let is_of = |piece: &&Piece| {
            (piece.layer, piece.parameter.as_str(), piece.quantity) == (layer, name, Quantity::Value)
                && piece.stretch.region.shape() == shape
        };
        for piece in file.pieces.iter().filter(is_of) {
            let checksum = fill(&path, piece, values).map_err(|error| CheckpointError::file(&path, error))?;
            if checksum != piece.checksum {
                let words = format!("damaged: the checksum of `{}` is another", piece.tensor());
                return Err(CheckpointError::damaged(&path, words));
            }
            count += piece.stretch.length;
        }
    }
    if count != values.len() as u64 {
        let name = tensor_name((layer, name), Quantity::Value);
        return Err(CheckpointError::Model { path: folder.to_owned(), name });
    }
    Ok(())
}

/// Puts the elements of a piece to their places in the whole; gives back their checksum.
fn fill(path: &Path, piece: &Piece, values: &mut [f32]) -> io::Result<u32> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(piece.offset))?;
    let mut hasher = crc32fast::Hasher::new();
    for range in chunks(piece.stretch.range()) {
        let mut bytes = vec![0; WORD * (range.end - range.start) as usize];
        file.read_exact(&mut bytes)?;
        hasher.update(&bytes);
        let (words, _) = bytes.as_chunks();
        for run in piece.stretch.runs_of(range.clone()) {
            let own = &words[(run.local - range.start) as usize..][..run.length as usize];
            let places = &mut values[run.whole as usize..(run.whole + run.length) as usize];
            places.iter_mut().zip(own).for_each(|(value, &word)| *value = f32::from_le_bytes(word));
        }
    }
    Ok(hasher.finalize())
}
