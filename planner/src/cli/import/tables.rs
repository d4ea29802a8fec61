//! JSON files of names and numbers, and a list of what they lack.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::super::failure::Failure;
use super::super::input::read_text;

/// What files lack, a line each; read on with stand-ins, to name all of it at once.
#[derive(Default)]
pub(crate) struct Lacks(RefCell<Vec<String>>);

impl Lacks {
    /// Notes one, once.
    pub(crate) fn note(&self, line: String) {
        let mut lines = self.0.borrow_mut();
        if !lines.contains(&line) {
            lines.push(line);
        }
    }

    /// A failure with the first of them, if there are any.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let lines = self.0.into_inner();
        if lines.is_empty() {
            return Ok(());
        }
        let more = lines.len().saturating_sub(SHOWN);
        let mut text = lines[..lines.len().min(SHOWN)].join("\nerror: ");
        if more > 0 {
            text += &format!("\nerror: and {more} more");
        }
        Err(Failure::wrong(text).help("profile again with what is named, or correct the file"))
    }
}

/// How many are printed.
const SHOWN: usize = 12;

/// A file.
pub(crate) struct Table<'l> {
    name: String,
    entries: Map<String, Value>,
    lacks: &'l Lacks,
}

impl<'l> Table<'l> {
    /// The one JSON file of `folder`, or of its folder `inputs`, whose name begins with `prefix`. An empty table with a
    /// noted lack if there is none.
    pub(crate) fn open(folder: &Path, prefix: &str, lacks: &'l Lacks) -> Result<Self, Failure> {
        let name = format!("{}/{prefix}*.json", folder.display());
        let mut paths: Vec<PathBuf> = [folder.to_path_buf(), folder.join("inputs")]
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flat_map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(prefix) && name.ends_with(".json")
            })
            .collect();
        paths.sort();
        let path = match &paths[..] {
            [path] => path,
            [] => {
                lacks.note(format!("{name}: there is no such file; profile it, or copy it there"));
                return Ok(Self { name, entries: Map::new(), lacks });
            }
            [first, second, ..] => {
                let both = format!("{} and {} are both there", first.display(), second.display());
                return Err(Failure::wrong(both).help("leave one of them"));
            }
        };
        let name = path.display().to_string();
        let text = read_text(path)?;
        let entries = serde_json::from_str(&text).map_err(|error| {
            Failure::wrong(format!("{name}:{}: {error}", error.line())).help("expected a JSON object")
        })?;
        Ok(Self { name, entries, lacks })
    }

    /// All keys and values.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The positive number at a path of keys; 1 and a noted lack if there is none.
    pub(crate) fn number(&self, keys: &[&str]) -> f64 {
        let first = self.entries.get(keys[0]);
        let value = keys[1..].iter().fold(first, |value, key| value.and_then(|value| value.get(key)));
        self.positive(&keys.join("."), value)
    }

    /// The same of a value in hand.
    pub(crate) fn positive(&self, place: &str, value: Option<&Value>) -> f64 {
        let number = value.and_then(Value::as_f64);
        match (value, number) {
            (_, Some(number)) if (0.0..=NUMBER_MAX).contains(&number) => return number,
            (None, _) => self.lacks.note(format!("{}: {place} is missing; profile it", self.name)),
            (Some(value), _) => {
                self.lacks.note(format!("{}: {place} is {value}; expected a number from 0 to 1e12", self.name));
            }
        }
        1.0
    }

    /// The object under one of some keys; an empty one and a noted lack if there is none.
    pub(crate) fn object(&self, key: &str, choices: &[String]) -> (String, Map<String, Value>) {
        let parent = self.entries.get(key);
        for choice in choices {
            if let Some(Value::Object(object)) = parent.and_then(|parent| parent.get(choice)) {
                return (format!("{key}.{choice}"), object.clone());
            }
        }
        self.lacks.note(format!("{}: {key}.{} is missing; profile it", self.name, choices[0]));
        (format!("{key}.{}", choices[0]), Map::new())
    }

    /// Notes that something is missing.
    pub(crate) fn lack(&self, what: &str) {
        self.lacks.note(format!("{}: {what}", self.name));
    }
}

const NUMBER_MAX: f64 = 1e12;
