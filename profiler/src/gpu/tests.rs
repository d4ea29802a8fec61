//! The whole way of measuring on GPUs, on CPU ranks: what is measured and kept, not how long it took.

use super::*;
use crate::catalogue::tests::{cluster, small};
use crate::measure::{Limits, Watcher};
use ir::model::{Model, Precision};
use ir::profile::{Profile, Sample};
use ir::units::Seconds;

struct Quiet;

impl Watcher for Quiet {
    fn starts(&mut self, _: &str, done: f64) {
        assert!((0.0..=1.0).contains(&done));
    }
    fn grown(&mut self, _: &Profile) -> Result<(), Error> {
        Ok(())
    }
    fn noisy(&mut self, _: &Sample) {}
    fn is_stopped(&self) -> bool {
        false
    }
}

const LITTLE: Limits =
    Limits { load: Seconds(0.0), budget: Seconds(1e6), program: Seconds(0.0), steps_min: 1, steps_max: 1 };

fn run(model: &Model, known: Profile) -> Findings {
    let mut cluster = Cluster::preset("2xH100").unwrap();
    cluster.devices_per_node = 2;
    let catalogue = Catalogue::of_model(model, &cluster);
    let mut watcher = Quiet;
    let ledger = Ledger::new(&catalogue, LITTLE, known, &mut watcher);
    let mut measuring = Measuring {
        cluster: &cluster,
        catalogue: &catalogue,
        ledger,
        backend: Backend::Threads,
        ballast: Ballast { side: 16, seconds: 1.0 },
        device: None,
        overhead: Overhead::default(),
        beside_alone: Bytes::ZERO,
        beside_met: Bytes::ZERO,
    };
    let end = measuring.all().unwrap();
    measuring.ledger.findings(end)
}

#[test]
fn everything_of_a_model_in_bf16_is_measured_and_the_profile_reads_back() {
    let mut model = small();
    model.training.precision = Precision::Mixed;
    let findings = run(&model, Profile::new("H100"));
    assert_eq!((findings.left, findings.end), (0, End::Finished));
    assert!(findings.profile.samples.iter().all(|sample| sample.median.0 > 0.0));
    assert!(findings.profile.state.is_some() && findings.profile.issue_recorded.is_some());
    // Two kinds of kernels, three axes, and each of two streams is slowed by the other.
    assert!(findings.profile.slowdown.len() <= 12 && findings.profile.slowdown.len().is_multiple_of(6));
    let text = ir::file::print_profile(&findings.profile);
    assert_eq!(ir::file::parse_profile(&text, "p.yaml").as_ref(), Ok(&findings.profile));
    let again = run(&model, findings.profile.clone());
    assert_eq!((again.measured, again.profile), (0, findings.profile));
}

#[test]
fn exchanges_are_put_together_until_they_take_long() {
    let catalogue = Catalogue::of_model(&small(), &cluster(2));
    let list: Vec<(Work, Collective)> =
        catalogue.exchanges.iter().map(|(work, (collective, _))| (work.clone(), collective.clone())).collect();
    let parts = parts(&list, |_| EXCHANGES_SECONDS / 2.5);
    assert!(parts.len() > 1 && parts.iter().all(|part| (1..=2).contains(&part.len())));
    assert_eq!(parts.concat(), list);
}
