//! Why the tool ends early: the text for the user, and the exit status.

use std::fmt::Display;
use std::path::Path;

use ir::error::Mistakes;

/// What the user is told at the end.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Exit status: 1 the run failed, 2 wrong use or files.
    pub(crate) exit: u8,
    /// Begins with `error: `.
    pub(crate) text: String,
}

/// A result that may end the tool.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// Something to be changed in a flag or file.
    pub(crate) fn wrong_use(what: impl Display) -> Failure {
        Failure { exit: 2, text: format!("error: {what}") }
    }

    /// Something that went wrong on the way.
    pub(crate) fn run(what: impl Display) -> Failure {
        Failure { exit: 1, text: format!("error: {what}") }
    }

    /// With advice.
    pub(crate) fn help(self, help: impl Display) -> Failure {
        Failure { text: format!("{}\n  help: {help}", self.text), ..self }
    }

    /// A folder that cannot be written.
    pub(crate) fn folder(folder: &Path, error: &std::io::Error) -> Failure {
        Failure::wrong_use(format!("{}: cannot be written: {error}", folder.display()))
            .help("give a folder that you may write, or make room")
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Failure {
        Failure { exit: 2, text: mistakes.to_string() }
    }
}
