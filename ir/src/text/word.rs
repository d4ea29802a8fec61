//! Lines of words.

use std::str::FromStr;

use super::TextError;
use crate::error::{nearest, shown};

pub(super) type Result<T> = std::result::Result<T, TextError>;

/// A word with its place. A quoted part of it may hold spaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    line: usize,
    column: usize,
}

impl<'a> Word<'a> {
    /// An error at this word.
    pub(super) fn error(self, expected: impl Into<String>) -> TextError {
        let found = if self.text.is_empty() { "the end".to_owned() } else { format!("`{}`", shown(self.text)) };
        let [expected, help] = [expected.into(), String::new()];
        TextError { line: self.line, column: self.column, expected, found, help }
    }

    /// An error at this word, which should have been one of `known`.
    pub(super) fn unknown(self, expected: &str, known: &[&str]) -> TextError {
        let help = nearest(self.text, known.iter().copied()).map_or(String::new(), |near| format!("; meant `{near}`?"));
        TextError { help, ..self.error(expected) }
    }

    /// The same place with other text, which is a part of the word.
    pub(super) fn part(self, text: &'a str) -> Word<'a> {
        Word { text, ..self }
    }

    /// As a number.
    pub(super) fn number<T: FromStr>(self) -> Result<T> {
        self.text.parse().map_err(|_| self.error("a number that fits"))
    }

    /// What is behind a prefix.
    pub(super) fn behind(self, prefix: &str, expected: &str) -> Result<Word<'a>> {
        self.text.strip_prefix(prefix).map(|text| self.part(text)).ok_or_else(|| self.error(expected))
    }

    /// Without a closing end.
    pub(super) fn before(self, suffix: &str, expected: &str) -> Result<Word<'a>> {
        self.text.strip_suffix(suffix).map(|text| self.part(text)).ok_or_else(|| self.error(expected))
    }

    /// The number of a thing that is a letter and its number.
    pub(super) fn id<T: FromStr>(self, letter: &str, expected: &str) -> Result<T> {
        self.behind(letter, expected)?.text.parse().map_err(|_| self.error(expected))
    }

    /// Both sides of the first `separator`.
    pub(super) fn split(self, separator: char, expected: &str) -> Result<(Word<'a>, Word<'a>)> {
        let (left, right) = self.text.split_once(separator).ok_or_else(|| self.error(expected))?;
        Ok((self.part(left), self.part(right)))
    }

    /// Its entry in a list of names.
    pub(super) fn named<T: Copy>(self, expected: &str, known: &[T], name: impl Fn(T) -> &'static str) -> Result<T> {
        known.iter().copied().find(|&item| name(item) == self.text).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|&item| name(item)).collect();
            self.unknown(expected, &names)
        })
    }

    /// `[a,b]`, each entry read by `item`.
    pub(super) fn list<T>(self, item: impl Fn(Word<'a>) -> Result<T>) -> Result<Vec<T>> {
        let inside = self.behind("[", "a list in brackets")?.before("]", "a list in brackets")?;
        if inside.text.is_empty() {
            return Ok(Vec::new());
        }
        inside.text.split(',').map(|text| item(inside.part(text))).collect()
    }

    /// A quoted text.
    pub(super) fn quoted(self) -> Result<String> {
        let stripped = self.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let inside = stripped.ok_or_else(|| self.error("a text in quotes"))?;
        let mut text = String::new();
        let mut letters = inside.chars();
        while let Some(letter) = letters.next() {
            text.push(match letter {
                '\\' => match letters.next() {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some(same @ ('\\' | '"')) => same,
                    Some(_) | None => return Err(self.error("a text in quotes, where \\ stands before n, r, \\ or \"")),
                },
                '"' => return Err(self.error("a text in quotes, with \\ before quotes in it")),
                letter => letter,
            });
        }
        Ok(text)
    }
}

/// In quotes, so that [`Word::quoted`] reads it back.
pub(super) fn quote(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\r', "\\r");
    format!("\"{escaped}\"")
}

/// The words of a line that are still to be read.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    rest: &'a str,
    number: usize,
    column: usize,
}

impl<'a> Line<'a> {
    pub(super) fn new(number: usize, text: &'a str) -> Line<'a> {
        let mut line = Line { rest: text, number, column: 1 };
        line.skip_space();
        line
    }

    fn skip_space(&mut self) {
        let trimmed = self.rest.trim_start();
        self.column += self.rest[..self.rest.len() - trimmed.len()].chars().count();
        self.rest = if trimmed.starts_with('#') { "" } else { trimmed };
    }

    pub(super) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next word, which stays; empty at the end.
    pub(super) fn peek(&self) -> Word<'a> {
        let mut is_quoted = false;
        let mut is_escaped = false;
        let end = self.rest.find(|letter: char| {
            let ends = letter.is_whitespace() && !is_quoted;
            is_quoted ^= letter == '"' && !is_escaped;
            is_escaped = letter == '\\' && is_quoted && !is_escaped;
            ends
        });
        Word { text: &self.rest[..end.unwrap_or(self.rest.len())], line: self.number, column: self.column }
    }

    /// The next word; empty at the end.
    pub(super) fn word(&mut self) -> Word<'a> {
        let word = self.peek();
        self.rest = &self.rest[word.text.len()..];
        self.column += word.text.chars().count();
        self.skip_space();
        word
    }

    /// Reads a word that must stand here.
    pub(super) fn expect(&mut self, word: &str) -> Result<()> {
        let found = self.word();
        if found.text == word { Ok(()) } else { Err(found.unknown(&format!("`{word}`"), &[word])) }
    }

    /// The value of `key=value`, which must stand here.
    pub(super) fn field(&mut self, key: &str) -> Result<Word<'a>> {
        let found = self.word();
        let value = found.text.strip_prefix(key).and_then(|rest| rest.strip_prefix('='));
        value.map(|value| found.part(value)).ok_or_else(|| {
            let written = found.text.split('=').next().unwrap_or_default();
            let help = found.part(written).unknown("", &[key]).help;
            TextError { help, ..found.error(format!("`{key}=…`")) }
        })
    }

    /// The value of `key=value`, if that stands here.
    pub(super) fn field_if_any(&mut self, key: &str) -> Option<Word<'a>> {
        let word = self.peek();
        let value = word.text.strip_prefix(key)?.strip_prefix('=')?;
        self.word();
        Some(word.part(value))
    }

    /// Reads a list's own index.
    pub(super) fn index(&mut self, expected: usize) -> Result<()> {
        let found = self.word();
        let is_next = found.text.parse() == Ok(expected);
        if is_next { Ok(()) } else { Err(found.error(format!("{expected}, the next number"))) }
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.is_over() { Ok(()) } else { Err(self.word().error("the end of the line")) }
    }
}
