//! The answer on unlike devices as text.

use std::fmt::Write as _;

use hetu_planner::{Candidate, Seated};
use ir::units::{Bytes, FlopsPerSecond, Seconds};
use reports::{device_peak, model_flops};

use super::pool::{Offer, Pool};
use super::{Kind, Question, used};
use crate::cli::costs::Speed;
use crate::cli::input::Origin;
use crate::cli::losers::{composition, reason};
use crate::cli::output::columns;
use crate::cli::table::{Side, Table};
use crate::cli::text::{cluster_line, fitted, model_line, trust, wrapped};
use crate::cli::words::{
    SizeUnit, TimeUnit, counted, degree_range, percent, schedule_word, strategy_words, tensor_cell,
};

/// What is told.
pub(super) struct Answer<'a> {
    pub(super) question: &'a Question,
    pub(super) pool: &'a Pool,
    /// Which plan was written, from 0.
    pub(super) picked: usize,
    pub(super) elapsed: Seconds,
    pub(super) written: &'a [String],
}

impl Answer<'_> {
    fn best(&self) -> &Offer {
        &self.pool.offers[self.picked]
    }

    /// All but the last line.
    pub(super) fn text(&self) -> String {
        let Answer { question, pool, .. } = self;
        let best = self.best();
        let mut text = String::new();
        let mut line = |key: &str, value: String| writeln!(text, "{key:<9} {value}").expect("a string can grow");
        line("Model", model_line(&question.asked.model));
        for words in cluster_lines(question) {
            line("Cluster", fitted(words));
        }
        line("Prices", fitted(prices(question)));
        line("Searched", wrapped(&format!("{}, in {:.2} s", pool.words(question), self.elapsed.0)));
        text += &format!("\n{}\n", self.plans());
        text += &format!(
            "Stages of the {} plan\n{}\n",
            ordinal(self.picked),
            stages(question, &best.seated).within(columns(), &[], &[])
        );
        if question.fleet.parts.len() > 1 {
            text += &format!("{}\n", self.alone().within(columns(), &[], &["beside the best"]));
        }
        let mut line = |key: &str, value: String| writeln!(text, "{key:<9} {value}").expect("a string can grow");
        line("Devices", fitted(devices(question, &best.seated)));
        if self.picked > 0 {
            line("Picked", format!("number {}", self.picked + 1));
        }
        let candidate = &best.seated.candidate;
        line("Speed", Speed::on(candidate.plan.rank_count(), question.tokens(), best.step()).words());
        line("Rate", rate(question, &best.seated));
        if let Some(cost) = &best.cost {
            line("Cost", cost.words());
        }
        line("Trust", fitted(trust(candidate)));
        text
    }

    fn plans(&self) -> String {
        let Answer { question, pool, .. } = self;
        let of = |offer: &Offer| offer.seated.candidate.clone();
        let time = TimeUnit::of(pool.offers.iter().map(Offer::step).fold(Seconds::ZERO, Seconds::max));
        let size =
            SizeUnit::of(pool.offers.iter().map(|offer| offer.seated.candidate.peak).max().unwrap_or(Bytes::ZERO));
        let mut table = Table::new(&[
            ("#", Side::Right),
            ("stages on", Side::Left),
            ("devices", Side::Right),
            ("microbatches", Side::Right),
            ("schedule", Side::Left),
            ("data", Side::Right),
            ("tensor", Side::Right),
            ("shard", Side::Left),
            ("recompute", Side::Left),
            ("step", Side::Right),
            ("cost of a step", Side::Right),
            ("peak", Side::Right),
            ("why", Side::Left),
        ])
        .best_first();
        let first = of(&pool.offers[0]);
        for (index, offer) in pool.offers.iter().enumerate() {
            let Seated { candidate, parts } = &offer.seated;
            let plan = &candidate.plan;
            let [shard, recompute] = strategy_words(plan);
            let interval = time.range(question.costs.interval(&candidate.trace, parts));
            let is_slower = candidate.trace.step >= first.trace.step;
            table.push(vec![
                (index + 1).to_string(),
                way(|part| question.name(part), parts),
                plan.rank_count().to_string(),
                plan.microbatches.to_string(),
                if plan.stages.len() > 1 { schedule_word(plan.schedule) } else { "" }.to_owned(),
                degree_range(plan, |strategy| strategy.data),
                tensor_cell(plan),
                shard,
                recompute,
                format!("{} ({interval})", time.show(candidate.trace.step)),
                offer.cost.as_ref().map_or(String::new(), |cost| cost.cell()),
                size.show(candidate.peak),
                match index {
                    0 => composition(&first),
                    _ if is_slower => reason(&first, candidate),
                    _ => "faster, and dearer".to_owned(),
                },
            ]);
        }
        table.within(columns(), &[], &["why", "schedule", "recompute", "shard"])
    }

    /// What each part gives alone.
    fn alone(&self) -> Table {
        let Answer { question, pool, .. } = self;
        let best = self.best().step();
        let mut table = Table::new(&[
            ("one part alone", Side::Left),
            ("devices", Side::Right),
            ("step", Side::Right),
            ("cost of a step", Side::Right),
            ("beside the best", Side::Left),
        ]);
        let steps = pool.alone.iter().flatten().map(Offer::step);
        let time = TimeUnit::of(steps.fold(best, Seconds::max));
        for (part, found) in question.fleet.parts.iter().zip(&pool.alone) {
            table.push(match found {
                Ok(offer) => vec![
                    part.name.clone(),
                    offer.seated.candidate.plan.rank_count().to_string(),
                    time.show(offer.step()),
                    offer.cost.as_ref().map_or(String::new(), |cost| cost.cell()),
                    format!("{:.2} × as long", offer.step().0 / best.0),
                ],
                Err(reason) => vec![part.name.clone(), String::new(), String::new(), String::new(), reason.clone()],
            });
        }
        table
    }

    /// What was written, and how good it is.
    pub(super) fn last_line(&self) -> String {
        let Answer { question, pool, written, .. } = self;
        let best = self.best();
        let fitting =
            pool.alone.iter().zip(&question.fleet.parts).filter_map(|(found, part)| Some((found.as_ref().ok()?, part)));
        let fastest = fitting.min_by(|a, b| a.0.step().0.total_cmp(&b.0.step().0));
        let words = match fastest {
            _ if question.fleet.parts.len() == 1 => match &best.cost {
                Some(cost) => {
                    format!("a step of {} costs {}", TimeUnit::of(best.step()).show(best.step()), cost.cell())
                }
                None => format!("a step takes {}", TimeUnit::of(best.step()).show(best.step())),
            },
            None => "no part alone has memory for it".to_owned(),
            Some((alone, part)) => {
                let step = TimeUnit::of(alone.step()).show(alone.step());
                match alone.step().0 / best.step().0 {
                    ratio if ratio > 1.005 => {
                        format!("{ratio:.2} × faster than the best plan on {} alone ({step})", part.name)
                    }
                    ratio if ratio < 0.995 => {
                        format!("{:.2} × as long as the fastest plan, on {} alone ({step})", 1.0 / ratio, part.name)
                    }
                    _ => format!("as fast as the best plan on {} alone ({step})", part.name),
                }
            }
        };
        format!("Wrote {}: {words}\n", written.join(", "))
    }
}

fn ordinal(index: usize) -> String {
    if index == 0 { "first".to_owned() } else { format!("picked (number {})", index + 1) }
}

/// On which parts stages lie, along the pipeline: `1 × H100, 2 × A100-80GB`.
pub(super) fn way<'a>(name: impl Fn(usize) -> &'a str, parts: &[usize]) -> String {
    let runs = parts.chunk_by(|a, b| a == b);
    runs.map(|run| format!("{} × {}", run.len(), name(run[0]))).collect::<Vec<_>>().join(", ")
}

/// The parts, and what stays free of each.
fn cluster_lines(question: &Question) -> Vec<String> {
    let mut lines = Vec::new();
    let fleet = &question.fleet;
    if question.kind == Kind::Unlike {
        let between = &fleet.between;
        let joined = format!("joined by {} ({})", between.name, between.rate);
        lines.push(format!("{}: {}, {joined}", fleet.name, counted(fleet.parts.len() as u64, "part")));
    }
    for (part, headroom) in fleet.parts.iter().zip(&question.headrooms) {
        let device = &part.device;
        let price = device.price_per_hour.map_or(String::new(), |price| {
            let currency = device.currency.as_ref().map_or(String::new(), |currency| format!(" {currency}"));
            format!(", {price}{currency} a device-hour")
        });
        let free =
            if headroom.share > 0.0 { format!(", {} stay free", percent(headroom.share)) } else { String::new() };
        lines.push(cluster_line(part) + &price + &free);
    }
    lines
}

fn prices(question: &Question) -> String {
    if let Some(profile) = &question.profile {
        let samples = counted(profile.samples.len() as u64, "measurement");
        return format!("{samples} on {}; the rest by formula", profile.device);
    }
    match &question.origin {
        Origin::File(path) => format!("modelled from {}", path.display()),
        Origin::Preset(_) | Origin::Detected | Origin::Published => "modelled from the shipped descriptions".to_owned(),
    }
}

/// What each stage of a plan is and does.
pub(super) fn stages(question: &Question, seated: &Seated) -> Table {
    let Seated { candidate, parts } = seated;
    let plan = &candidate.plan;
    let size = SizeUnit::of(candidate.peak);
    let mut table = Table::new(&[
        ("stage", Side::Right),
        ("on", Side::Left),
        ("devices", Side::Right),
        ("layers", Side::Left),
        ("count", Side::Right),
        ("peak", Side::Right),
        ("of", Side::Right),
        ("computes", Side::Right),
        ("waits", Side::Right),
    ]);
    let ranks = plan.rank_count() / plan.stages.len() as u32;
    for (stage, (layers, &part)) in plan.stages.iter().zip(parts).enumerate() {
        let totals = &candidate.trace.totals[stage];
        let share = |time: Seconds| percent(time.0 / candidate.trace.step.0);
        table.push(vec![
            stage.to_string(),
            question.name(part).to_owned(),
            ranks.to_string(),
            format!("{}..{}", layers.start, layers.end),
            layers.len().to_string(),
            size.show(totals.arena),
            size.show(question.roomy[part].capacity()),
            share(totals.compute),
            share(totals.idle),
        ]);
    }
    table
}

/// How many devices of each part are used, and how many stay idle.
fn devices(question: &Question, seated: &Seated) -> String {
    let ranks = seated.candidate.plan.rank_count() / seated.parts.len() as u32;
    let of = |part: usize| seated.parts.iter().filter(|&&other| other == part).count() as u32 * ranks;
    let all = question.fleet.parts.iter().enumerate();
    let words =
        all.map(|(part, cluster)| format!("{} of {} {}", of(part), cluster.device_count(), question.name(part)));
    words.collect::<Vec<_>>().join(", ")
}

/// How much of what the used devices could do is done, of the operations of the model (MFU).
fn rate(question: &Question, seated: &Seated) -> String {
    let Candidate { plan, trace, .. } = &seated.candidate;
    let all = model_flops(&question.graph, question.batch) / trace.step;
    let peaks = used(&question.fleet, seated);
    let peak: f64 = peaks.iter().map(|(part, count)| device_peak(part, plan.precision).0 * f64::from(*count)).sum();
    let each = FlopsPerSecond(all.0 / f64::from(plan.rank_count()));
    format!("{each} of the model per device, {:.1} % of the peak of those used", all.0 / peak * 100.0)
}
