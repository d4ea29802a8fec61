//! `--sweep`: the best plan for each of several values of one thing, side by side.

mod point;
mod show;

use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use super::failure::Failure;
use super::output::{check_folder, check_writable};
use super::plan::{Question, read_question};
use crate::options::{Form, MethodName, PlanOptions, Sweep};
use point::Point;
use show::Shown;

/// Points as they are found, and where they go.
struct Sought {
    /// In the order of the values; none where nothing is known yet.
    points: Mutex<Vec<Option<Point>>>,
    shown: Shown,
}

impl Sought {
    /// Shows the points that are done; no other caller comes behind it.
    fn finish(&self) -> Result<usize, Failure> {
        let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        let done: Vec<Point> = points.iter().flatten().cloned().collect();
        self.shown.show(&done)?;
        let with_plan = done.iter().filter(|point| point.reached().is_some()).count();
        // Kept for good: an interrupt that comes now would show all again.
        std::mem::forget(points);
        Ok(with_plan)
    }
}

/// Plans for each value of a sweep.
pub(super) fn sweep(options: &PlanOptions, sweep: &Sweep) -> Result<(), Failure> {
    let base = read_question(options)?;
    if options.method == MethodName::Exhaustive {
        return Err(Failure::wrong("--sweep cannot enumerate all plans of every point").help("use --method dp"));
    }
    let method = options.method.method()?;
    options.sweep.csv.as_deref().map_or(Ok(()), check_writable)?;
    options.report.as_deref().map_or(Ok(()), check_folder)?;
    let form = options.form.form();
    let sought = Arc::new(Sought {
        points: Mutex::new(vec![None; sweep.values.len()]),
        shown: Shown::new(&base, options, sweep.varied),
    });
    show_at_interrupt(&sought)?;
    let bar = bar(form, sweep.values.len());
    sweep.values.par_iter().enumerate().for_each(|(index, &value)| {
        let point = Point::of(&base, (sweep.varied, value), &method, options.keep as usize);
        sought.points.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(point);
        bar.inc(1);
    });
    bar.finish_and_clear();
    match sought.finish()? {
        0 => Err(Failure::negative(String::new())),
        _ => Ok(()),
    }
}

fn bar(form: Form, points: usize) -> ProgressBar {
    let bar = if form == Form::LastLine { ProgressBar::hidden() } else { ProgressBar::new(points as u64) };
    bar.set_style(
        ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed}").expect("the template is valid"),
    );
    bar.set_message("points");
    bar.tick();
    bar
}

/// From now on an interrupt shows the points that are done, and ends the command with status 130.
fn show_at_interrupt(sought: &Arc<Sought>) -> Result<(), Failure> {
    let sought = Arc::clone(sought);
    let handler = move || {
        super::output::complain("\ninterrupted: points that were not finished are missing");
        if let Err(failure) = sought.finish() {
            super::output::complain(&failure.text);
        }
        std::process::exit(130);
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::wrong(format!("cannot catch interrupts: {error}")))
}

impl Question {
    /// The cost of a token: device-hours of a billion of them.
    fn device_hours_per_billion(&self, tokens_per_second: f64) -> f64 {
        f64::from(self.devices.cluster.device_count()) / tokens_per_second * 1e9 / 3600.0
    }
}
