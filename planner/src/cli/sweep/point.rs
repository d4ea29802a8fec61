//! One point of a sweep: the question with one thing changed, and its best plan.

use hetu_planner::{NOISE, NoPlan, Request, search};
use ir::cluster::Cluster;
use ir::file::{parse_cluster, parse_model, print_cluster, print_model};
use ir::model::Model;
use ir::plan::Plan;
use ir::units::{Bytes, Seconds};
use reports::{device_rate, model_flops};
use solver::Method;

use super::super::asked::check_rules;
use super::super::costs::Speed;
use super::super::failure::Failure;
use super::super::input::Devices;
use super::super::plan::{Question, setting};
use super::super::words::counted;
use crate::options::Varied;

/// A value and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub(super) value: u64,
    /// Nodes, and devices of each.
    pub(super) nodes: [u32; 2],
    pub(super) outcome: Result<Reached, String>,
}

/// The best plan of a point.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) plan: Plan,
    pub(super) step: Seconds,
    pub(super) peak: Bytes,
    pub(super) speed: Speed,
    /// Operations of the model a second, of each device, and their share of what it can do.
    pub(super) rate: f64,
    pub(super) share_of_peak: f64,
    /// Device-hours of a billion tokens, over all devices of the cluster.
    pub(super) device_hours: f64,
}

impl Point {
    /// The best plan where something has a value, or why there is none.
    pub(super) fn of(base: &Question, (varied, value): (Varied, u64), method: &Method, keep: usize) -> Point {
        let question = match changed(base, varied, value) {
            Ok(question) => question,
            Err(failure) => return Point { value, nodes: [0; 2], outcome: Err(said(&failure)) },
        };
        let cluster = &question.devices.cluster;
        let outcome = reached(&question, method, keep);
        Point { value, nodes: [cluster.nodes, cluster.devices_per_node], outcome }
    }

    pub(super) fn reached(&self) -> Option<&Reached> {
        self.outcome.as_ref().ok()
    }
}

/// What makes a point dear: memory, where that varies, else device-hours.
fn cost(varied: Varied, point: &Point, reached: &Reached) -> f64 {
    match varied {
        Varied::Memory => point.value as f64,
        Varied::Devices | Varied::Batch | Varied::Sequence => reached.device_hours,
    }
}

/// Which points are efficient: no other is as fast for less, nor faster for as much. Throughputs that differ by less
/// than predictions can tell are equal.
pub(super) fn efficient(varied: Varied, points: &[Point]) -> Vec<bool> {
    let known = |point: &Point| {
        let reached = point.reached()?;
        Some((reached.speed.tokens_per_second(), cost(varied, point, reached)))
    };
    let is_surpassed = |(rate, own): (f64, f64)| {
        let surpasses = |(other, cost): (f64, f64)| {
            (cost < own && other * (1.0 + NOISE) >= rate) || (cost <= own && other > rate * (1.0 + NOISE))
        };
        points.iter().filter_map(known).any(surpasses)
    };
    points.iter().map(|point| known(point).is_some_and(|own| !is_surpassed(own))).collect()
}

fn reached(question: &Question, method: &Method, keep: usize) -> Result<Reached, String> {
    check_rules(&question.rules, &question.graph, question.roomy(), question.batch)
        .map_err(|failure| said(&failure))?;
    let request = Request {
        setting: setting(question),
        batch: question.batch,
        method: method.clone(),
        keep,
        rules: question.rules.clone(),
    };
    let found = search(&request, &|_, _| {}).map_err(|reason| why(&reason))?;
    let best = &found.candidates[0];
    let cluster = &question.devices.cluster;
    let flops = model_flops(&question.graph, question.batch);
    let (rate, share_of_peak) = device_rate(flops, best.trace.step, cluster, best.plan.precision);
    let speed = Speed::of(&question.model, cluster, question.batch, best.trace.step);
    Ok(Reached {
        plan: best.plan.clone(),
        step: best.trace.step,
        peak: best.peak,
        speed,
        rate: rate.0,
        share_of_peak,
        device_hours: question.device_hours_per_billion(speed.tokens_per_second()),
    })
}

/// The question with one thing changed. What is changed obeys the rules of files.
fn changed(base: &Question, varied: Varied, value: u64) -> Result<Question, Failure> {
    let (mut model, mut cluster, mut batch) = (base.model.clone(), base.devices.cluster.clone(), base.batch);
    match varied {
        Varied::Devices => cluster = of_devices(&cluster, value)?,
        Varied::Batch => batch = value,
        Varied::Memory => cluster.device.memory = Bytes(value << 30),
        Varied::Sequence => model.sequence = value,
    }
    model.training.batch = batch;
    let place = format!("{}={value}", varied.word());
    let read = parse_cluster(&print_cluster(&cluster), &place).map(drop);
    read.and_then(|()| parse_model(&print_model(&model), &place).map(drop)).map_err(|mut mistakes| {
        // The text was never in a file: its lines mean nothing.
        mistakes.0.iter_mut().for_each(|mistake| mistake.line = None);
        Failure::from(mistakes)
    })?;
    Ok(base.changed(model, cluster, batch))
}

/// So many devices in as few equal nodes as can be, none larger than those there are.
fn of_devices(cluster: &Cluster, devices: u64) -> Result<Cluster, Failure> {
    let devices = u32::try_from(devices).map_err(|_| Failure::wrong(format!("{devices} devices are too many")))?;
    let least = devices.div_ceil(cluster.devices_per_node);
    let nodes = (least..=devices).find(|&nodes| devices.is_multiple_of(nodes)).unwrap_or(devices);
    let each = devices / nodes;
    let name = match nodes {
        1 => format!("{each}x{}", cluster.device.name),
        _ => format!("{nodes}x{each}x{}", cluster.device.name),
    };
    Ok(Cluster { name, nodes, devices_per_node: each, ..cluster.clone() })
}

/// A failure on one line, without what only stands on a terminal.
fn said(failure: &Failure) -> String {
    let first = failure.text.lines().next().unwrap_or_default();
    first.trim_start_matches("error: ").to_owned()
}

/// Why nothing was found, with what comes nearest.
fn why(reason: &NoPlan) -> String {
    match reason {
        NoPlan::NothingLegal { .. } => reason.to_string(),
        NoPlan::NothingFits { outer, shortage } => {
            format!(
                "{reason}: the least found needs {} ({}, {})",
                Bytes(shortage.need.bytes()),
                counted(outer.stages.into(), "stage"),
                counted(outer.microbatches.into(), "microbatch")
            )
        }
    }
}

impl Question {
    fn changed(&self, model: Model, cluster: Cluster, batch: u64) -> Question {
        self.with(model, Devices { cluster, origin: self.devices.origin.clone() }, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_as_few_equal_nodes_as_can_be() {
        let node = Cluster::preset("8xH100").expect("a shipped device");
        let shape = |devices| {
            let cluster = of_devices(&node, devices).expect("a count of devices");
            (cluster.nodes, cluster.devices_per_node, cluster.name)
        };
        assert_eq!(shape(4), (1, 4, "4xH100".to_owned()));
        assert_eq!(shape(12), (2, 6, "2x6xH100".to_owned()));
        assert_eq!(shape(1024), (128, 8, "128x8xH100".to_owned()));
        assert_eq!(shape(13), (13, 1, "13x1xH100".to_owned()));
    }

    #[test]
    fn a_point_is_efficient_if_none_is_as_fast_for_less() {
        let model = Model::preset("tiny-llama").expect("a shipped model");
        let cluster = Cluster::preset("8xH100").expect("a shipped device");
        let point = |value, step, device_hours| {
            let plan = Plan {
                batch: 1,
                microbatches: 1,
                schedule: ir::plan::Schedule::OneForwardOneBackward,
                precision: ir::model::Precision::Mixed,
                stages: Vec::new(),
                strategies: Vec::new(),
                prefetch: 1,
            };
            let (step, peak) = (Seconds(step), Bytes(1));
            let speed = Speed::of(&model, &cluster, 1, step);
            let reached = Reached { plan, step, peak, speed, rate: 0.0, share_of_peak: 0.0, device_hours };
            Point { value, nodes: [1, 8], outcome: Ok(reached) }
        };
        let none = Point { value: 1, nodes: [1, 1], outcome: Err(String::new()) };
        let points = [none, point(8, 1.0, 1.0), point(16, 1.1, 1.5), point(32, 0.5, 1.2), point(64, 0.4999, 1.3)];
        assert_eq!(efficient(Varied::Devices, &points), [false, true, false, true, false]);
        // Memory costs what there is of it.
        assert_eq!(efficient(Varied::Memory, &points), [false, true, false, true, false]);
    }
}
