//! The top of the page: the plan in a sentence, and the numbers that matter most.

use std::fmt::Write as _;

use ir::model::Precision;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::units::Seconds;

use super::escape;
use crate::compare::largest_arena;
use crate::quantity::{Unit, count, counted, median, percent, signed_percent, size, time};
use crate::verdict::Standing;
use crate::{Card, Comparison, Report, StepRecord};

/// Title, sentence and cards.
pub(super) fn html(report: &Report<'_>, comparison: Option<&Comparison>) -> String {
    let mut html = String::from("<header>\n");
    let _ = writeln!(html, "<h1>{}</h1>", escape(report.title));
    if let Some(verdict) = report.verdict {
        let class = match verdict.standing {
            Standing::Within | Standing::NoInterval => "verdict",
            Standing::Shorter | Standing::Longer | Standing::OtherDevices => "verdict off",
        };
        let _ = writeln!(html, "<p class=\"{class}\">{}</p>", escape(&verdict.sentence).replace(" %", "\u{a0}%"));
    }
    let _ = writeln!(html, "<p class=\"lead\">{}</p>", escape(&sentence(report.plan)));
    html.push_str("<div class=\"cards\">\n");
    for card in cards(report, comparison) {
        let [name, value, detail] =
            [&card.name, &card.value, &card.detail].map(|text| escape(text).replace(" %", "\u{a0}%"));
        let _ = writeln!(html, "<div><small>{name}</small><strong>{value}</strong><span>{detail}</span></div>");
    }
    html.push_str("</div>\n</header>\n");
    html
}

fn card(name: &str, value: String, detail: String) -> Card {
    Card { name: name.to_owned(), value, detail }
}

fn cards(report: &Report<'_>, comparison: Option<&Comparison>) -> Vec<Card> {
    let mut cards = Vec::new();
    if let Some(predicted) = report.predicted {
        let unit = Unit::of_times(predicted.step);
        let detail = report.between.map_or("simulated".to_owned(), |[low, high]| {
            format!(
                "simulated; measured steps are expected between {} and {}",
                unit.show_time(low),
                unit.show_time(high)
            )
        });
        cards.push(card("Step, predicted", unit.show_time(predicted.step), detail));
    }
    // One step says little on a machine that others use, too: the median of all is what a training takes.
    let middle = median(report.steps.iter().map(|record| record.time));
    if let Some(measured) = middle.or(report.measured.map(|trace| trace.step)) {
        let traced = report.measured.map_or("none traced".to_owned(), |trace| format!("traced: {}", time(trace.step)));
        let detail = match middle {
            Some(_) => format!("median of {}; {traced}", counted(report.steps.len(), "step")),
            None => "one traced step".to_owned(),
        };
        cards.push(card("Step, measured", time(measured), detail));
        if report.predicted.is_some() && report.unlike.is_some() {
            let detail = "predicted for other devices than these".to_owned();
            cards.push(card("Error of the prediction", "–".to_owned(), detail));
        } else if let Some(predicted) = report.predicted
            && measured.0 > 0.0
        {
            let error = |measured: Seconds| signed_percent(predicted.step.0 / measured.0 - 1.0);
            let detail = match comparison.and_then(|comparison| comparison.step.error) {
                Some(traced) if middle.is_some() => {
                    format!("of the median step; {} of the traced one", signed_percent(traced))
                }
                Some(_) => "of the traced step".to_owned(),
                None => "of the median step".to_owned(),
            };
            cards.push(card("Error of the prediction", error(measured), detail));
        }
    }
    let peak = report.measured.or(report.predicted).map_or(report.programs.peak(), largest_arena);
    let share = peak.as_f64() / report.capacity.as_f64().max(1.0);
    cards.push(card("Peak memory of a rank", size(peak), format!("{} of {}", percent(share), size(report.capacity))));
    cards.extend(training(report.steps));
    cards.extend(report.choice.iter().flat_map(|choice| choice.cards.iter().cloned()));
    cards
}

fn training(steps: &[StepRecord]) -> Vec<Card> {
    let [Some(first), Some(last)] = [steps.first(), steps.last()] else { return Vec::new() };
    let mut rates: Vec<f64> = steps.iter().map(|record| record.tokens_per_second).collect();
    rates.sort_by(f64::total_cmp);
    let rate = count(rates[rates.len() / 2].round().max(0.0) as u64);
    let loss = format!("after step {}; {:.3} at step {}", last.step, first.loss, first.step);
    vec![
        card("Tokens per second", rate, format!("median of {}", counted(steps.len(), "step"))),
        card("Training loss", format!("{:.3} nats", last.loss), loss),
    ]
}

/// The plan in one sentence.
fn sentence(plan: &Plan) -> String {
    let layers = counted(plan.strategies.len(), "layer");
    let place = match plan.stages.len() {
        1 => format!("{layers} on {}", counted(plan.rank_count() as usize, "rank")),
        stages => format!("{layers} in {stages} pipeline stages on {} ranks", plan.rank_count()),
    };
    let schedule = match plan.schedule {
        Schedule::AllForward => "all forward passes before all backward passes",
        Schedule::OneForwardOneBackward => "one forward, one backward",
    };
    let microbatches = match (plan.microbatches, plan.stages.len()) {
        (1, _) => "one microbatch".to_owned(),
        (number, 1) => format!("{number} microbatches"),
        (number, _) => format!("{number} microbatches, {schedule}"),
    };
    let precision = match plan.precision {
        Precision::Full => "32-bit numbers",
        Precision::Mixed => "bf16 with 32-bit states",
    };
    let runs = plan.counts();
    let strategies = match runs.iter().next() {
        Some((strategy, _)) if runs.len() == 1 => format!("each layer {}", words(strategy)),
        Some(_) | None => format!("{} different strategies", runs.len()),
    };
    format!("{place}: {strategies}; {} sequences a step in {microbatches}; {precision}.", plan.batch)
}

/// A strategy in words.
pub(super) fn words(strategy: &Strategy) -> String {
    let mut parts = Vec::new();
    if strategy.data > 1 {
        parts.push(format!("data × {}", strategy.data));
    }
    if strategy.tensor > 1 {
        let split = if strategy.sequence == Sequence::Split { " with the sequence split" } else { "" };
        parts.push(format!("tensor × {}{split}", strategy.tensor));
    }
    if parts.is_empty() {
        parts.push("whole on one rank".to_owned());
    }
    match strategy.shard {
        Shard::Nothing => {}
        Shard::Optimizer => parts.push("optimizer states sharded".to_owned()),
        Shard::Gradients => parts.push("gradients and optimizer states sharded".to_owned()),
        Shard::Parameters => parts.push("parameters, gradients and optimizer states sharded".to_owned()),
    }
    match strategy.recompute {
        Recompute::Nothing => {}
        Recompute::Selective => parts.push("norms and activations computed again".to_owned()),
        Recompute::Full => parts.push("everything computed again".to_owned()),
    }
    parts.join(", ")
}
