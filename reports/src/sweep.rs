//! A page of several plans: how throughput and cost go with what was varied, and which points are worth their cost.

use std::fs;
use std::path::{Path, PathBuf};

use crate::choice::Grid;
use crate::figure::{Colour, Dot, Entry, Figure, Line, Scale, Size, Stroke, Vertical};
use crate::{ReportError, page, put_figures, put_texts};

/// All that a page of several plans can show.
#[derive(Clone, Copy, Debug)]
pub struct SweepReport<'a> {
    /// What it is about, in a few words.
    pub title: &'a str,
    /// What was varied, with its unit.
    pub axis: &'a str,
    /// What cost is counted in.
    pub cost: &'a str,
    /// What all points have in common: names and values, with units.
    pub facts: &'a [(String, String)],
    /// Points that have a plan, by what was varied.
    pub points: &'a [SweepPoint],
    /// All points, those without a plan too.
    pub table: &'a Grid,
}

/// What one plan comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepPoint {
    /// What was varied; above 0.
    pub value: f64,
    /// The same in words.
    pub mark: String,
    /// The plan in a few words.
    pub label: String,
    /// Of all devices together.
    pub tokens_per_second: f64,
    /// In the unit of the report.
    pub cost: f64,
    /// Beside the other points.
    pub standard: Standard,
}

/// Whether a point is worth its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// No other is as fast for less.
    Efficient,
    /// Another is as fast for less, or faster for as much.
    Surpassed,
}

/// Writes `sweep.html`, and a picture of each plot as `.svg` and `.png`, into `folder`, which is made if there is none.
/// Gives back the paths, the page first.
///
/// # Errors
/// Whatever the file system refuses.
pub fn write_sweep(folder: &Path, report: &SweepReport<'_>) -> Result<Vec<PathBuf>, ReportError> {
    fs::create_dir_all(folder).map_err(|source| ReportError::File { path: folder.to_owned(), source })?;
    let figures = figures(report);
    let mut written = put_texts(folder, vec![("sweep.html".to_owned(), page::sweep_html(report, &figures))])?;
    written.extend(put_figures(folder, &figures)?);
    Ok(written)
}

/// Throughput and cost over what was varied, and over each other; none where no point has a plan.
fn figures(report: &SweepReport<'_>) -> Vec<Figure> {
    if report.points.is_empty() {
        return Vec::new();
    }
    let value = |point: &SweepPoint| point.value;
    let rate = |point: &SweepPoint| point.tokens_per_second;
    let cost = |point: &SweepPoint| point.cost;
    let all = |of: fn(&SweepPoint) -> f64| report.points.iter().map(of).collect::<Vec<f64>>();
    let across = || Scale::logarithmic_at(report.axis.to_owned(), &all(value));
    let (rates, costs) = (
        || Scale::logarithmic("tokens/s".to_owned(), &all(rate)),
        || Scale::logarithmic(report.cost.to_owned(), &all(cost)),
    );
    let words = [("throughput", "Throughput"), ("cost", "Cost"), ("frontier", "Throughput for its cost")];
    let parts = [
        (across(), rates(), value as fn(&SweepPoint) -> f64, rate as fn(&SweepPoint) -> f64),
        (across(), costs(), value, cost),
        (costs(), rates(), cost, rate),
    ];
    let drawn = words.into_iter().zip(parts).map(|((name, title), (horizontal, vertical, x, y))| Figure {
        name,
        title: title.to_owned(),
        horizontal,
        vertical: Vertical::Scale(vertical),
        lines: lines(report, name, x, y),
        dots: report.points.iter().map(|point| dot(report, point, (x(point), y(point)))).collect(),
        legend: vec![
            Entry::dot(Colour::Orange, "efficient: no other is as fast for less"),
            Entry::dot(Colour::Grey, "surpassed"),
        ],
        ..Figure::default()
    });
    drawn.collect()
}

/// Through all points, or, in the plot of throughput over cost, through those that are efficient.
fn lines(report: &SweepReport<'_>, name: &str, x: fn(&SweepPoint) -> f64, y: fn(&SweepPoint) -> f64) -> Vec<Line> {
    let is_frontier = name == "frontier";
    let shown = report.points.iter().filter(|point| !is_frontier || point.standard == Standard::Efficient);
    let mut points: Vec<(f64, f64)> = shown.map(|point| (x(point), y(point))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (colour, title) =
        if is_frontier { (Colour::Orange, "efficient points") } else { (Colour::Blue, "the best plan of each point") };
    vec![Line { points, colour, stroke: Stroke::Solid, title: title.to_owned() }]
}

fn dot(report: &SweepReport<'_>, point: &SweepPoint, at: (f64, f64)) -> Dot {
    let (colour, size) = match point.standard {
        Standard::Efficient => (Colour::Orange, Size::Large),
        Standard::Surpassed => (Colour::Grey, Size::Small),
    };
    let SweepPoint { mark, label, tokens_per_second, cost, .. } = point;
    let title = format!("{mark}: {tokens_per_second:.0} tokens/s, {cost:.4} {}; {label}", report.cost);
    Dot { at, colour, size, label: mark.clone(), title }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_table_and_marks_efficient_points() {
        let point = |value, cost, standard| SweepPoint {
            value,
            mark: format!("{value}"),
            label: "a <plan>".to_owned(),
            tokens_per_second: 100.0 * value,
            cost,
            standard,
        };
        let points = [point(8.0, 1.0, Standard::Efficient), point(16.0, 1.5, Standard::Surpassed)];
        let table = Grid {
            rows: vec![vec!["8".to_owned()]],
            columns: vec![("devices".to_owned(), crate::Side::Right)],
            ..Grid::default()
        };
        let report = SweepReport {
            title: "tiny & more",
            axis: "devices",
            cost: "device-hours",
            facts: &[],
            points: &points,
            table: &table,
        };
        let drawn = figures(&report);
        assert_eq!(drawn.iter().map(|figure| figure.name).collect::<Vec<_>>(), ["throughput", "cost", "frontier"]);
        assert_eq!(drawn[2].lines[0].points, [(1.0, 800.0)]);
        let html = page::sweep_html(&report, &drawn);
        assert!(html.contains("tiny &amp; more") && html.contains("<td>8</td>") && !html.contains("<plan>"), "{html}");
        assert!(figures(&SweepReport { points: &[], ..report }).is_empty());
    }
}
