//! What runs beside what, on made-up machines where waiting would show.

use cost_model::{CostModel, Detail, simulate};
use hetu_tests::notation::plan;
use hetu_tests::specimen::llama;
use ir::cluster::Cluster;
use ir::program::{Phase, Stream};
use ir::units::BytesPerSecond;

/// When the last backward kernel of a step ends, with so slow a link between the two nodes of two devices each.
fn passes_end(text: &str, rate: f64) -> f64 {
    let mut cluster = Cluster::preset("2x2xH100").expect("a shipped description");
    cluster.between.rate = BytesPerSecond(rate);
    let programs = compiler::compile(&llama().graph(), &cluster, &plan(8, text)).expect("the plan is legal");
    let trace = simulate(&programs, &CostModel::new(&cluster, None), Detail::Events).expect("it comes to its end");
    let backward =
        trace.events.iter().filter(|event| event.stream == Stream::Compute && event.span.phase == Phase::Backward);
    backward.map(|event| event.end.0).fold(0.0, f64::max)
}

#[test]
fn passes_do_not_wait_for_reductions_over_data() {
    // (With so deep a `prefetch` no pass waits for memory.) Norms of a split sequence are joined over Data and over Tensor. If the second stood before the exchanges of the
    // next layer, every pass would wait for the slow first.
    for text in ["5 m1 ahead9: d2 t2 split optimizer", "5 m1 ahead9: d2 t2 split gradients", "5 m1 ahead9: d2 t2 split"]
    {
        let [fast, slow] = [1e12, 1e7].map(|rate| passes_end(text, rate));
        assert!(slow < 1.4 * fast, "{text}: passes end after {slow} s beside a slow link, {fast} s beside a fast one");
    }
}
