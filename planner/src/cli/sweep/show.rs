//! The points of a sweep as text, as JSON, as a table of numbers and as a page.

use std::path::{Path, PathBuf};

use ir::units::{Bytes, Seconds};
use reports::{Grid, Standard, SweepPoint, SweepReport, write_sweep};
use serde_json::{Value, json};

use super::super::costs::rounded;
use super::super::failure::Failure;
use super::super::json::plan as plan_document;
use super::super::output::{columns, show, show_painted, write_whole};
use super::super::plan::Question;
use super::super::table::{Side, Table, indented};
use super::super::text;
use super::super::words::{SizeUnit, TimeUnit, one_line, percent, plan_label, short_count, thousands};
use super::point::{Point, Reached, efficient};
use crate::options::{Form, PlanOptions, TrainingOptions, Varied};

/// How points are shown, and what they have in common.
pub(super) struct Shown {
    varied: Varied,
    form: Form,
    training: TrainingOptions,
    csv: Option<PathBuf>,
    report: Option<PathBuf>,
    title: String,
    facts: Vec<(String, String)>,
}

impl Shown {
    pub(super) fn new(base: &Question, options: &PlanOptions, varied: Varied) -> Shown {
        let row = |name: &str, value: String| (name.to_owned(), value);
        let cluster = &base.devices.cluster;
        Shown {
            varied,
            form: options.form.form(),
            training: options.training,
            csv: options.sweep.csv.clone(),
            report: options.report.clone(),
            title: format!("{} on {}, by {}", base.model.name, cluster.device.name, axis(varied)),
            facts: vec![
                row("Model", text::model_line(&base.model)),
                row("Cluster", text::cluster_line(cluster)),
                row("Batch", format!("{} sequences", thousands(base.batch))),
                row("Prices", one_line(&text::prices(base))),
            ],
        }
    }

    /// Shows points in all forms that were asked for.
    pub(super) fn show(&self, points: &[Point]) -> Result<(), Failure> {
        let mut written = Vec::new();
        if let Some(path) = &self.csv {
            write_whole(path, &self.numbers(points)?)?;
            written.push(path.display().to_string());
        }
        if let Some(folder) = &self.report {
            written.push(self.page(points, folder)?);
        }
        let last = self.last_line(points, &written);
        match self.form {
            Form::Json => show(&format!("{:#}\n", self.document(points, &written))),
            Form::LastLine => show(&last),
            Form::Text => {
                let mut text = String::new();
                for (name, value) in &self.facts {
                    text += &format!("{name:<9} {}\n", text::wrapped(value));
                }
                let below = ["plan", "devices of a node", "MFU", "peak", "tokens/s a device"];
                text += &format!("\n{}", self.table(points).within(columns(), &[], &below));
                for note in self.notes() {
                    text += &indented(&note, 2, columns().unwrap_or(usize::MAX));
                }
                show_painted(&(text + "\n" + &last))
            }
        }
    }

    fn notes(&self) -> Vec<String> {
        let cost = match self.varied {
            Varied::Memory => "less memory",
            Varied::Devices | Varied::Batch | Varied::Sequence => "fewer device-hours a token",
        };
        vec![
            "efficiency: tokens/s of a device beside the first point that has a plan.".to_owned(),
            format!("*: no other point is as fast for {cost}, or faster for as much."),
        ]
    }

    fn table(&self, points: &[Point]) -> Table {
        let reached = || points.iter().filter_map(Point::reached);
        let time = TimeUnit::of(reached().map(|each| each.step).fold(Seconds::ZERO, Seconds::max));
        let size = SizeUnit::of(reached().map(|each| each.peak).max().unwrap_or(Bytes::ZERO));
        let mut table = Table::new(&[
            (axis(self.varied), Side::Right),
            ("nodes", Side::Right),
            ("devices of a node", Side::Right),
            ("", Side::Left),
            ("step", Side::Right),
            ("tokens/s", Side::Right),
            ("tokens/s a device", Side::Right),
            ("efficiency", Side::Right),
            ("MFU", Side::Right),
            ("peak", Side::Right),
            ("days", Side::Right),
            ("cost", Side::Right),
            ("plan", Side::Left),
        ]);
        let first = reached().next();
        for (point, is_efficient) in points.iter().zip(efficient(self.varied, points)) {
            let mut cells = vec![thousands(point.value)];
            let is_shaped = self.varied == Varied::Devices && point.nodes[0] > 0;
            cells.extend(point.nodes.map(|count| if is_shaped { count.to_string() } else { String::new() }));
            match &point.outcome {
                Err(why) => {
                    cells.extend(std::iter::repeat_n(String::new(), 9));
                    cells.push(why.clone());
                }
                Ok(each) => {
                    let [days, cost] = self.bill(each);
                    cells.extend([
                        if is_efficient { "*" } else { "" }.to_owned(),
                        time.show(each.step),
                        each.speed.cell(),
                        short_count(each.speed.of_each()),
                        first.map_or(String::new(), |first| percent(efficiency(first, each))),
                        format!("{:.1} %", each.share_of_peak * 100.0),
                        size.show(each.peak),
                        days.map_or(String::new(), rounded),
                        cost.map_or(String::new(), rounded),
                        plan_label(&each.plan),
                    ]);
                }
            }
            table.push(cells);
        }
        table
    }

    /// Days and cost of the training that was asked for.
    fn bill(&self, reached: &Reached) -> [Option<f64>; 2] {
        let tokens = self.training.tokens;
        let days = tokens.map(|tokens| reached.speed.days(tokens));
        let hours = tokens.map(|tokens| tokens / 1e9 * reached.device_hours);
        [days, hours.zip(self.training.price).map(|(hours, price)| hours * price)]
    }

    fn document(&self, points: &[Point], written: &[String]) -> Value {
        let first = points.iter().find_map(Point::reached);
        let marks = efficient(self.varied, points);
        let document = |(point, is_efficient): (&Point, bool)| {
            let [nodes, each] = point.nodes;
            let mut value = json!({
                "value": point.value,
                "nodes": nodes,
                "devices_per_node": each,
                "failure": point.outcome.as_ref().err(),
            });
            if let (Some(first), Some(reached)) = (first, point.reached()) {
                value["step_seconds"] = json!(reached.step);
                value["peak_bytes"] = json!(reached.peak);
                value["speed"] = reached.speed.data(self.training);
                value["model_flops_per_second_per_device"] = json!(reached.rate);
                value["share_of_peak"] = json!(reached.share_of_peak);
                value["device_hours_per_billion_tokens"] = json!(reached.device_hours);
                value["efficiency"] = json!(efficiency(first, reached));
                value["efficient"] = json!(is_efficient);
                value["plan"] = plan_document(&reached.plan);
            }
            value
        };
        let points: Vec<Value> = points.iter().zip(marks).map(document).collect();
        json!({ "format": 1, "sweep": self.varied.word(), "points": points, "written": written })
    }

    /// The points as a table of numbers, with the names of JSON.
    fn numbers(&self, points: &[Point]) -> Result<String, Failure> {
        let mut table = csv::Writer::from_writer(Vec::new());
        let failed = |error: csv::Error| Failure::wrong(format!("cannot write the table: {error}"));
        let value = match self.varied {
            Varied::Memory => "memory_gib",
            Varied::Devices | Varied::Batch | Varied::Sequence => self.varied.word(),
        };
        let names = "step_seconds tokens_per_second tokens_per_second_per_device efficiency share_of_peak peak_bytes \
                     device_hours_per_billion_tokens training_days training_price efficient plan failure";
        let head = [value, "nodes", "devices_per_node"].into_iter().chain(names.split_whitespace());
        table.write_record(head).map_err(failed)?;
        let first = points.iter().find_map(Point::reached);
        for (point, is_efficient) in points.iter().zip(efficient(self.varied, points)) {
            let mut cells = vec![point.value.to_string()];
            cells.extend(point.nodes.map(|count| count.to_string()));
            match (&point.outcome, first) {
                (Ok(each), Some(first)) => {
                    let bill = self.bill(each).map(|number| number.map_or(String::new(), |number| number.to_string()));
                    let numbers = [
                        each.step.0,
                        each.speed.tokens_per_second(),
                        each.speed.of_each(),
                        efficiency(first, each),
                        each.share_of_peak,
                    ];
                    cells.extend(numbers.map(|number| number.to_string()));
                    cells.extend([each.peak.0.to_string(), each.device_hours.to_string()]);
                    cells.extend(bill);
                    cells.extend([is_efficient.to_string(), plan_label(&each.plan), String::new()]);
                }
                (Ok(_), None) => unreachable!("a point with a plan is the first, or stands behind it"),
                (Err(why), _) => {
                    cells.extend(std::iter::repeat_n(String::new(), 11));
                    cells.push(why.clone());
                }
            }
            table.write_record(&cells).map_err(failed)?;
        }
        let bytes = table.into_inner().expect("memory can be written");
        Ok(String::from_utf8(bytes).expect("cells are text"))
    }

    fn page(&self, points: &[Point], folder: &Path) -> Result<String, Failure> {
        let price = self.training.price.unwrap_or(1.0);
        let marks = efficient(self.varied, points);
        let drawn = points.iter().zip(&marks).filter_map(|(point, &is_efficient)| {
            let reached = point.reached()?;
            Some(SweepPoint {
                value: point.value as f64,
                mark: thousands(point.value),
                label: plan_label(&reached.plan),
                tokens_per_second: reached.speed.tokens_per_second(),
                cost: reached.device_hours * price,
                standard: if is_efficient { Standard::Efficient } else { Standard::Surpassed },
            })
        });
        let drawn: Vec<SweepPoint> = drawn.collect();
        let table = Grid { notes: self.notes(), ..self.table(points).grid(&[], "plan") };
        let report = SweepReport {
            title: &self.title,
            axis: axis(self.varied),
            cost: if self.training.price.is_some() {
                "price of a billion tokens"
            } else {
                "device-hours of a billion tokens"
            },
            facts: &self.facts,
            points: &drawn,
            table: &table,
        };
        let paths = write_sweep(folder, &report).map_err(Failure::wrong)?;
        Ok(paths.first().map_or_else(|| folder.to_owned(), Clone::clone).display().to_string())
    }

    /// The fastest point and the one with the least cost, and what was written.
    fn last_line(&self, points: &[Point], written: &[String]) -> String {
        let reached = || points.iter().filter_map(|point| Some((point, point.reached()?)));
        let fastest = reached().min_by(|a, b| b.1.speed.tokens_per_second().total_cmp(&a.1.speed.tokens_per_second()));
        let least = reached().min_by(|a, b| a.1.device_hours.total_cmp(&b.1.device_hours));
        let wrote = if written.is_empty() { String::new() } else { format!("Wrote {}: ", written.join(", ")) };
        let (Some((fastest, fast)), Some((least, cheap))) = (fastest, least) else {
            let words = if points.is_empty() { "no point was finished" } else { "no point has a plan" };
            return format!("{wrote}{words}\n");
        };
        let word = self.varied.word();
        format!(
            "{wrote}fastest with {word} {} ({} tokens/s), fewest device-hours a token with {word} {} ({} for a billion)\n",
            thousands(fastest.value),
            short_count(fast.speed.tokens_per_second()),
            thousands(least.value),
            rounded(cheap.device_hours)
        )
    }
}

/// The name of what varies, with its unit.
fn axis(varied: Varied) -> &'static str {
    match varied {
        Varied::Devices => "devices",
        Varied::Batch => "batch",
        Varied::Memory => "memory (GiB)",
        Varied::Sequence => "sequence",
    }
}

/// Tokens a second of a device beside those of the first point.
fn efficiency(first: &Reached, each: &Reached) -> f64 {
    each.speed.of_each() / first.speed.of_each()
}
