//! Plans to choose from: on all parts, and where money or a limit counts, on fewer devices of each.

use cost_model::CostModel;
use hetu_planner::{FleetFound, Found, Mixed, Progress, Request, Seated, Setting, search, search_fleet};
use indicatif::{ProgressBar, ProgressStyle};
use ir::cluster::Cluster;
use ir::units::Seconds;

use super::{Question, used};
use crate::cli::failure::Failure;
use crate::cli::money::{Cost, digits};
use crate::cli::no_plan;
use crate::cli::words::{TimeUnit, counted};
use crate::options::{Form, Objective, PlanOptions};

/// A plan, and what it costs if prices are known.
pub(super) struct Offer {
    pub(super) seated: Seated,
    pub(super) cost: Option<Cost>,
}

impl Offer {
    pub(super) fn step(&self) -> Seconds {
        self.seated.candidate.trace.step
    }

    fn cost_of_step(&self) -> f64 {
        self.cost.as_ref().map_or(f64::INFINITY, |cost| cost.step)
    }
}

/// What was looked at, and what came of it.
pub(super) struct Pool {
    /// Plans within limits, the best first; never empty.
    pub(super) offers: Vec<Offer>,
    /// The best plan on each part alone, or why there is none.
    pub(super) alone: Vec<Result<Offer, String>>,
    pub(super) mixed: Mixed,
    /// Outer choices of parts alone, and plans that were simulated for them.
    pub(super) choices: [usize; 2],
    /// Counts of devices of each part alone that were looked at.
    pub(super) counts: Vec<Vec<u32>>,
}

impl Pool {
    pub(super) fn new(question: &Question, options: &PlanOptions) -> Result<Pool, Failure> {
        let bar = progress_bar(options);
        let progress = |done: usize, all: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        };
        let found = search_fleet(&question.request(options)?, &progress);
        let FleetFound { seated, alone, mixed } = found
            .map_err(|reasons| no_plan::failure(&question.asked.path, reasons.first().expect("a fleet has a part")))?;
        let offer = |seated: Seated| {
            let cost = Cost::of(&used(&question.fleet, &seated), seated.candidate.trace.step, question.tokens());
            Offer { seated, cost }
        };
        let mut counts: Vec<Vec<u32>> = question.roomy.iter().map(|part| vec![part.device_count()]).collect();
        let mut choices = [0, 0];
        alone.iter().flatten().for_each(|found| add(&mut choices, found));
        let mut offers: Vec<Offer> = seated.into_iter().map(offer).collect();
        if options.money.is_asked() {
            for (part, counts) in counts.iter_mut().enumerate() {
                for smaller in smaller(&question.roomy[part]) {
                    counts.push(smaller.device_count());
                    if let Some(found) = on_fewer(question, options, &smaller, &progress)? {
                        add(&mut choices, &found);
                        let seat = |candidate: hetu_planner::Candidate| Seated {
                            parts: vec![part; candidate.plan.stages.len()],
                            candidate,
                        };
                        offers.extend(found.candidates.into_iter().map(seat).map(offer));
                    }
                }
                counts.sort_unstable();
            }
        }
        bar.finish_and_clear();
        let alone = alone.into_iter().enumerate().map(|(part, found)| {
            let found = found.map_err(|reason| reason.to_string())?;
            let candidate = found.candidates.into_iter().next().expect("a search that finds something has plans");
            Ok(offer(Seated { parts: vec![part; candidate.plan.stages.len()], candidate }))
        });
        let alone = alone.collect();
        Ok(Pool { offers: ranked(offers, options)?, alone, mixed, choices, counts })
    }
}

fn add(choices: &mut [usize; 2], found: &Found) {
    choices[0] += found.effort.outer;
    choices[1] += found.effort.simulated;
}

/// Drawn only where stderr is a terminal.
fn progress_bar(options: &PlanOptions) -> ProgressBar {
    if options.form.form() == Form::LastLine {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed}").expect("the template is valid");
    ProgressBar::new(0).with_style(style).with_message("plans")
}

/// The same devices, fewer of them: whole nodes by powers of two, and parts of one node.
fn smaller(part: &Cluster) -> Vec<Cluster> {
    let powers = |most: u32| (0..32).map(|shift| 1_u32 << shift).take_while(move |count| *count < most);
    let of_node =
        powers(part.devices_per_node).map(|count| Cluster { nodes: 1, devices_per_node: count, ..part.clone() });
    of_node.chain(powers(part.nodes).map(|nodes| Cluster { nodes, ..part.clone() })).collect()
}

/// The plans on fewer devices, if any fits.
fn on_fewer(
    question: &Question,
    options: &PlanOptions,
    cluster: &Cluster,
    progress: Progress<'_>,
) -> Result<Option<Found>, Failure> {
    let costs = CostModel::new(cluster, question.profile.as_ref());
    let all = question.request(options)?;
    let setting = Setting { graph: &question.graph, cluster, costs: &costs, precision: all.precision, line: None };
    let request = Request { setting, batch: all.batch, method: all.method, keep: all.keep, rules: all.rules };
    Ok(search(&request, progress).ok())
}

/// Plans within the limits, the best of what is asked for first.
fn ranked(mut offers: Vec<Offer>, options: &PlanOptions) -> Result<Vec<Offer>, Failure> {
    let money = options.money;
    let least = |of: &dyn Fn(&Offer) -> f64| offers.iter().map(of).fold(f64::INFINITY, f64::min);
    let (fastest, cheapest) = (least(&|offer| offer.step().0), least(&Offer::cost_of_step));
    let within = |offer: &Offer| {
        money.max_step.is_none_or(|most| offer.step() <= most)
            && money.max_cost.is_none_or(|most| offer.cost_of_step() <= most)
    };
    offers.retain(within);
    if offers.is_empty() {
        let step = Seconds(fastest);
        let mut found = vec![format!("the fastest plan takes {}", TimeUnit::of(step).show(step))];
        if cheapest.is_finite() {
            found.push(format!("the cheapest costs {} a step", digits(cheapest)));
        }
        let limits = [
            money.max_step.map(|most| format!("--max-step {}", TimeUnit::of(most).show(most))),
            money.max_cost.map(|most| format!("--max-cost {most}")),
        ];
        let limits = limits.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        return Err(Failure::negative(format!("error: no plan was found within {limits}: {}", found.join(", ")))
            .help("allow more, or ask for fewer sequences in a step with --batch"));
    }
    match money.objective {
        // Those that tie stay in the order in which they were found.
        Objective::Time if !money.is_asked() => {}
        Objective::Time => offers.sort_by(|a, b| a.step().0.total_cmp(&b.step().0)),
        Objective::Money => offers.sort_by(|a, b| {
            a.cost_of_step().total_cmp(&b.cost_of_step()).then_with(|| a.step().0.total_cmp(&b.step().0))
        }),
    }
    offers.truncate(options.keep as usize);
    Ok(offers)
}

impl Pool {
    /// What was looked at, in words.
    pub(super) fn words(&self, question: &Question) -> String {
        let counts = self.counts.iter().enumerate().map(|(part, counts)| {
            let counts = counts.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            format!("{counts} {}", question.name(part))
        });
        let [outer, simulated] = self.choices;
        let mut words = format!(
            "{} of stages, microbatches and degrees on {} alone, {}",
            counted(outer as u64, "choice"),
            counts.collect::<Vec<_>>().join("; "),
            counted(simulated as u64, "plan") + " simulated"
        );
        if question.fleet.parts.len() > 1 {
            let Mixed { ways, solved, simulated } = self.mixed;
            words += &format!(
                "; {} over several parts that may be faster, {solved} solved, {simulated} plans simulated",
                counted(ways as u64, "pipeline")
            );
        }
        words
    }
}
