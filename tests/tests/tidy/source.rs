//! Sources as the rules of this test see them: without comments and texts, as words, as functions.

use std::fs;
use std::path::{Path, PathBuf};

/// A Rust file.
pub(crate) struct Source {
    /// From the root of the repository.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// The same with blanks for comments, texts and characters.
    pub(crate) code: String,
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is in a folder of the root").to_owned()
}

/// All files below `folder` with this ending, from the root, in order.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect(&root().join(folder), ending, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            let relative = path.strip_prefix(root()).expect("it is below the root");
            found.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
}

/// The text of a file.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Rust files of these folders.
pub(crate) fn sources(folders: &[String]) -> Vec<Source> {
    let paths = folders.iter().flat_map(|folder| files(folder, ".rs"));
    let source = |path: String| {
        let text = read(&path);
        Source { code: code(&text), path, text }
    };
    paths.map(source).collect()
}

/// The text with a blank for each character of comments, texts and characters; lines stay.
pub(crate) fn code(text: &str) -> String {
    let mut rest = text;
    let mut code = String::with_capacity(text.len());
    while let Some(first) = rest.chars().next() {
        let before = code.chars().next_back().unwrap_or(' ');
        let length = hidden(rest, before);
        let taken = length.max(first.len_utf8());
        let blank = |letter: char| if letter == '\n' { '\n' } else { ' ' };
        if length > 0 {
            code.extend(rest[..taken].chars().map(blank));
        } else {
            code.push(first);
        }
        rest = &rest[taken..];
    }
    code
}

/// How many bytes at the start of `rest` are a comment, a text or a character; 0 if they are code.
fn hidden(rest: &str, before: char) -> usize {
    let is_start = !before.is_alphanumeric() && before != '_';
    let raw = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r');
    let hashes = raw.map_or(0, |raw| raw.len() - raw.trim_start_matches('#').len());
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        rest.find("*/").map_or(rest.len(), |end| end + 2)
    } else if let Some(raw) = raw.filter(|raw| is_start && raw[hashes..].starts_with('"')) {
        let start = rest.len() - raw.len() + hashes + 1;
        let end = format!("\"{}", "#".repeat(hashes));
        rest[start..].find(&end).map_or(rest.len(), |found| start + found + end.len())
    } else if rest.starts_with('"') {
        closed(rest, '"')
    } else if rest.starts_with('\'') && is_character(rest) {
        closed(rest, '\'')
    } else {
        0
    }
}

/// Whether a tick begins a character, not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut letters = rest.chars().skip(1);
    letters.next() == Some('\\') || letters.next() == Some('\'')
}

/// Bytes up to and with the closing quote.
fn closed(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (place, letter) in rest.char_indices().skip(1) {
        if letter == quote && !is_escaped {
            return place + 1;
        }
        is_escaped = letter == '\\' && !is_escaped;
    }
    rest.len()
}

/// The identifiers of code.
pub(crate) fn identifiers(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

/// The words that an identifier or a file name is made of, in small letters.
pub(crate) fn words(identifier: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in identifier.chars() {
        let starts = letter.is_uppercase() && before.is_lowercase();
        if (starts || !letter.is_alphanumeric()) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().expect("there is one").extend(letter.to_lowercase());
        }
        before = letter;
    }
    words
}

/// The functions of formatted code: line of each, and how many lines it has.
pub(crate) fn functions(code: &str) -> Vec<(usize, usize)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = code.lines().collect();
    // A name stands behind `fn`: what has none is a type.
    let is_function = |line: &str| {
        let starts = identifiers(line).take(5).any(|word| word == "fn") && line.contains("fn ");
        starts && !line.trim_end().ends_with(';')
    };
    let starts = lines.iter().enumerate().filter(|(_, line)| is_function(line));
    let with_end = starts.filter_map(|(start, line)| {
        let is_end =
            |other: &&&str| indent(other) == indent(line) && other.trim_end() == format!("{}}}", &line[..indent(line)]);
        let length = lines[start..].iter().position(|other| is_end(&other))?;
        Some((start + 1, length + 1))
    });
    with_end.filter(|&(start, _)| !lines[start - 1].trim_end().ends_with('}')).collect()
}

#[test]
fn comments_and_texts_are_not_code() {
    let text = "a // b\nc \"d \\\" e\" r#\"f \" g\"# 'h' '\\'' &'i j /* k */ l";
    let code = code(text);
    let found: Vec<&str> = identifiers(&code).collect();
    assert_eq!(found, ["a", "c", "i", "j", "l"]);
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn identifiers_are_words() {
    assert_eq!(words("OneForwardOneBackward"), ["one", "forward", "one", "backward"]);
    assert_eq!(words("live_bound.rs"), ["live", "bound", "rs"]);
}

#[test]
fn functions_end_where_their_brace_does() {
    assert_eq!(functions("fn a() {\n    if b {\n    }\n}\nfn c() {}\npub fn d(\n) {\n}\n"), [(1, 4), (6, 3)]);
}
