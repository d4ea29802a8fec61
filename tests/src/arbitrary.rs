//! Random tiny models and random legal plans for them, each from a seed.

use std::ops::Range;

use ir::cluster::Cluster;
use ir::file::print_plan;
use ir::graph::{Graph, KindId};
use ir::model::{Bias, Embeddings, Family, Model};
use ir::op::Scaling;
use ir::plan::{Plan, PlanFile, Recompute, Reference, Schedule, Strategy};
use ir::seed::{Draws, Seed};
use ir::ways::Ways;

use crate::specimen;

/// A model with a plan for it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where they come from.
    pub seed: u64,
    /// The model.
    pub model: Model,
    /// A legal plan on at most eight ranks.
    pub plan: Plan,
}

/// Ranks of a stage, and chains of degrees that divide each other.
const CHAINS: [&[u32]; 10] =
    [&[1], &[1, 2], &[1, 2], &[1, 3], &[1, 2, 4], &[1, 2, 4], &[1, 2, 6], &[1, 3, 6], &[1, 2, 4, 8], &[1, 5]];

/// The cluster that all plans fit.
///
/// # Panics
/// Never: the preset exists.
pub fn cluster() -> Cluster {
    Cluster::preset("8xCPU").expect("there is this preset")
}

impl Case {
    /// The case of a seed.
    ///
    /// # Panics
    /// If what was drawn is not legal: a defect of this module or of the compiler's rules.
    pub fn new(seed: u64) -> Case {
        let mut draws = Draws::new(Seed(seed).derive_name("case"));
        let mut model = model(&mut draws);
        if model.family == Family::Llama && seed.is_multiple_of(2) {
            model = varied(model);
        }
        Case::drawn(seed, model, draws)
    }

    /// A case of this model.
    ///
    /// # Panics
    /// As [`Case::new`].
    pub fn of(seed: u64, model: Model) -> Case {
        Case::drawn(seed, model, Draws::new(Seed(seed).derive_name("plan")))
    }

    fn drawn(seed: u64, mut model: Model, mut draws: Draws) -> Case {
        let graph = model.graph();
        let plan = plan(&mut draws, &graph);
        model.training.batch = plan.batch;
        let violations = compiler::check(&graph, &cluster(), &plan);
        let case = Case { seed, model, plan };
        assert!(violations.is_empty(), "{case}\n{violations:#?}");
        case
    }
}

/// The same with what only some models of the family have.
fn varied(model: Model) -> Model {
    let head = model.hidden / model.heads + 2;
    let scaling = Scaling {
        factor: 4.0,
        low_frequency_factor: 0.1,
        high_frequency_factor: 1.0,
        original_sequence: model.sequence,
    };
    Model {
        head_size: Some(head.next_multiple_of(2)),
        attention_bias: Bias::Present,
        rotary_scaling: Some(scaling),
        ..model
    }
}

impl std::fmt::Display for Case {
    /// The seed, the model's numbers and the plan as a file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Model { family, embeddings, layers, hidden, heads, feed_forward, vocabulary, sequence, .. } = &self.model;
        writeln!(
            f,
            "seed {}: {family:?} {embeddings:?}, {layers} blocks, hidden {hidden}, heads {heads}/{}, feed-forward \
             {feed_forward}, vocabulary {vocabulary}, sequence {sequence}",
            self.seed,
            self.model.groups()
        )?;
        f.write_str(&printed(&self.plan))
    }
}

/// A plan as its file.
pub fn printed(plan: &Plan) -> String {
    let reference = |path: &str| Reference { path: path.to_owned(), digest: None };
    let (model, cluster) = (reference("model.yaml"), reference("8xCPU"));
    let file = PlanFile {
        plan: plan.clone(),
        model,
        cluster,
        devices: None,
        parts: Vec::new(),
        predicted: None,
        ways: Ways::default(),
    };
    print_plan(&file)
}

/// A model whose sizes can often, but not always, be cut.
fn model(draws: &mut Draws) -> Model {
    let family = *draws.pick(&[Family::Llama, Family::Gpt]);
    let groups = *draws.pick(&[1, 2, 3, 4, 4, 6, 8]);
    let heads = groups * draws.pick(&[1, 1, 2, 3]);
    let head_size = *draws.pick(&[2, 4, 6]);
    Model {
        family,
        layers: 1 + draws.below(4) as u32,
        hidden: heads * head_size,
        heads,
        key_value_heads: (groups != heads).then_some(groups),
        feed_forward: *draws.pick(&[8, 12, 20, 24, 30, 48]),
        vocabulary: *draws.pick(&[17, 24, 30, 32, 40]),
        sequence: *draws.pick(&[4, 5, 8, 12]),
        embeddings: *draws.pick(&[Embeddings::Tied, Embeddings::Untied]),
        ..specimen::llama()
    }
}

fn plan(draws: &mut Draws, graph: &Graph) -> Plan {
    let chain = *draws.pick(&CHAINS);
    let ranks = chain[chain.len() - 1];
    let layers = graph.layers.len() as u32;
    let stage_count = 1 + draws.below(u64::from(layers.min(8 / ranks))) as u32;
    let microbatches = 1 + draws.below(4) as u32;
    let sequences = u64::from(ranks) * (1 + draws.below(2));
    let mut plan = Plan {
        batch: sequences * u64::from(microbatches),
        microbatches,
        schedule: *draws.pick(&[Schedule::AllForward, Schedule::OneForwardOneBackward]),
        precision: specimen::llama().training.precision,
        stages: stages(draws, layers, stage_count),
        strategies: Vec::new(),
        prefetch: draws.below(3) as u32,
    };
    let legal = |kind: KindId| -> Vec<Strategy> {
        let all = compiler::strategies(&graph.kinds[kind.index()], ranks, sequences);
        all.into_iter().filter(|strategy| chain.contains(&strategy.tensor)).collect()
    };
    // Half of the plans have a favourite, which most layers follow.
    let varied = draws.below(2) == 0;
    let favourite = draws.pick(&legal(KindId(1))).clone();
    for layer in 0..layers {
        let choices = legal(graph.layers[layer as usize]);
        let follows = choices.contains(&favourite) && !varied;
        let drawn = draws.pick(&choices).clone();
        plan.strategies.push(if follows && draws.below(6) != 0 { favourite.clone() } else { drawn });
    }
    let tied: Vec<KindId> =
        graph.tie.iter().flat_map(|tie| tie.sides()).map(|(layer, _)| graph.layers[layer.index()]).collect();
    let all_may = |strategy: &Strategy| tied.iter().all(|&kind| legal(kind).contains(strategy));
    if !all_may(&plan.strategies[0]) {
        let shared: Vec<Strategy> = legal(KindId(0)).into_iter().filter(all_may).collect();
        plan.strategies[0] = draws.pick(&shared).clone();
    }
    for user in graph.tie.iter().flat_map(|tie| &tie.users).map(|user| user.0.index()) {
        let recompute = *draws.pick(&[Recompute::Nothing, Recompute::Selective, Recompute::Full]);
        plan.strategies[user] = Strategy { recompute, ..plan.strategies[0].clone() };
    }
    plan
}

/// `count` stages of at least one layer each.
fn stages(draws: &mut Draws, layers: u32, count: u32) -> Vec<Range<u32>> {
    let mut cuts: Vec<u32> = (1..layers).collect();
    while cuts.len() as u32 > count - 1 {
        let dropped = draws.below(cuts.len() as u64) as usize;
        cuts.remove(dropped);
    }
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    starts.zip(cuts.iter().copied().chain([layers])).map(|(start, end)| start..end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_cases_are_legal_and_unlike() {
        let cases: Vec<Case> = (0..300).map(Case::new).collect();
        let share = |wanted: &dyn Fn(&Plan) -> bool| cases.iter().filter(|case| wanted(&case.plan)).count();
        let uneven = |plan: &Plan| plan.strategies.iter().any(|strategy| strategy.tensor != plan.strategies[0].tensor);
        assert!(share(&uneven) > 50, "{} plans with unlike degrees", share(&uneven));
        assert!(share(&|plan| plan.stages.len() > 1) > 80);
        assert!(share(&|plan| plan.rank_count() > 4) > 80);
    }

    #[test]
    fn a_seed_gives_the_same_case_again() {
        assert_eq!(Case::new(3).to_string(), Case::new(3).to_string());
    }
}
