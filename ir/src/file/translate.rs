//! The YAML reader's errors in the words of our files.

use crate::error::{Mistake, nearest, shown};

/// How the deserialiser's messages begin, after the path of the value.
const STARTS: [&str; 7] = [
    "unknown field `",
    "unknown variant `",
    "missing field `",
    "duplicate field `",
    "invalid type: ",
    "invalid value: ",
    "invalid length ",
];

/// A mistake that says what to write instead.
pub(crate) fn translate(error: &serde_yaml::Error, text: &str, file: &str) -> Mistake {
    let mut message = error.to_string();
    let mut mistake = Mistake::new(file, "");
    if let Some(location) = error.location() {
        let place = (location.line(), location.column());
        message = message.replacen(&format!(" at line {} column {}", place.0, place.1), "", 1);
        mistake = mistake.at(place);
    }
    let start = STARTS.iter().filter_map(|start| message.find(start)).min();
    let Some(start) = start else { return unshaped(mistake, &message) };
    let (path, fault) = message.split_at(start);
    if let Some(key) = fault.strip_prefix(STARTS[3]) {
        mistake = at_second(mistake, key.trim_end_matches('`'), text);
    }
    let path = shown(path.trim_end_matches(": "));
    reworded(mistake, &path, fault)
}

/// Errors without a value to point at, and those that our own types raise.
fn unshaped(mistake: Mistake, message: &str) -> Mistake {
    let (what, help) = match message {
        "repetition limit exceeded" => ("aliases repeat too much", "write the values out"),
        "recursion limit exceeded" => ("nested too deeply", "these files need four levels"),
        "EOF while parsing a value" => ("the file ends too early", "see examples/ for whole files"),
        "unknown anchor" => ("this alias repeats nothing: there is no anchor of its name", "write the value out"),
        _ if message.starts_with("deserializing from YAML containing more than one document") => {
            ("more than one document", "remove the line `---` and what follows")
        }
        _ => return Mistake { what: quoted_path(&shown_whole(message)), ..mistake },
    };
    Mistake { what: what.to_owned(), ..mistake }.help(help)
}

/// The path before the first colon as code.
fn quoted_path(message: &str) -> String {
    match message.split_once(": ") {
        Some((path, rest)) if !path.contains(' ') => format!("`{path}`: {rest}"),
        Some(_) | None => message.to_owned(),
    }
}

/// A message of the reader itself may be long, but not hold control characters.
fn shown_whole(message: &str) -> String {
    message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn reworded(mistake: Mistake, path: &str, fault: &str) -> Mistake {
    let inside = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
    let subject = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
    let unknown = |kind: &str, rest: &str, place: &str| {
        let (word, known) = rest.rsplit_once("`, expected ").unwrap_or((rest, ""));
        let what = format!("unknown {kind} `{}`{place}", shown(word));
        Mistake { what, help: Some(choices(kind, word, known)), ..mistake.clone() }
    };
    if let Some(rest) = fault.strip_prefix(STARTS[0]) {
        return unknown("key", rest, &inside);
    }
    if let Some(rest) = fault.strip_prefix(STARTS[1]) {
        return unknown("value", rest, &inside.replacen(" in ", " of ", 1));
    }
    let what = if let Some(rest) = fault.strip_prefix(STARTS[2]) {
        format!("missing key `{}`{inside}", rest.trim_end_matches('`'))
    } else if let Some(rest) = fault.strip_prefix(STARTS[3]) {
        format!("key `{}` stands twice{inside}", rest.trim_end_matches('`'))
    } else {
        let rest = STARTS[4..].iter().find_map(|start| fault.strip_prefix(start)).unwrap_or(fault);
        let (found, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, "something else"));
        let found = if fault.starts_with(STARTS[6]) { format!("{found} of them") } else { shown(&plain_found(found)) };
        format!("{subject} must be {}, not {found}", plain(expected))
    };
    Mistake { what, ..mistake }
}

/// The reader places a repeated key where its mapping begins; in block style its second line can be found.
fn at_second(mistake: Mistake, key: &str, text: &str) -> Mistake {
    let (Some(line), Some(column)) = (mistake.line, mistake.column) else { return mistake };
    let indent = " ".repeat(column - 1);
    let is_key = |line: &str| {
        let after = line.strip_prefix(&indent).and_then(|line| line.strip_prefix(key));
        after.is_some_and(|after| after.trim_start().starts_with(':'))
    };
    let second = text.lines().enumerate().skip(line - 1).filter(|(_, line)| is_key(line)).nth(1);
    match second {
        Some((index, _)) => mistake.at((index + 1, column)),
        None => mistake,
    }
}

/// Advice from the list in the message: ``expected one of `a`, `b` ``.
fn choices(kind: &str, word: &str, known: &str) -> String {
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    if known.is_empty() {
        return "no key is allowed here".to_owned();
    }
    let listed = format!("{kind}s here: {}", known.join(", "));
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?  ({listed})"),
        None => listed,
    }
}

/// What was found, without the names that a programming language has for it.
fn plain_found(found: &str) -> String {
    let found = found.trim_end_matches(" as u128").trim_end_matches(" as i128");
    match found {
        "unit value" => "nothing".to_owned(),
        "sequence" => "a list".to_owned(),
        "map" => "a mapping".to_owned(),
        _ => ["integer ", "floating point ", "boolean "]
            .iter()
            .find_map(|kind| found.strip_prefix(kind))
            .unwrap_or(found)
            .to_owned(),
    }
}

/// What was expected, for people who know no Rust.
fn plain(expected: &str) -> String {
    match expected {
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "f64" | "f32" => "a number".to_owned(),
        "a string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping of keys".to_owned(),
        "an array of length 2" => "a list of 2 numbers".to_owned(),
        _ if expected.starts_with("struct ") => "a mapping of keys".to_owned(),
        "a YAML tag starting with '!'" => "one of the known words".to_owned(),
        "field identifier" => "a mapping whose keys are words".to_owned(),
        _ if expected.contains("enum ") || expected.contains("variant") => "one of the known words".to_owned(),
        _ => expected.to_owned(),
    }
}
