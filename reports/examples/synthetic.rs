//! Writes a report of a made-up job: `cargo run -p hetu-reports --example synthetic -- FOLDER`.

#[path = "../tests/specimen/mod.rs"]
mod specimen;

use std::path::PathBuf;

#[allow(clippy::print_stdout, reason = "an example shows what it did")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).map_or_else(|| PathBuf::from("report"), PathBuf::from);
    let job = specimen::Job::new();
    let report = job.report();
    let comparison = hetu_reports::compare(&job.predicted, &job.measured, &job.programs)?;
    println!("{}\n{}", comparison.text(), comparison.kinds_text());
    for path in hetu_reports::write_report(&folder, &report)? {
        println!("Wrote {}", path.display());
    }
    Ok(())
}
