//! Values that may be anything, of which shells suggest some: the names of what is shipped.

use std::ffi::OsStr;

use clap::builder::{PathBufValueParser, PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error};
use ir::cluster::Cluster;
use ir::model::Model;

/// Reads any value, and suggests names.
#[derive(Clone)]
pub(crate) struct Suggested<P> {
    parser: P,
    names: fn() -> Vec<String>,
}

fn model_names() -> Vec<String> {
    Model::presets().map(str::to_owned).collect()
}

fn cluster_names() -> Vec<String> {
    Cluster::preset_devices().map(|name| format!("8x{name}")).collect()
}

/// All lists of names.
pub(crate) fn lists() -> [Vec<String>; 2] {
    [model_names(), cluster_names()]
}

impl Suggested<PathBufValueParser> {
    /// Paths; the shipped models.
    pub(crate) fn models() -> Self {
        Suggested { parser: PathBufValueParser::new(), names: model_names }
    }
}

impl Suggested<StringValueParser> {
    /// Words; a node of eight of each shipped device.
    pub(crate) fn clusters() -> Self {
        Suggested { parser: StringValueParser::new(), names: cluster_names }
    }
}

impl<P: TypedValueParser> TypedValueParser for Suggested<P> {
    type Value = P::Value;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<P::Value, Error> {
        self.parser.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.names)().into_iter().map(PossibleValue::new)))
    }
}
