//! From text to a value of the right shape, and a place to collect what is wrong with its content.

use std::io::Read;

use serde::de::{DeserializeOwned, IgnoredAny};

use super::locate::{Segment, locate};
use super::translate::translate;
use crate::error::{Mistake, Mistakes, shown};

/// The one version of all file forms.
pub(crate) const FORMAT: u32 = 1;
/// Larger files are refused; the largest real ones are profiles of a few megabytes.
const TEXT_MAX: usize = 16 << 20;
/// No more of a file is read, whatever it is.
pub const FILE_MAX: usize = 64 << 20;
/// Larger traces are refused; a line is some hundred bytes.
pub const TRACE_MAX: usize = 1 << 30;
/// Deeper nesting is refused; real files have four levels, and the parser's time grows with the square of the depth.
const DEPTH_MAX: usize = 64;
/// More mistakes than this are only counted: to find the line of each, the text is read again.
const MISTAKES_MAX: usize = 20;

/// The text of a file of at most so many bytes: no more are read, so that a device without end takes no memory.
///
/// # Errors
/// It cannot be read, is longer, or is no UTF-8; `file` names it in messages.
pub fn read(source: impl Read, most: usize, file: &str) -> Result<String, Mistakes> {
    let mut bytes = Vec::new();
    source
        .take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Mistake::new(file, format!("cannot be read: {error}")))?;
    if bytes.len() > most {
        let what = format!("more than {most} bytes, which are too many for this kind of file");
        return Err(Mistake::new(file, what).into());
    }
    decode(&bytes, file).map(str::to_owned)
}

/// The text of a file's bytes.
pub fn decode<'a>(bytes: &'a [u8], file: &str) -> Result<&'a str, Mistakes> {
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Mistake::new(file, "not UTF-8 text").at((line, 1)).help("is this a binary file?").into()
    })
}

/// The value that `text` describes, by its shape alone.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, Mistakes> {
    check_form(text, file)?;
    // Once without any shape, since a wrong shape is often just what broken YAML looks like.
    serde_yaml::from_str::<IgnoredAny>(text).map_err(|error| translate(&error, text, file))?;
    serde_yaml::from_str(text).map_err(|error| translate(&error, text, file).into())
}

fn check_form(text: &str, file: &str) -> Result<(), Mistake> {
    if text.len() > TEXT_MAX {
        return Err(Mistake::new(file, format!("{} bytes are too many for this kind of file", text.len())));
    }
    check_version(text, file)?;
    check_depth(text, file)
}

/// Before all else, so that a file of a later version is not judged by the keys of this one.
fn check_version(text: &str, file: &str) -> Result<(), Mistake> {
    let help = format!("the first key must be `format: {FORMAT}`");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let significant = |line: &str| !line.trim().is_empty() && !line.starts_with(['#', '%']) && line.trim() != "---";
    let Some((index, line)) = text.lines().enumerate().find(|(_, line)| significant(line)) else {
        return Err(Mistake::new(file, "the file is empty").help(help));
    };
    let wrong = |what: String| Mistake::new(file, what).at((index + 1, 1));
    let Some((_, value)) = line.split_once(':').filter(|(key, _)| key.trim() == "format") else {
        return Err(wrong(format!("no version: found `{}`", shown(line.trim()))).help(help));
    };
    if !value.starts_with([' ', '\t']) {
        return Err(wrong("a space is missing after `format:`".to_owned()).help(help));
    }
    let value = value.split(" #").next().unwrap_or(value).trim();
    if value != FORMAT.to_string() {
        return Err(wrong(format!("format `{}` is not known here", shown(value))).help(help));
    }
    Ok(())
}

fn check_depth(text: &str, file: &str) -> Result<(), Mistake> {
    let mut depth = 0usize;
    for (index, line) in text.lines().enumerate() {
        for letter in line.bytes() {
            match letter {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > DEPTH_MAX {
                let what = format!("more than {DEPTH_MAX} brackets are open");
                return Err(Mistake::new(file, what).at((index + 1, 1)));
            }
        }
    }
    Ok(())
}

/// Collects what is wrong with the content of a file whose shape is right.
pub(crate) struct Checks<'a> {
    text: &'a str,
    file: &'a str,
    mistakes: Vec<Mistake>,
    more: usize,
}

impl<'a> Checks<'a> {
    pub(crate) fn new(text: &'a str, file: &'a str) -> Checks<'a> {
        Checks { text, file, mistakes: Vec::new(), more: 0 }
    }

    /// Notes that `what` is wrong at the line of the key that `path` leads to.
    pub(crate) fn wrong(&mut self, path: &[Segment], what: impl Into<String>) {
        self.note(path, Mistake::new(self.file, what));
    }

    /// The same, with advice.
    pub(crate) fn wrong_but(&mut self, path: &[Segment], what: impl Into<String>, help: impl Into<String>) {
        self.note(path, Mistake::new(self.file, what).help(help));
    }

    fn note(&mut self, path: &[Segment], mistake: Mistake) {
        if self.mistakes.len() == MISTAKES_MAX {
            self.more += 1;
            return;
        }
        self.mistakes.push(match locate(self.text, path) {
            Some(place) => mistake.at(place),
            None => mistake,
        });
    }

    /// Whether nothing was noted.
    pub(crate) fn is_clean(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// A count that must not be zero.
    pub(crate) fn positive(&mut self, path: &[Segment], count: u64) {
        if count == 0 {
            self.wrong(path, format!("{} must be at least 1", named(path)));
        }
    }

    /// A number that must be finite and in a range of words such as `0 or more`.
    pub(crate) fn within(&mut self, path: &[Segment], value: f64, range: Range) {
        if !range.holds(value) {
            self.wrong(path, format!("{} must be {}, not {value}", named(path), range.words()));
        }
    }

    /// A name that will stand in tables and on lines of its own.
    pub(crate) fn name(&mut self, path: &[Segment], name: &str) {
        if name.trim().is_empty() {
            self.wrong(path, format!("{} must not be empty", named(path)));
        } else if name.len() > 200 || name.chars().any(char::is_control) {
            self.wrong(path, format!("{} must be one short line, not `{}`", named(path), shown(name)));
        }
    }

    /// Everything that was noted, by line; or that nothing was.
    pub(crate) fn finish(mut self) -> Result<(), Mistakes> {
        if self.mistakes.is_empty() {
            return Ok(());
        }
        self.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        if self.more > 0 {
            self.mistakes.push(Mistake::new(self.file, format!("and {} more mistakes", self.more)));
        }
        Err(Mistakes(self.mistakes))
    }
}

/// Where a number must lie.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Range {
    /// `(0, ∞)`.
    Positive,
    /// `[0, ∞)`.
    NotNegative,
    /// `(0, 1]`.
    Share,
    /// `[0, 1)`.
    Decay,
}

impl Range {
    fn holds(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Range::Positive => value > 0.0,
                Range::NotNegative => value >= 0.0,
                Range::Share => value > 0.0 && value <= 1.0,
                Range::Decay => (0.0..1.0).contains(&value),
            }
    }

    fn words(self) -> &'static str {
        match self {
            Range::Positive => "finite and above 0",
            Range::NotNegative => "finite and 0 or more",
            Range::Share => "above 0 and at most 1",
            Range::Decay => "at least 0 and below 1",
        }
    }
}

/// A path in words: `training.betas[1]`.
pub(crate) fn named(path: &[Segment]) -> String {
    let mut name = String::new();
    for segment in path {
        match segment {
            Segment::Key(key) if name.is_empty() => name.push_str(key),
            Segment::Key(key) => name.extend([".", key]),
            Segment::Index(index) => name.push_str(&format!("[{index}]")),
        }
    }
    format!("`{}`", shown(&name))
}

/// The way to a key inside other keys.
pub(crate) fn keys<const N: usize>(keys: [&str; N]) -> [Segment; N] {
    keys.map(Segment::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_a_file_may_have() {
        assert_eq!(read(&b"abcd"[..], 4, "x"), Ok("abcd".to_owned()));
        let endless = read(std::io::repeat(b'a'), 4, "x").expect_err("it has no end").to_string();
        assert_eq!(endless, "error: x: more than 4 bytes, which are too many for this kind of file");
        assert!(read(&[0xff][..], 4, "x").is_err());
    }
}
