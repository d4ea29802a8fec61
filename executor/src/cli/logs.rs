//! Files beside the printed lines, with every step: a table of comma-separated values, and events for TensorBoard.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::failure::{Failure, Outcome};
use super::show::{Row, now};
use super::tensorboard::EventFile;
use crate::options::Options;

/// Files under way; those that could not be written any more are left.
#[derive(Default)]
pub(crate) struct Logs {
    table: Option<(File, PathBuf)>,
    events: Option<EventFile>,
}

/// The folder of a file.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Logs {
    /// Opens what was asked for. A training that goes on keeps the lines of the steps that it has behind it.
    ///
    /// # Errors
    /// A file cannot be written, or the table is another one.
    pub(crate) fn open(options: &Options, steps_done: u64) -> Outcome<Logs> {
        let table = match &options.csv {
            Some(path) => Some((table(path, steps_done)?, path.clone())),
            None => None,
        };
        let events = match &options.tensorboard {
            Some(folder) => Some(EventFile::new(folder, now()).map_err(|error| Failure::folder(folder, &error))?),
            None => None,
        };
        Ok(Logs { table, events })
    }

    /// Where they are.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let events = self.events.as_ref().map(|events| events.path().to_owned());
        self.table.iter().map(|(_, path)| path.clone()).chain(events).collect()
    }

    /// Adds a step; words if a file could not be written, which is then given up.
    pub(crate) fn row(&mut self, row: &Row) -> Result<(), String> {
        let (values, time) = (values(row), now());
        let mut result = Ok(());
        if let Some((mut file, path)) = self.table.take() {
            match file.write_all(line(row.step, &values, time).as_bytes()) {
                Ok(()) => self.table = Some((file, path)),
                Err(error) => result = Err(format!("{}: {error}", path.display())),
            }
        }
        if let Some(mut events) = self.events.take() {
            let there: Vec<(&str, f64)> = values.iter().filter_map(|&(name, value)| Some((name, value?))).collect();
            match events.scalars(row.step, time, &there) {
                Ok(()) => self.events = Some(events),
                Err(error) => result = Err(format!("{}: {error}", events.path().display())),
            }
        }
        result
    }
}

/// The numbers of a step under the names that all outputs have for them.
fn values(row: &Row) -> [(&'static str, Option<f64>); 9] {
    [
        ("loss", Some(row.loss)),
        ("held_out_loss", row.evaluation),
        ("step_seconds", Some(row.time.0)),
        ("tokens_per_second", Some(row.tokens_per_second)),
        ("model_flops_per_second_per_device", Some(row.rate.0)),
        ("share_of_peak", row.share_of_peak),
        ("learning_rate", Some(row.learning_rate)),
        ("gradient_norm", Some(row.gradient_norm)),
        ("peak_bytes", Some(row.peak.as_f64())),
    ]
}

const HEADER: &str = "step,loss,held_out_loss,step_seconds,tokens_per_second,model_flops_per_second_per_device,\
                      share_of_peak,learning_rate,gradient_norm,peak_bytes,unix_seconds\n";

fn line(step: u64, values: &[(&str, Option<f64>)], unix_seconds: f64) -> String {
    let cells = values.iter().map(|(_, value)| value.map_or(String::new(), |value| value.to_string()));
    let cells: Vec<String> = cells.collect();
    format!("{step},{},{unix_seconds:.3}\n", cells.join(","))
}

/// The table with its header and the lines of steps that are behind a training that goes on.
fn table(path: &Path, steps_done: u64) -> Outcome<File> {
    let wrong = |error: &io::Error| Failure::wrong_use(format!("{}: cannot be written: {error}", path.display()));
    let mut kept = HEADER.to_owned();
    if steps_done > 0 && path.exists() {
        let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let Some(rows) = text.strip_prefix(HEADER) else {
            let what = format!("{}: is no table of steps, and would be overwritten", path.display());
            return Err(Failure::wrong_use(what).help("give another file to --csv"));
        };
        let is_behind = |line: &&str| {
            let step = line.split(',').next().and_then(|step| step.parse::<u64>().ok());
            line.ends_with('\n') && step.is_some_and(|step| step <= steps_done)
        };
        kept.extend(rows.split_inclusive('\n').filter(is_behind));
    }
    let mut file = File::create(path).map_err(|error| wrong(&error))?;
    file.write_all(kept.as_bytes()).map_err(|error| wrong(&error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use ir::units::{Bytes, FlopsPerSecond, Seconds};

    use super::*;

    #[test]
    fn the_header_names_the_cells() {
        let row = Row {
            step: 7,
            loss: 2.5,
            tokens_per_second: 10.0,
            rate: FlopsPerSecond(1e9),
            share_of_peak: None,
            time: Seconds(0.5),
            predicted: None,
            peak: Bytes(64),
            learning_rate: 1e-3,
            gradient_norm: 1.5,
            evaluation: None,
            traced: false,
        };
        let names: Vec<&str> = values(&row).iter().map(|(name, _)| *name).collect();
        assert_eq!(format!("step,{},unix_seconds\n", names.join(",")), HEADER);
        assert_eq!(line(7, &values(&row), 1.0), "7,2.5,,0.5,10,1000000000,,0.001,1.5,64,1.000\n");
    }
}
