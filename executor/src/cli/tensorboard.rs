//! Event files as TensorBoard reads them: records with checksums, each of which is an event in protocol buffers.
//!
//! A record is the length of its data in 8 bytes, a checksum of these, the data, and a checksum of it (TFRecord: all
//! little-endian; CRC-32C, turned and shifted by a constant). An event has a wall time (field 1), a step (2), and a
//! file version (3) or a summary (5): values (1) of a tag (1) and a number in 32 bits (2).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What checksums are shifted by, so that one of data that has checksums in it is no checksum of those.
const MASK: u32 = 0xa282_ead8;

/// An event file under way.
pub(crate) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// A new file in a folder: viewers join all of a folder, so a training that goes on writes another one.
    pub(crate) fn new(folder: &Path, unix_seconds: f64) -> io::Result<EventFile> {
        let name = format!("events.out.tfevents.{:010}.hetu.{}", unix_seconds as u64, std::process::id());
        let path = folder.join(name);
        let mut file = File::create(&path)?;
        let version = [double(1, unix_seconds), bytes(3, b"brain.Event:2")].concat();
        file.write_all(&record(&version))?;
        Ok(EventFile { file, path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds numbers of a step under their tags. What is written is a whole record, so a reader can follow.
    pub(crate) fn scalars(&mut self, step: u64, unix_seconds: f64, values: &[(&str, f64)]) -> io::Result<()> {
        let value = |&(tag, number): &(&str, f64)| bytes(1, &[bytes(1, tag.as_bytes()), float(2, number)].concat());
        let summary: Vec<u8> = values.iter().flat_map(value).collect();
        let event = [double(1, unix_seconds), whole(2, step), bytes(5, &summary)].concat();
        self.file.write_all(&record(&event))
    }
}

/// Data with its length and checksums.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let sums = [&length[..], data].map(|part| masked(crc32c::crc32c(part)).to_le_bytes());
    [&length[..], &sums[0], data, &sums[1]].concat()
}

fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(MASK)
}

/// A number in groups of seven bits, the lowest first.
fn variable(mut number: u64) -> Vec<u8> {
    let mut groups = Vec::new();
    while number >= 0x80 {
        groups.push(number as u8 | 0x80);
        number >>= 7;
    }
    groups.push(number as u8);
    groups
}

/// The head of a field: its number and the kind of what follows.
fn head(field: u64, kind: u64) -> Vec<u8> {
    variable(field << 3 | kind)
}

fn whole(field: u64, number: u64) -> Vec<u8> {
    [head(field, 0), variable(number)].concat()
}

fn double(field: u64, number: f64) -> Vec<u8> {
    [&head(field, 1)[..], &number.to_le_bytes()].concat()
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [&head(field, 2)[..], &variable(content.len() as u64), content].concat()
}

fn float(field: u64, number: f64) -> Vec<u8> {
    [&head(field, 5)[..], &(number as f32).to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_those_of_other_writers() {
        // The check value of CRC-32C (RFC 3720, B.4), and 300 as protocol buffers document it.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(variable(300), [0xac, 0x02]);
        assert_eq!(whole(1, 150), [0x08, 0x96, 0x01]);
        let record = record(b"abc");
        assert_eq!(record.len(), 8 + 4 + 3 + 4);
        assert_eq!(record[..8], [3, 0, 0, 0, 0, 0, 0, 0]);
    }
}
