//! A text as windows of tokens, some to train on and some held out.
//!
//! The end of the text is held out, not windows here and there: neighbouring windows share names and
//! phrases, so a held-out window between training windows would be half known.

use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::tokens::{Tokenizer, TokenizerError};

/// A tokenised text in two parts that share no token.
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    /// The first part, to train on; at least one window.
    pub training: Windows,
    /// The last part, to measure on; empty only where nothing was to be held out.
    pub held_out: Windows,
}

/// How to cut a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    /// The inputs in a window, in tokens; the window itself has one token more.
    pub sequence: usize,
    /// The share of the tokens to hold out, from 0 to below 1.
    pub held_out: f64,
}

/// A run of tokens cut into windows of one length.
///
/// Window `w` covers tokens `w·s` to `w·s + s`, both included. Its first `s` are inputs, its last
/// `s` the targets: each input's target is the next token. Windows overlap by one token, so each
/// token but the first is the target of one window; a rest shorter than a window is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    tokens: Vec<i32>,
    // At least 1.
    sequence: usize,
}

/// What a user can get wrong about a text and its cut.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum CorpusError {
    /// The text is missing, may not be read, or is not UTF-8.
    #[error(
        "{}: the text cannot be read: {cause}\n  help: give the path of a plain text file in UTF-8",
        path.display()
    )]
    Unreadable { path: PathBuf, cause: std::io::Error },
    /// The file is there and has no byte.
    #[error("{}: the text is empty\n  help: give a text to train on", path.display())]
    Empty { path: PathBuf },
    /// The tokenizer has no answer to the text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The share to hold out is no share.
    #[error(
        "held-out share: {held_out} is not a share\n  \
         help: give a number from 0 to below 1, such as 0.05"
    )]
    NoShare { held_out: f64 },
    /// A window without inputs.
    #[error("sequence: 0 tokens make no window\n  help: give a sequence of 1 or more")]
    NoSequence,
    /// One of the parts has no window.
    #[error(
        "the text is too short: {} of its {total} tokens are {}, and one window of \
         {sequence} inputs needs {}\n  \
         help: give a longer text, a shorter sequence or another held-out share",
        tokens, part.role(), sequence + 1
    )]
    TooShort { part: Part, tokens: usize, total: usize, sequence: usize },
}

/// A part of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What the model learns from.
    Training,
    /// What it is measured on.
    HeldOut,
}

impl Part {
    fn role(self) -> &'static str {
        match self {
            Self::Training => "for training",
            Self::HeldOut => "held out",
        }
    }
}

impl Corpus {
    /// The text of a file, tokenised and cut.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, is empty or cannot be encoded; or as [`Self::cut`].
    pub fn read(path: &Path, tokenizer: &Tokenizer, split: Split) -> Result<Self, CorpusError> {
        Self::of_text(read_text(path)?, tokenizer, split)
    }

    /// A text tokenised and cut; the text itself is not kept.
    ///
    /// # Errors
    /// The text cannot be encoded; or as [`Self::cut`].
    pub fn of_text(text: String, tokenizer: &Tokenizer, split: Split) -> Result<Self, CorpusError> {
        let tokens = tokenizer.encode(&text)?;
        drop(text);
        Self::cut(tokens, split)
    }

    /// Tokens cut in a training part and a held-out part.
    ///
    /// # Errors
    /// The sequence is 0, the share is no share, or a part is too short for one window (a held-out
    /// share of 0 needs none).
    ///
    /// # Panics
    /// If a token does not fit in an `i32`; no tokenizer has so many.
    pub fn cut(mut tokens: Vec<u32>, split: Split) -> Result<Self, CorpusError> {
        let Split { sequence, held_out } = split;
        if sequence == 0 {
            return Err(CorpusError::NoSequence);
        }
        if !(0.0..1.0).contains(&held_out) {
            return Err(CorpusError::NoShare { held_out });
        }
        // Exact up to 2^53 tokens; a share above 0 always asks for at least one token.
        let held_out_tokens = (tokens.len() as f64 * held_out).ceil() as usize;
        let total = tokens.len();
        let last = tokens.split_off(total - held_out_tokens);
        let windows = |tokens: Vec<u32>| Windows { tokens: signed(tokens), sequence };
        let corpus = Self { training: windows(tokens), held_out: windows(last) };

        if corpus.training.count() == 0 {
            let part = Part::Training;
            return Err(CorpusError::TooShort { part, tokens: total - held_out_tokens, total, sequence });
        }
        if held_out > 0.0 && corpus.held_out.count() == 0 {
            let part = Part::HeldOut;
            return Err(CorpusError::TooShort { part, tokens: held_out_tokens, total, sequence });
        }
        Ok(corpus)
    }
}

impl Windows {
    /// The number of windows.
    pub fn count(&self) -> usize {
        self.tokens.len().saturating_sub(1) / self.sequence
    }

    /// What its tokens take, in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.tokens.as_slice())
    }

    /// The inputs in a window.
    pub fn sequence(&self) -> usize {
        self.sequence
    }

    /// The inputs of a window, `sequence` tokens.
    ///
    /// # Panics
    /// If there is no such window.
    pub fn inputs(&self, window: usize) -> &[i32] {
        &self.tokens[self.start(window)..][..self.sequence]
    }

    /// The targets of a window: for each of its inputs the token that follows.
    ///
    /// # Panics
    /// If there is no such window.
    pub fn targets(&self, window: usize) -> &[i32] {
        &self.tokens[self.start(window) + 1..][..self.sequence]
    }

    fn start(&self, window: usize) -> usize {
        assert!(window < self.count(), "window {window} of {}", self.count());
        window * self.sequence
    }
}

/// The text of a file.
///
/// # Errors
/// The file cannot be read, is not UTF-8 or is empty.
pub fn read_text(path: &Path) -> Result<String, CorpusError> {
    let text = text_of(path).map_err(|cause| CorpusError::Unreadable { path: path.to_path_buf(), cause })?;
    if text.is_empty() {
        return Err(CorpusError::Empty { path: path.to_path_buf() });
    }
    Ok(text)
}

/// All of a file, or of a pipe; devices have no end.
fn text_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = file.metadata()?.file_type();
        if kind.is_char_device() || kind.is_block_device() {
            return Err(std::io::Error::other("it is a device, not a file"));
        }
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Device buffers hold ids as `i32`. The tokens stay where they are in memory.
fn signed(tokens: Vec<u32>) -> Vec<i32> {
    let signed = |token| i32::try_from(token).expect("a vocabulary has fewer than 2^31 tokens");
    tokens.into_iter().map(signed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(token_count: u32, sequence: usize, held_out: f64) -> Result<Corpus, CorpusError> {
        let tokens: Vec<u32> = (0..token_count).collect();
        Corpus::cut(tokens, Split { sequence, held_out })
    }

    #[test]
    fn targets_are_the_inputs_one_token_later() {
        let corpus = cut(10, 3, 0.0).unwrap();
        assert_eq!(corpus.training.count(), 3);
        assert_eq!(corpus.training.inputs(1), [3, 4, 5]);
        assert_eq!(corpus.training.targets(1), [4, 5, 6]);
        assert_eq!(corpus.held_out.count(), 0);
    }

    #[test]
    fn each_token_but_the_first_is_a_target_once_and_only_a_rest_is_left_out() {
        for token_count in 4..40 {
            let training = cut(token_count, 3, 0.0).unwrap().training;
            let targets: Vec<i32> = (0..training.count()).flat_map(|w| training.targets(w).to_vec()).collect();
            let expected: Vec<i32> = (1..).take(targets.len()).collect();
            assert_eq!(targets, expected, "{token_count} tokens");
            assert!(token_count as usize - 1 - targets.len() < 3, "{token_count} tokens");
        }
    }

    #[test]
    fn the_last_tokens_are_held_out_and_none_is_in_both_parts() {
        let corpus = cut(100, 4, 0.2).unwrap();
        let last_trained = corpus.training.targets(corpus.training.count() - 1)[3];
        let first_held_out = corpus.held_out.inputs(0)[0];
        assert_eq!((last_trained, first_held_out), (76, 80));
        assert_eq!(corpus.held_out.targets(corpus.held_out.count() - 1), [93, 94, 95, 96]);
    }

    #[test]
    fn the_shortest_text_has_one_window_and_one_token_less_is_an_error() {
        assert_eq!(cut(17, 16, 0.0).unwrap().training.count(), 1);
        assert_eq!(
            cut(16, 16, 0.0).unwrap_err().to_string(),
            "the text is too short: 16 of its 16 tokens are for training, and one window of \
             16 inputs needs 17\n  \
             help: give a longer text, a shorter sequence or another held-out share"
        );
        assert!(matches!(cut(0, 1, 0.0), Err(CorpusError::TooShort { tokens: 0, .. })));
    }

    #[test]
    fn a_held_out_part_without_a_window_is_an_error() {
        let error = cut(100, 16, 0.1).unwrap_err().to_string();
        assert!(error.contains("10 of its 100 tokens are held out"), "{error}");
    }

    #[test]
    fn shares_outside_zero_to_one_are_errors() {
        for share in [-0.1, 1.0, 2.0, f64::NAN] {
            assert!(matches!(cut(100, 4, share), Err(CorpusError::NoShare { .. })), "{share}");
        }
        assert!(matches!(cut(100, 0, 0.1), Err(CorpusError::NoSequence)));
    }

    #[test]
    fn files_without_text_are_errors_that_name_the_file() {
        let split = Split { sequence: 4, held_out: 0.0 };
        let name = format!("hetu-corpus-{}.txt", std::process::id());
        let path = std::env::temp_dir().join(name);
        for (content, what) in [(&b""[..], "is empty"), (b"caf\xE9", "cannot be read")] {
            std::fs::write(&path, content).unwrap();
            let error = Corpus::read(&path, &Tokenizer::Bytes, split).unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()), "{error}");
            assert!(error.contains(what) && error.contains("help: "), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let missing = Corpus::read(&path, &Tokenizer::Bytes, split);
        assert!(matches!(missing, Err(CorpusError::Unreadable { .. })));
    }

    #[test]
    fn the_shipped_text_is_plain_english_with_thousands_of_windows() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/text/austen.txt");
        let split = Split { sequence: 128, held_out: 0.05 };
        let corpus = Corpus::read(path.as_ref(), &Tokenizer::Bytes, split).unwrap();
        assert!(corpus.training.count() > 10_000 && corpus.held_out.count() > 500);
        let plain = |id: &i32| *id == i32::from(b'\n') || (32..127).contains(id);
        for window in 0..corpus.training.count() {
            assert!(corpus.training.inputs(window).iter().all(plain), "window {window}");
        }
    }
}
