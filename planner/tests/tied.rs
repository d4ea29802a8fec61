//! Estimates of plans whose layers share a matrix, against their simulated steps.

use cost_model::CostModel;
use hetu_planner::{Found, Request, Rules, Setting, search};
use ir::cluster::Cluster;
use ir::file::parse_model;
use solver::Method;

const MODEL: &str = include_str!("../../examples/models/gpt2-124m.yaml");

fn found(cluster: &str, batch: u64, rules: Rules) -> Found {
    let model = parse_model(MODEL, "gpt2-124m.yaml").expect("an example is valid");
    let cluster = Cluster::preset(cluster).expect("there is this preset");
    let (graph, costs) = (model.graph(), CostModel::new(&cluster, None));
    assert!(graph.tie.is_some());
    let setting =
        Setting { graph: &graph, cluster: &cluster, costs: &costs, precision: model.training.precision, line: None };
    let request = Request { setting, batch, method: Method::DYNAMIC, keep: 16, rules };
    search(&request, &|_, _| {}).expect("a plan fits")
}

/// By how much the estimates of listed plans are off, relative to their simulated steps.
fn errors(found: &Found) -> Vec<f64> {
    let listed = found.candidates.iter();
    listed.filter_map(|each| Some(each.estimated?.0 / each.trace.step.0 - 1.0)).collect()
}

#[test]
fn the_end_of_a_step_of_stages_that_share_a_matrix_stands_in_estimates() {
    // Without it, estimates are 16 % too low.
    let found = found("4x8xV100-32GB", 512, Rules { stages: Some(2), ..Rules::default() });
    let errors = errors(&found);
    assert!(!errors.is_empty() && errors.iter().all(|error| error.abs() < 0.03), "{errors:?}");
    assert!(found.sums.bound <= found.sums.best, "{:?}", found.sums);
}

#[test]
fn a_matrix_that_layers_of_one_stage_share_is_updated_once() {
    // Updated and gathered twice, estimates are 5 to 7 % too high.
    let found = found("16x8xV100-32GB", 512, Rules { stages: Some(1), ..Rules::default() });
    let errors = errors(&found);
    assert!(!errors.is_empty() && errors.iter().all(|error| error.abs() < 0.02), "{errors:?}");
}
