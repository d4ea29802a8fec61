//! How many times as long stages take on another part than on the one on which layers are costed.

use ir::graph::KindId;
use ir::plan::Strategy;
use solver::{Assignment, Kind, Stage};

use crate::known::KnownLayers;
use crate::outer::Outer;
use crate::space::{Setting, Space, costing, shared_cores};

/// Factors of each part beside the one on which layers are costed, by outlines.
pub(crate) struct Speeds {
    /// For the fastest strategy of each layer.
    pub(crate) usual: Vec<f64>,
    /// For the layer and the strategy that it is best at.
    pub(crate) least: Vec<f64>,
}

impl Speeds {
    /// The factors for strategies whose outlines on the base are `kinds`; 1 where devices are alike.
    pub(crate) fn of(
        setting: Setting<'_>,
        outer: &Outer,
        strategies: &[Vec<Strategy>],
        kinds: &[Kind],
        by_part: &[KnownLayers],
    ) -> Speeds {
        let Some(line) = setting.line else { return Speeds { usual: vec![1.0], least: vec![1.0] } };
        let mut speeds = Speeds { usual: vec![1.0; by_part.len()], least: vec![1.0; by_part.len()] };
        for part in (0..by_part.len()).filter(|part| *part != line.base && line.stages.contains(part)) {
            let costing = costing(setting.on_part(part), outer);
            let mut known = by_part[part].open();
            let mut least = f64::INFINITY;
            let [mut there, mut here] = [0.0, 0.0];
            for (kind, list) in strategies.iter().enumerate() {
                let count = setting.graph.layers.iter().filter(|layer| layer.index() == kind).count() as f64;
                let mut fastest = (f64::INFINITY, 0.0);
                for (strategy, on_base) in list.iter().zip(&kinds[kind].strategies) {
                    let id = KindId(kind as u32);
                    let layout = costing.layout(&mut known.outlines, costing.junction(id, strategy), outer.ranks, 0);
                    let outline = costing.outline(&mut known.outlines, id, strategy, layout);
                    let times = (on_base.time_microbatch, outline.time_microbatch);
                    if times.0 > 0.0 && count > 0.0 {
                        least = least.min(times.1 / times.0);
                        fastest = if times.0 < fastest.0 { times } else { fastest };
                    }
                }
                if fastest.0.is_finite() {
                    here += count * fastest.0;
                    there += count * fastest.1;
                }
            }
            if here > 0.0 {
                (speeds.usual[part], speeds.least[part]) = (there / here, least);
            }
        }
        speeds
    }
}

/// Factors that differ by less than this share are alike.
const ALIKE: f64 = 0.005;

/// The stages with the factors of what they do in an answer, layer by layer and exact; none if those are known already,
/// or all devices are alike.
pub(crate) fn respeeded(space: &Space, setting: Setting<'_>, answer: &Assignment) -> Option<Vec<Stage>> {
    let line = setting.line?;
    let problem = &space.problem;
    let mut times = vec![[0.0; 2]; space.by_part.len()];
    let plan = space.plan(answer, setting.precision);
    for (layer, (&kind, &index)) in problem.layers.iter().zip(&answer.strategies).enumerate() {
        let part = setting.part_of(&plan, layer);
        if part == line.base {
            continue;
        }
        let costing = costing(setting.on_part(part), &space.outer);
        let strategy = &space.strategies[kind][index];
        let exact = space.by_part[part].open().costs_of(&costing, KindId(kind as u32), strategy);
        times[part][0] += problem.kinds[kind].strategies[index].time_microbatch;
        times[part][1] += exact.time_microbatch;
    }
    let mut stages = problem.stages.clone();
    let mut is_new = false;
    for (index, (stage, &part)) in stages.iter_mut().zip(&line.stages).enumerate() {
        let [here, there] = times[part];
        if here > 0.0 && there > 0.0 {
            let speed = there / here * shared_cores(setting, &space.outer, index);
            is_new |= (speed / stage.speed - 1.0).abs() > ALIKE;
            stage.speed = speed;
        }
    }
    is_new.then_some(stages)
}
