//! Why a command ends without its result: a text for the user and an exit status.

use std::fmt;

use ir::error::{Mistake, Mistakes};

/// The end of a command that did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) status: u8,
    /// What is said on stderr; empty if it was said already.
    pub(crate) text: String,
}

impl Failure {
    /// Wrong use, or a file that cannot be read or written.
    pub(crate) fn wrong(what: impl fmt::Display) -> Failure {
        Failure { status: 2, text: format!("error: {what}") }
    }

    /// There is no plan, or a check failed.
    pub(crate) fn negative(text: impl Into<String>) -> Failure {
        Failure { status: 1, text: text.into() }
    }

    /// With advice.
    pub(crate) fn help(self, help: impl fmt::Display) -> Failure {
        Failure { text: format!("{}\n  help: {help}", self.text), ..self }
    }
}

impl From<Mistakes> for Failure {
    /// Mistakes print their own `error:`.
    fn from(mistakes: Mistakes) -> Failure {
        Failure { status: 2, text: mistakes.to_string() }
    }
}

impl From<Mistake> for Failure {
    fn from(mistake: Mistake) -> Failure {
        Failure::from(Mistakes::from(mistake))
    }
}
