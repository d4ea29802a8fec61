//! Text into token ids: the bytes themselves, or the vocabulary of a `tokenizer.json`.
//!
//! Bytes need no file and no training and are the default of the examples. A `tokenizer.json` is the
//! common interchange format of published models. Some settings that such a file may carry would
//! spoil a corpus and are switched off on reading: truncation (cuts the text after some hundred
//! tokens), padding (adds tokens that the text does not have) and dropout (a random split, other at
//! each run).

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ir::file::{Digest, digest};
use thiserror::Error;
use tokenizers::models::ModelWrapper;

use super::dropped::dropped;
use super::foreign::caged;

/// Longer files are refused; the largest real ones are some tens of megabytes.
const FILE_MAX: u64 = 256 << 20;

/// The number of distinct bytes.
const BYTE_COUNT: usize = 256;

/// Turns text into token ids, the same way each time.
#[derive(Debug)]
pub enum Tokenizer {
    /// Each byte of the UTF-8 text is a token.
    Bytes,
    /// The vocabulary and rules of a `tokenizer.json`; see [`Tokenizer::read`].
    File(FileTokenizer),
}

/// A tokenizer that came from a file.
#[derive(Debug)]
pub struct FileTokenizer {
    path: PathBuf,
    content: Digest,
    rules: Box<tokenizers::Tokenizer>,
    // One more than the largest id, so at least 1.
    vocabulary_size: usize,
}

/// What a user can get wrong about a tokenizer.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum TokenizerError {
    /// The file is missing or may not be read.
    #[error(
        "{}: the tokenizer file cannot be read: {cause}\n  \
         help: give the path of a tokenizer.json, or leave it out to train on bytes", path.display()
    )]
    Unreadable { path: PathBuf, cause: io::Error },
    /// The file is there but does not describe a tokenizer.
    #[error(
        "{}: this is not a tokenizer.json: {cause}\n  \
         help: give the tokenizer.json itself, not its folder's vocab.json, merges.txt or *.model",
        path.display()
    )]
    Malformed { path: PathBuf, cause: tokenizers::Error },
    /// The file describes a tokenizer that knows no token.
    #[error(
        "{}: the tokenizer has an empty vocabulary\n  \
         help: use one that was trained, or leave it out to train on bytes", path.display()
    )]
    NoTokens { path: PathBuf },
    /// The rules of the file have no answer to a piece of the text.
    #[error(
        "{}: the tokenizer cannot encode the text: {cause}\n  \
         help: use one with byte fallback or an unknown token, or leave it out to train on bytes",
        path.display()
    )]
    Unencodable { path: PathBuf, cause: tokenizers::Error },
    /// The rules broke down.
    #[error(
        "{}: the tokenizer fails: {words}\n  \
         help: the file is damaged, or has rules that are not understood here; use another tokenizer",
        path.display()
    )]
    Broken { path: PathBuf, words: String },
    /// The rules pass over a letter of the text without a word.
    #[error(
        "{}: the tokenizer drops letters of `{word}` from the text (at byte {place})\n  \
         help: use one with byte fallback or an unknown token, or leave it out to train on bytes",
        path.display()
    )]
    Drops { path: PathBuf, word: String, place: usize },
    /// Some ids would point past the end of the model's embedding.
    #[error(
        "{tokenizer}: has ids up to {largest}, but the model's vocabulary has {model} entries\n  \
         help: set the model's vocabulary to {} or more, or use a smaller tokenizer", largest + 1
    )]
    TooLarge { tokenizer: String, largest: usize, model: usize },
}

impl Tokenizer {
    /// The tokenizer that a `tokenizer.json` describes, without truncation, padding and dropout.
    ///
    /// # Errors
    /// The file is missing, unreadable, not a `tokenizer.json`, or has no token.
    pub fn read(path: &Path) -> Result<Self, TokenizerError> {
        let file = || path.to_path_buf();
        let text = bounded(path).map_err(|cause| TokenizerError::Unreadable { path: file(), cause })?;
        let content = digest(&text);
        let read = caged(|| {
            let mut rules = tokenizers::Tokenizer::from_bytes(text).and_then(repeatable)?;
            rules.with_padding(None);
            // Ids may have holes, and added tokens may lie past the model's own: count to the largest.
            let largest = rules.get_vocab(true).into_values().max();
            tokenizers::Result::Ok((rules, largest))
        });
        let read = read.map_err(|words| TokenizerError::Broken { path: file(), words })?;
        let (rules, largest) = read.map_err(|cause| TokenizerError::Malformed { path: file(), cause })?;
        let Some(largest) = largest else {
            return Err(TokenizerError::NoTokens { path: file() });
        };
        let vocabulary_size = largest as usize + 1;
        Ok(Self::File(FileTokenizer { path: file(), content, rules: Box::new(rules), vocabulary_size }))
    }

    /// The ids of `text`, each below [`Self::vocabulary_size`], without marks for begin and end.
    ///
    /// # Errors
    /// The rules of the file have no answer to a piece of the text, pass over a letter or digit of it, or break down.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        match self {
            Self::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Self::File(file) => {
                let encoded = caged(|| {
                    let dropped = dropped(&file.rules, text)?;
                    // Marks are for single sentences; a corpus is one long text.
                    tokenizers::Result::Ok((dropped, file.rules.encode_fast(text, false)?))
                });
                let path = || file.path.clone();
                match encoded.map_err(|words| TokenizerError::Broken { path: path(), words })? {
                    Ok((None, encoding)) => Ok(encoding.get_ids().to_vec()),
                    Ok((Some((place, word)), _)) => Err(TokenizerError::Drops { path: path(), word, place }),
                    Err(cause) => Err(TokenizerError::Unencodable { path: path(), cause }),
                }
            }
        }
    }

    /// The digest of the file's content; none for bytes.
    pub fn content(&self) -> Option<Digest> {
        match self {
            Self::Bytes => None,
            Self::File(file) => Some(file.content),
        }
    }

    /// The entries that an embedding needs for these tokens: one more than the largest id.
    pub fn vocabulary_size(&self) -> usize {
        match self {
            Self::Bytes => BYTE_COUNT,
            Self::File(file) => file.vocabulary_size,
        }
    }

    /// Checks that each id has an entry in a model's vocabulary of `model` entries.
    ///
    /// # Errors
    /// The tokenizer has more; the message names both sizes.
    pub fn check_fits(&self, model: usize) -> Result<(), TokenizerError> {
        let largest = self.vocabulary_size() - 1;
        if largest < model {
            return Ok(());
        }
        Err(TokenizerError::TooLarge { tokenizer: self.to_string(), largest, model })
    }
}

/// The text of a file that is no longer than tokenizers are.
fn bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("more than {FILE_MAX} bytes are too many for a tokenizer")));
    }
    Ok(text)
}

/// For reports and messages: the path of the file, or "bytes".
impl fmt::Display for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => f.write_str("bytes"),
            Self::File(file) => file.path.display().fmt(f),
        }
    }
}

/// The same rules without truncation and without dropout.
fn repeatable(mut rules: tokenizers::Tokenizer) -> tokenizers::Result<tokenizers::Tokenizer> {
    rules.with_truncation(None)?;
    let random = match rules.get_model() {
        ModelWrapper::BPE(pairs) if pairs.dropout.is_some() => Some(pairs.clone()),
        ModelWrapper::BPE(_) | ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) | ModelWrapper::Unigram(_) => {
            None
        }
    };
    if let Some(mut pairs) = random {
        pairs.dropout = None;
        rules.with_model(pairs);
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Pairs of bytes: "a" 0, "b" 1, "ab" 2, "abab" 3, "é" 5 (4 is a hole), and " " 6.
    const PAIRS: &str = r#"{
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": { "type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "vocab": { "a": 0, "b": 1, "ab": 2, "abab": 3, "é": 5, " ": 6 },
            "merges": ["a b", "ab ab"] }
    }"#;

    /// Reads a tokenizer from a file with this content that is gone afterwards.
    fn read(name: &str, content: &str) -> Result<Tokenizer, TokenizerError> {
        let file = format!("hetu-tokens-{}-{name}.json", std::process::id());
        let path = std::env::temp_dir().join(file);
        fs::write(&path, content).expect("the temporary folder can be written");
        let tokenizer = Tokenizer::read(&path);
        fs::remove_file(&path).expect("the file was just written");
        tokenizer
    }

    fn ids(name: &str, content: &str, text: &str) -> Vec<u32> {
        read(name, content).expect("a good file").encode(text).expect("a known text")
    }

    #[test]
    fn bytes_are_their_own_ids() {
        let ids = Tokenizer::Bytes.encode("Aé\n").unwrap();
        assert_eq!(ids, [0x41, 0xC3, 0xA9, 0x0A]);
        assert_eq!(Tokenizer::Bytes.vocabulary_size(), 256);
    }

    #[test]
    fn a_file_says_which_pairs_merge() {
        assert_eq!(ids("pairs", PAIRS, "ababab ébba"), [3, 2, 6, 5, 1, 1, 0]);
    }

    #[test]
    fn the_vocabulary_counts_past_holes_to_the_largest_id() {
        assert_eq!(read("holes", PAIRS).unwrap().vocabulary_size(), 7);
    }

    #[test]
    fn added_tokens_count_in_the_vocabulary() {
        let added = r#""added_tokens": [{ "id": 6, "content": "<end>", "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true }]"#;
        let content = PAIRS.replace(r#""added_tokens": []"#, added).replace(r#""é": 5, " ": 6"#, r#""é": 4, " ": 5"#);
        let tokenizer = read("added", &content).unwrap();
        assert_eq!(tokenizer.encode("ab<end>a").unwrap(), [2, 6, 0]);
        assert_eq!(tokenizer.vocabulary_size(), 7);
    }

    #[test]
    fn truncation_and_padding_of_the_file_do_not_touch_the_text() {
        let short = PAIRS
            .replace(
                r#""truncation": null"#,
                r#""truncation": { "direction": "Right", "max_length": 2,
                    "strategy": "LongestFirst", "stride": 0 }"#,
            )
            .replace(
                r#""padding": null"#,
                r#""padding": { "strategy": { "Fixed": 64 }, "direction": "Right",
                    "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "a" }"#,
            );
        assert_eq!(ids("short", &short, "ab ab ab"), [2, 6, 2, 6, 2]);
    }

    #[test]
    fn dropout_of_the_file_is_off_so_each_reading_is_the_same() {
        let random = PAIRS.replace(r#""dropout": null"#, r#""dropout": 0.5"#);
        let text = "abab".repeat(50);
        assert_eq!(ids("random", &random, &text), ids("plain", PAIRS, &text));
    }

    #[test]
    fn a_vocabulary_larger_than_the_models_is_the_users_error() {
        assert!(Tokenizer::Bytes.check_fits(256).is_ok());
        let error = Tokenizer::Bytes.check_fits(255).unwrap_err().to_string();
        assert_eq!(
            error,
            "bytes: has ids up to 255, but the model's vocabulary has 255 entries\n  \
             help: set the model's vocabulary to 256 or more, or use a smaller tokenizer"
        );
    }

    #[test]
    fn rules_that_break_down_are_errors_of_their_file() {
        let rules = |more: &str, model: &str| {
            format!(
                r#"{{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
                    "decoder": null{more}, "model": {{"type": "BPE", "vocab": {{"t": 0, "h": 1, "th": 2}},
                    "merges": ["t h"]{model}}}}}"#
            )
        };
        let good = rules("", "");
        assert_eq!(ids("good", &good, "thth"), [2, 2]);
        let cases = [
            ("decoder", good.replace(r#""decoder": null"#, r#""decoder": jull"#)),
            ("prefix", rules("", r###", "continuing_subword_prefix": "##""###)),
            (
                "length",
                good.replace(r#""pre_tokenizer": null"#, r#""pre_tokenizer": {"type": "FixedLength", "length": 0}"#),
            ),
            (
                "charsmap",
                good.replace(
                    r#""normalizer": null"#,
                    r#""normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}"#,
                ),
            ),
        ];
        for (name, content) in cases {
            let outcome = read(name, &content).and_then(|tokenizer| tokenizer.encode("thth"));
            let message = outcome.expect_err(name).to_string();
            assert!(message.contains(&format!("-{name}.json: ")) && message.contains("help: "), "{name}: {message}");
        }
    }

    #[test]
    fn rules_that_drop_letters_are_refused() {
        let error = read("drops", PAIRS).unwrap().encode("ab ab xab").unwrap_err().to_string();
        assert!(error.contains("drops letters of `xab` from the text (at byte 6)"), "{error}");
    }

    #[test]
    fn a_letter_that_is_known_at_the_begin_of_words_alone_is_not_dropped_within_them() {
        let pieces = r###"{"version": "1.0", "added_tokens": [], "normalizer": null, "decoder": null,
            "pre_tokenizer": {"type": "Whitespace"}, "model": {"type": "BPE", "merges": [],
            "continuing_subword_prefix": "##", "vocab": {"a": 0, "b": 1, "##b": 2}}}"###;
        let tokenizer = read("within", pieces).unwrap();
        assert_eq!(tokenizer.encode("a ab abb").unwrap(), [0, 0, 2, 0, 2, 2]);
        let error = tokenizer.encode("a ab\n baa ab").unwrap_err().to_string();
        assert!(error.contains("drops letters of `baa` from the text (at byte 6)"), "{error}");
    }

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let empty_vocabulary = r#"{"version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": null, "model": { "type": "BPE", "vocab": {}, "merges": [] }}"#;
        let cases = [
            ("empty", "", "not a tokenizer.json"),
            ("prose", "Call me Ishmael.", "not a tokenizer.json"),
            ("other", r#"{"a": 0, "b": 1}"#, "not a tokenizer.json"),
            ("none", empty_vocabulary, "empty vocabulary"),
        ];
        for (name, content, what) in cases {
            let message = read(name, content).unwrap_err().to_string();
            let file = format!("-{name}.json: ");
            for part in [file.as_str(), what, "\n  help: "] {
                assert!(message.contains(part), "{name}: no {part:?} in {message:?}");
            }
        }
        let missing = Tokenizer::read(Path::new("no/such/tokenizer.json")).unwrap_err().to_string();
        assert!(missing.starts_with("no/such/tokenizer.json: the tokenizer file cannot be read: "));
    }
}
