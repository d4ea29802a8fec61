//! Predictions of many runs beside what was measured, as a picture.

use crate::figure::{Colour, Dot, Entry, Figure, Line, Scale, Size, Stroke, Vertical, draw};

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Beside {
    /// Runs of one series have one colour.
    pub series: String,
    /// Its name.
    pub name: String,
    /// Seconds of a step, as measured; above 0.
    pub measured: f64,
    /// The same as predicted.
    pub predicted: f64,
}

/// Ratios beyond these lie on the edge.
const LEAST: f64 = 0.4;
const MOST: f64 = 1.6;

/// Colours of series, in their order; then again, with diamonds for dots.
const COLOURS: [Colour; 9] = [
    Colour::Blue,
    Colour::Orange,
    Colour::Teal,
    Colour::Purple,
    Colour::Gold,
    Colour::Pink,
    Colour::Brown,
    Colour::Sky,
    Colour::Grey,
];

/// Predicted over measured against the measured step, as SVG text; what the drawing says if there are no points.
pub fn svg(points: &[Beside]) -> Result<String, String> {
    let logs = || points.iter().map(|point| point.measured.log10());
    let (Some(from), Some(to)) = (logs().reduce(f64::min), logs().reduce(f64::max)) else {
        return Err("there is no run to draw".to_owned());
    };
    let mut series: Vec<&str> = points.iter().map(|point| point.series.as_str()).collect();
    series.sort_unstable();
    series.dedup();
    let horizontal = Scale::rounded("measured step (power of ten, in seconds)".to_owned(), from, to, 6);
    let level = |at: f64, colour, stroke, title: &str| Line {
        points: vec![(horizontal.from, at), (horizontal.to, at)],
        colour,
        stroke,
        title: title.to_owned(),
    };
    let lines = vec![
        level(1.0, Colour::Red, Stroke::Solid, "as measured"),
        level(0.9, Colour::Red, Stroke::Dashed, "10 % too fast"),
        level(1.1, Colour::Red, Stroke::Dashed, "10 % too slow"),
    ];
    let look = |name: &str| {
        let place = series.iter().position(|other| *other == name).expect("every point has a series");
        (COLOURS[place % COLOURS.len()], if place < COLOURS.len() { Size::Small } else { Size::Large })
    };
    let dots = points.iter().map(|point| {
        let ratio = point.predicted / point.measured;
        let (colour, size) = look(&point.series);
        Dot {
            at: (point.measured.log10(), ratio.clamp(LEAST, MOST)),
            colour,
            size,
            label: String::new(),
            title: format!("{}: measured {:.3} s, predicted {:.3} s", point.name, point.measured, point.predicted),
        }
    });
    let beyond = points.iter().filter(|point| !(LEAST..=MOST).contains(&(point.predicted / point.measured))).count();
    let mut legend: Vec<Entry> = series.iter().map(|name| entry(name, look(name))).collect();
    legend.push(Entry::line(Colour::Red, Stroke::Dashed, "10 % off"));
    let notes = if beyond > 0 { vec![format!("{beyond} runs lie beyond the edge.")] } else { Vec::new() };
    let figure = Figure {
        name: "replay",
        title: "Predicted over measured step of published runs".to_owned(),
        vertical: Vertical::Scale(Scale::rounded("predicted / measured".to_owned(), LEAST, MOST, 6)),
        lines,
        dots: dots.collect(),
        legend,
        notes,
        horizontal,
        ..Figure::default()
    };
    draw::svg(&figure)
}

fn entry(name: &str, (colour, size): (Colour, Size)) -> Entry {
    let shape = if size == Size::Large { " (diamonds)" } else { "" };
    Entry::dot(colour, &format!("{name}{shape}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_a_dot() {
        let run = |name: &str, predicted| Beside { series: "x".into(), name: name.into(), measured: 2.0, predicted };
        let text = svg(&[run("a", 1.8), run("b", 9.0)]).expect("there are two");
        assert_eq!(text.matches("<circle").count(), 3, "two and the legend's");
        assert!(text.contains("1 runs lie beyond the edge."), "{text}");
        assert!(svg(&[]).is_err());
    }

    #[test]
    fn series_of_one_colour_differ_in_shape() {
        let run = |series: String| Beside { name: series.clone(), series, measured: 2.0, predicted: 2.0 };
        let runs: Vec<Beside> = (0..=COLOURS.len()).map(|index| run(format!("s{index:02}"))).collect();
        let text = svg(&runs).expect("there are runs");
        assert_eq!(text.matches("(diamonds)").count(), 1, "{text}");
        assert!(text.contains("s09 (diamonds)"), "{text}");
    }
}
