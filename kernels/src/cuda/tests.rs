//! What can be tested without a device: every source compiles for devices, and holds its numbers in registers.

use std::collections::BTreeSet;

use super::compile::Compiler;
use super::conformance::{Extent, suite};
use super::lower::lower;
use super::lowered::{Request, Source, Work};
use super::{Device, Error};
use crate::reorder::{self, Reorder};

/// Sources of all cases of real sizes.
fn sources() -> BTreeSet<Source> {
    let mut sources = BTreeSet::new();
    for form in suite(Extent::Large, 1).into_iter().chain(suite(Extent::Small, 1)) {
        let kernel = form.kernel();
        let offsets = vec![0; kernel.offsets.len()];
        let lowered =
            lower(Request { kernel: &kernel, offsets: &offsets, tokens: 1 }).expect("every case has a kernel");
        sources.extend(lowered.works.into_iter().filter_map(|work| match work {
            Work::Launch(launch) => Some(launch.source),
            Work::Clear(_) | Work::Product => None,
        }));
    }
    // Runs of all words that there are.
    sources.extend([32, 12, 6].map(|run| Reorder::swap([3, 5], run)).iter().flat_map(|reorder| {
        let works = reorder::cuda::lower(reorder).works.into_iter();
        works.filter_map(|work| match work {
            Work::Launch(launch) => Some(launch.source),
            Work::Clear(_) | Work::Product => None,
        })
    }));
    sources
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that was skipped says so")]
fn sources_compile_without_spills() {
    for (major, minor) in [(8, 0), (9, 0)] {
        let compiler = match Compiler::new(major, minor) {
            Ok(compiler) => compiler,
            Err(error) => {
                eprintln!("skipped, as there is no compiler for devices: {error}");
                return;
            }
        };
        let mut wrong = Vec::new();
        for source in sources() {
            match compiler.compile(source.file, &source.whole()) {
                Err(error) => wrong.push(error.to_string()),
                Ok((_, log)) => {
                    let spills = |line: &&str| line.contains("spill") && !line.contains("0 bytes spill stores");
                    wrong.extend(log.lines().filter(spills).map(|line| format!("{}: {line}", source.name())));
                }
            }
        }
        assert!(wrong.is_empty(), "for {major}.{minor}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn without_a_driver_the_error_says_what_to_install() {
    match Device::open(0) {
        Ok(device) => assert!(device.processors() > 0),
        Err(Error::NoDriver) => assert!(Error::NoDriver.to_string().contains("install the NVIDIA driver")),
        // There is a driver, but no device or no toolkit.
        Err(error) => assert!(error.to_string().len() > 20, "{error}"),
    }
}
