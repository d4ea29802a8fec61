//! How the loss falls.

use crate::Report;
use crate::figure::{Colour, Dot, Entry, Figure, Line, Scale, Size, Stroke, Vertical};

/// The loss of each step, and of held-out tokens where it was asked for.
pub(crate) fn figure(report: &Report<'_>) -> Option<Figure> {
    let steps = report.steps;
    let train: Vec<(f64, f64)> = steps.iter().map(|record| (record.step as f64, record.loss)).collect();
    let held_out: Vec<(f64, f64)> =
        steps.iter().filter_map(|record| Some((record.step as f64, record.evaluation?))).collect();
    let losses = || train.iter().chain(&held_out).map(|&(_, loss)| loss).filter(|loss| loss.is_finite());
    let least = losses().reduce(f64::min)?;
    let most = losses().reduce(f64::max)?;
    let room = ((most - least) * 0.04).max(1e-3);
    let [first, last] = [steps.first()?.step as f64, steps.last()?.step as f64];
    let mut figure = Figure {
        name: "loss",
        title: "Loss of each step".to_owned(),
        horizontal: Scale::whole("step".to_owned(), first, last, 8),
        vertical: Vertical::Scale(Scale::rounded("loss (nats per token)".to_owned(), least - room, most + room, 5)),
        ..Figure::default()
    };
    let finite = |points: &[(f64, f64)]| points.iter().copied().filter(|(_, loss)| loss.is_finite()).collect();
    let line = |points: Vec<(f64, f64)>, colour, name: &str| {
        let last = points.last().map_or(0.0, |&(_, loss)| loss);
        Line { points, colour, stroke: Stroke::Solid, title: format!("{name}: {last:.4} nats at the end") }
    };
    figure.lines.push(line(finite(&train), Colour::Blue, "training"));
    figure.legend.push(Entry::line(Colour::Blue, Stroke::Solid, "training"));
    if !held_out.is_empty() {
        figure.lines.push(line(finite(&held_out), Colour::Orange, "held out"));
        figure.legend.push(Entry::line(Colour::Orange, Stroke::Solid, "held out"));
        figure.dots.extend(held_out.iter().filter(|(_, loss)| loss.is_finite()).map(|&at| Dot {
            at,
            colour: Colour::Orange,
            size: Size::Small,
            label: String::new(),
            title: format!("held out, after step {}: {:.4} nats", at.0, at.1),
        }));
    }
    let lost = train.iter().filter(|(_, loss)| !loss.is_finite()).count();
    if lost > 0 {
        figure.notes.push(format!("The loss of {lost} steps is not a number and is left out."));
    }
    Some(figure)
}
