//! What is wrong with a file that a person wrote: where, what, and what would help.

use std::fmt;

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// Line, from 1, if it is known.
    pub line: Option<usize>,
    /// Column, from 1, if it is known.
    pub column: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What would make it right.
    pub help: Option<String>,
}

/// Everything that was found wrong, in the order of lines; never empty as an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistake {
    /// A mistake of a whole file.
    pub fn new(file: &str, what: impl Into<String>) -> Mistake {
        Mistake { file: file.to_owned(), line: None, column: None, what: what.into(), help: None }
    }

    /// With advice.
    pub fn help(self, help: impl Into<String>) -> Mistake {
        Mistake { help: Some(help.into()), ..self }
    }

    /// At a line and column, both from 1.
    pub fn at(self, place: (usize, usize)) -> Mistake {
        Mistake { line: Some(place.0), column: Some(place.1), ..self }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistake {}
impl std::error::Error for Mistakes {}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Mistakes {
        Mistakes(vec![mistake])
    }
}

/// Text from a file as a message may show it: on one line, without control characters, and not too long.
pub fn shown(text: &str) -> String {
    const LENGTH_MAX: usize = 60;
    let mut shown: String = text.chars().take(LENGTH_MAX).flat_map(escaped).collect();
    if text.chars().nth(LENGTH_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn escaped(letter: char) -> Vec<char> {
    if letter.is_control() { letter.escape_default().collect() } else { vec![letter] }
}

/// The entry of `known` that was probably meant, if any is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const SIMILARITY_MIN: f64 = 0.7;
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_says_where_what_and_what_helps() {
        let mistake = Mistake::new("a.yaml", "unknown key `hiden`").at((12, 3)).help("did you mean `hidden`?");
        assert_eq!(mistake.to_string(), "error: a.yaml:12: unknown key `hiden`\n  help: did you mean `hidden`?");
    }

    #[test]
    fn shown_text_stays_on_one_short_line() {
        assert_eq!(shown("a\nb\u{1b}"), "a\\nb\\u{1b}");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), 61);
    }

    #[test]
    fn only_a_near_word_is_offered() {
        assert_eq!(nearest("hiden", ["hidden", "heads"]), Some("hidden"));
        assert_eq!(nearest("zzz", ["hidden", "heads"]), None);
    }
}
