//! What is known, what is missing, and how much time is left: what every way of measuring keeps up to date.

use std::collections::BTreeSet;
use std::time::Instant;

use ir::profile::{Profile, Sample, Work};
use ir::ways::Ways;

use crate::catalogue::Catalogue;
use crate::fold::{fold, is_noisy};
use crate::measure::{End, Error, Findings, Limits, Watcher};

/// The state of a measurement of many works.
pub(crate) struct Ledger<'a> {
    pub(crate) limits: Limits,
    pub(crate) profile: Profile,
    /// How products that are measured now are computed.
    pub(crate) ways: Ways,
    missing: BTreeSet<Work>,
    total: usize,
    known_count: usize,
    begin: Instant,
    watcher: &'a mut dyn Watcher,
}

impl<'a> Ledger<'a> {
    /// What a catalogue asks for beyond what is known.
    pub(crate) fn new(
        catalogue: &Catalogue,
        limits: Limits,
        known: Profile,
        watcher: &'a mut dyn Watcher,
    ) -> Ledger<'a> {
        let is_known: BTreeSet<&Work> = known.samples.iter().map(|sample| &sample.work).collect();
        let missing: BTreeSet<Work> = catalogue.works().into_iter().filter(|work| !is_known.contains(work)).collect();
        let (total, known_count) = (missing.len().max(1), known.samples.len());
        let ways = Ways::default();
        Ledger { limits, profile: known, ways, missing, total, known_count, begin: Instant::now(), watcher }
    }

    /// Names the library of products. What another one was told before means nothing to it, and is forgotten.
    pub(crate) fn use_library(&mut self, library: String) {
        if self.profile.library != library {
            let before = self.profile.samples.len();
            self.profile.samples.retain(|sample| sample.way.is_none());
            self.known_count -= before - self.profile.samples.len();
        }
        self.ways.library.clone_from(&library);
        self.profile.library = library;
    }

    /// Says what is measured next.
    pub(crate) fn announce(&mut self, what: &str) {
        let by_count = 1.0 - self.missing.len() as f64 / self.total as f64;
        let by_time = self.begin.elapsed().as_secs_f64() / self.limits.budget.0;
        self.watcher.starts(what, by_count.max(by_time).min(1.0));
    }

    pub(crate) fn is_due(&self, work: &Work) -> bool {
        self.missing.contains(work)
    }

    /// Whether all was measured.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.watcher.is_stopped()
    }

    /// Seconds left of a part of the budget.
    pub(crate) fn left(&self, share: f64) -> f64 {
        self.limits.budget.0 * share - self.begin.elapsed().as_secs_f64()
    }

    /// Keeps the sample of some times in seconds.
    pub(crate) fn add(&mut self, work: &Work, mut times: Vec<f64>) {
        if !times.is_empty() {
            let way = self.ways.products.get(work).copied();
            let sample = Sample { way, ..fold(work.clone(), &mut times) };
            if is_noisy(&sample) {
                self.watcher.noisy(&sample);
            }
            self.profile.samples.push(sample);
            self.missing.remove(work);
        }
    }

    /// A good moment to save what is known.
    pub(crate) fn grown(&mut self) -> Result<(), Error> {
        self.watcher.grown(&self.profile)
    }

    /// All that came of it.
    pub(crate) fn findings(mut self, end: End) -> Findings {
        self.profile.samples.sort_by(|a, b| a.work.cmp(&b.work));
        let measured = self.profile.samples.len() - self.known_count;
        Findings { measured, left: self.missing.len(), profile: self.profile, end }
    }
}
