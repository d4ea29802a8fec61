//! What a little more of each resource would give (shadow prices), and which of them binds.

use cost_model::{CostModel, Factors};
use hetu_planner::{Candidate, Found, Request, Setting, candidate, search};
use ir::cluster::Cluster;
use ir::model::Precision;
use ir::plan::Plan;
use ir::units::{Bytes, Seconds};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::failure::Failure;
use super::input::Devices;
use super::json::plan as plan_document;
use super::output::columns;
use super::plan::{Question, setting};
use super::table::{Side, Table, indented};
use super::words::{TimeUnit, counted, plan_label, signed_percent};
use crate::options::PlanOptions;

/// What there could be more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Memory,
    Inside,
    Between,
    Devices,
    Products,
    MemoryRate,
}

/// A resource, some more of it, and the step with that.
pub(crate) struct Margin {
    resource: Resource,
    /// In the resource's unit.
    now: f64,
    more: f64,
    before: Seconds,
    after: Seconds,
    /// The plan that is then best, if it is another.
    other: Option<Plan>,
}

/// How much more memory is tried: of what there is.
const MORE_MEMORY: f64 = 0.05;
/// How much faster links, products and memory are tried.
const MORE_RATE: f64 = 0.1;
/// Steps change by less than this share because a search is not exact.
const NOTHING: f64 = 1e-3;

impl Resource {
    const ALL: [Resource; 6] = [
        Resource::Memory,
        Resource::Inside,
        Resource::Between,
        Resource::Devices,
        Resource::Products,
        Resource::MemoryRate,
    ];

    fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory of a device",
            Resource::Inside => "link inside a node",
            Resource::Between => "link between nodes",
            Resource::Devices => "devices",
            Resource::Products => "rate of products",
            Resource::MemoryRate => "rate of memory",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Resource::Memory => "GiB",
            Resource::Inside | Resource::Between | Resource::MemoryRate => "GB/s",
            Resource::Devices => "device",
            Resource::Products => "TFLOP/s",
        }
    }

    /// How much there is, in its unit.
    fn amount(self, cluster: &Cluster, precision: Precision) -> f64 {
        match self {
            Resource::Memory => cluster.device.memory.as_f64() / f64::from(1 << 30),
            Resource::Inside => cluster.inside.rate.0 / 1e9,
            Resource::Between => cluster.between.rate.0 / 1e9,
            Resource::Devices => cluster.device_count().into(),
            Resource::Products => match precision {
                Precision::Full => cluster.device.f32_rate.0 / 1e12,
                Precision::Mixed => cluster.device.bf16_rate.0 / 1e12,
            },
            Resource::MemoryRate => cluster.device.memory_rate.0 / 1e9,
        }
    }

    /// The cluster with a little more of it: a node where there are several, else a device.
    fn raised(self, cluster: &Cluster) -> Cluster {
        let mut more = cluster.clone();
        let device = &mut more.device;
        match self {
            Resource::Memory => device.memory = Bytes((device.memory.as_f64() * (1.0 + MORE_MEMORY)) as u64),
            Resource::Inside => more.inside.rate.0 *= 1.0 + MORE_RATE,
            Resource::Between => more.between.rate.0 *= 1.0 + MORE_RATE,
            Resource::Devices if cluster.nodes > 1 => more.nodes += 1,
            Resource::Devices => more.devices_per_node += 1,
            Resource::Products => {
                device.f32_rate.0 *= 1.0 + MORE_RATE;
                device.bf16_rate.0 *= 1.0 + MORE_RATE;
            }
            Resource::MemoryRate => device.memory_rate.0 *= 1.0 + MORE_RATE,
        }
        more
    }

    /// What measured prices become then: they know no rates.
    fn measured(self) -> Factors {
        let less = 1.0 / (1.0 + MORE_RATE);
        let same = Factors::default();
        match self {
            Resource::Memory | Resource::Devices => same,
            Resource::Inside => Factors { inside: less, ..same },
            Resource::Between => Factors { between: less, ..same },
            Resource::Products => Factors { products: less, attention: less, ..same },
            Resource::MemoryRate => Factors { memory: less, ..same },
        }
    }

    /// Whether plans are searched anew: rates of a device change all plans alike, so the best stays.
    fn is_searched(self) -> bool {
        match self {
            Resource::Memory | Resource::Inside | Resource::Between | Resource::Devices => true,
            Resource::Products | Resource::MemoryRate => false,
        }
    }
}

impl Margin {
    /// Seconds that a step is shorter for each unit more.
    fn price(&self) -> Seconds {
        Seconds((self.before.0 - self.after.0) / self.more)
    }

    /// By which share a step is shorter if there is one per cent more, over one per cent.
    fn elasticity(&self) -> f64 {
        (1.0 - self.after.0 / self.before.0) / (self.more / self.now)
    }

    fn is_felt(&self) -> bool {
        self.after.0 < self.before.0 * (1.0 - NOTHING)
    }
}

/// What more of each resource gives; links between nodes where there are some.
pub(crate) fn margins(question: &Question, options: &PlanOptions, found: &Found) -> Result<Vec<Margin>, Failure> {
    let best = fastest(found);
    let there = |resource: &Resource| *resource != Resource::Between || question.devices.cluster.nodes > 1;
    let resources: Vec<Resource> = Resource::ALL.into_iter().filter(there).collect();
    resources.into_par_iter().map(|resource| margin(question, options, best, resource)).collect()
}

/// The first of a list is the plainest of those that tie.
fn fastest(found: &Found) -> &Candidate {
    let shorter = |a: &&Candidate, b: &&Candidate| a.trace.step.0.total_cmp(&b.trace.step.0);
    found.candidates.iter().min_by(shorter).expect("a search that finds something has plans")
}

fn margin(question: &Question, options: &PlanOptions, best: &Candidate, resource: Resource) -> Result<Margin, Failure> {
    let (cluster, precision) = (&question.devices.cluster, question.model.training.precision);
    let raised = resource.raised(cluster);
    let [now, then] = [cluster, &raised].map(|cluster| resource.amount(cluster, precision));
    let devices = Devices { cluster: raised, origin: question.devices.origin.clone() };
    let asked = question.with(question.model.clone(), devices, question.batch);
    let costs = changed_costs(question, &asked, resource);
    let setting = Setting { costs: &costs, ..setting(&asked) };
    // What was legal stays so, and may be faster.
    let stays = candidate(setting, &best.plan).map_or(best.trace.step, |same| same.trace.step.min(best.trace.step));
    let mut margin = Margin { resource, now, more: then - now, before: best.trace.step, after: stays, other: None };
    if resource.is_searched() {
        let request = Request {
            setting,
            batch: question.batch,
            method: options.method.method()?,
            keep: options.keep as usize,
            rules: question.rules.clone(),
        };
        if let Ok(found) = search(&request, &|_, _| {}) {
            let anew = fastest(&found);
            if anew.trace.step.0 < stays.0 * (1.0 - NOTHING) && anew.plan != best.plan {
                (margin.after, margin.other) = (anew.trace.step, Some(anew.plan.clone()));
            }
        }
    }
    Ok(margin)
}

/// Prices with more of a resource: by its rate where prices are modelled, in proportion where some were measured.
fn changed_costs(question: &Question, asked: &Question, resource: Resource) -> CostModel {
    match (&question.profile, resource) {
        (None, _) | (Some(_), Resource::Memory | Resource::Devices) => asked.costs.clone(),
        (Some(_), Resource::Inside | Resource::Between | Resource::Products | Resource::MemoryRate) => {
            question.costs.scaled(resource.measured())
        }
    }
}

/// What of a device or of its links helps most if there is one per cent more of it, if any helps. More devices are more
/// of everything.
fn binding(margins: &[Margin]) -> Option<&Margin> {
    let felt = margins.iter().filter(|each| each.is_felt() && each.resource != Resource::Devices);
    felt.max_by(|a, b| a.elasticity().total_cmp(&b.elasticity()))
}

/// A table, and what binds.
pub(crate) fn text(margins: &[Margin]) -> String {
    let mut table = Table::new(&[
        ("resource", Side::Left),
        ("now", Side::Right),
        ("more", Side::Right),
        ("step", Side::Right),
        ("change", Side::Right),
        ("shadow price", Side::Left),
        ("by 1 % more", Side::Right),
        ("plan", Side::Left),
    ]);
    for each in margins {
        let (unit, time) = (each.resource.unit(), TimeUnit::of(each.before));
        let digits = if each.more < 10.0 { 1 } else { 0 };
        let price = each.price();
        table.push(vec![
            each.resource.name().to_owned(),
            if each.resource == Resource::Devices {
                counted(each.now as u64, unit)
            } else {
                format!("{:.1} {unit}", each.now)
            },
            format!("+{:.digits$}", each.more),
            time.show(each.after),
            signed_percent(each.after.0 / each.before.0 - 1.0),
            if each.is_felt() {
                format!("{} per {unit}", TimeUnit::of(price).show(price))
            } else {
                "nothing".to_owned()
            },
            if each.is_felt() { format!("−{:.2} %", each.elasticity()) } else { String::new() },
            each.other.as_ref().map_or("stays".to_owned(), plan_label),
        ]);
    }
    let words = match binding(margins) {
        None => "binding: nothing of a device or its links; more of none makes the step shorter".to_owned(),
        Some(most) => {
            let (name, share) = (most.resource.name(), most.elasticity());
            format!("binding: {name}; 1 % more of it makes the step {share:.2} % shorter")
        }
    };
    let notes = indented(&words, 2, columns().unwrap_or(usize::MAX));
    format!("What more of a resource gives\n{}{notes}", table.within(columns(), &[], &["plan", "now"]))
}

/// The same for machines.
pub(crate) fn document(margins: &[Margin]) -> Value {
    let each = |margin: &Margin| {
        json!({
            "resource": margin.resource.name(),
            "unit": margin.resource.unit(),
            "now": margin.now,
            "more": margin.more,
            "step_seconds": margin.after,
            "seconds_per_unit": margin.price(),
            "elasticity": margin.elasticity(),
            "plan": margin.other.as_ref().map(plan_document),
        })
    };
    json!({
        "resources": margins.iter().map(each).collect::<Vec<_>>(),
        "binding": binding(margins).map(|most| most.resource.name()),
    })
}
