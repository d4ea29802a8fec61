//! Plans on unlike devices.

use cost_model::{CostModel, FleetModel};
use hetu_planner::{FleetFound, FleetRequest, Parts, Request, Rules, Setting, search, search_fleet};
use ir::cluster::Cluster;
use ir::fleet::Fleet;
use ir::graph::Graph;
use ir::model::{Model, Precision};
use ir::units::Bytes;
use solver::Method;

/// Parts of these clusters, joined by the slower of their links.
fn fleet(parts: &[&Cluster]) -> Fleet {
    let between = parts.iter().skip(1).fold(&parts[0].between, |slowest, part| slowest.slower(&part.between)).clone();
    let named =
        parts.iter().enumerate().map(|(index, &part)| Cluster { name: format!("part {index}"), ..part.clone() });
    Fleet { name: "mixed".to_owned(), parts: named.collect(), between }
}

fn found(graph: &Graph, fleet: &Fleet, batch: u64) -> FleetFound {
    let costs = FleetModel::new(fleet);
    let request = FleetRequest {
        graph,
        precision: Precision::Mixed,
        parts: Parts { clusters: &fleet.parts, costs: &costs },
        batch,
        method: Method::DYNAMIC,
        keep: 16,
        rules: Rules::default(),
    };
    search_fleet(&request, &|_, _| {}).expect("a plan fits")
}

fn preset(name: &str) -> Cluster {
    Cluster::preset(name).expect("there is this preset")
}

/// A device whose every rate is a half, and whose memory is the same.
fn half_as_fast(cluster: &Cluster) -> Cluster {
    let mut slow = cluster.clone();
    slow.device.bf16_rate.0 /= 2.0;
    slow.device.f32_rate.0 /= 2.0;
    slow.device.memory_rate.0 /= 2.0;
    slow.device.issue.0 *= 2.0;
    slow.inside.rate.0 /= 2.0;
    slow
}

#[test]
fn show() {
    let model = Model::preset("llama2-7b").unwrap();
    let graph = model.graph();
    let fleet = fleet(&[&preset("2x8xH100"), &preset("4x8xA100")]);
    let start = std::time::Instant::now();
    let found = found(&graph, &fleet, 256);
    println!("{:?} {:?}", start.elapsed(), found.mixed);
    for seated in &found.seated {
        println!(
            "{:?} {:?} {:?} est {:?} {:?} m{}",
            seated.candidate.trace.step,
            seated.candidate.peak,
            seated.parts,
            seated.candidate.estimated,
            seated.candidate.plan.stages,
            seated.candidate.plan.microbatches
        );
    }
}
