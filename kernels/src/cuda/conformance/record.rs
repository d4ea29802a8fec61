//! Which sources the cases run, so that a record of the last run on a device shows when one of them has changed since.

use std::collections::BTreeMap;

use ir::file::Digest;

use super::suite::{Extent, suite};
use crate::cuda::lower::lower;
use crate::cuda::lowered::{Cores, Request, Work};

/// Each source that the cases of all extents run on some device, and the digest of it with all that it includes.
pub fn sources() -> BTreeMap<&'static str, Digest> {
    let mut sources = BTreeMap::new();
    for extent in [Extent::Small, Extent::Medium, Extent::Large] {
        for form in suite(extent, 1) {
            let kernel = form.kernel();
            let offsets = vec![0; kernel.offsets.len()];
            for cores in [Cores::Warps, Cores::WarpGroups] {
                let request = Request { kernel: &kernel, offsets: &offsets, tokens: 1, cores };
                let works = lower(request).map(|lowered| lowered.works).unwrap_or_default();
                sources.extend(works.into_iter().filter_map(|work| match work {
                    Work::Launch(launch) => Some((launch.source.file, launch.source.digest())),
                    Work::Clear(_) | Work::Product => None,
                }));
            }
        }
    }
    sources
}

/// Sources as lines of a record: the file, then its digest.
pub fn lines() -> Vec<String> {
    sources().into_iter().map(|(file, digest)| format!("{file} {digest}")).collect()
}
