//! What a report has in it, on a made-up job.

mod specimen;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hetu_reports::{CompareError, Report, ReportError, compare, perfetto, write_report};
use ir::mesh::Axis;
use ir::program::{Action, CollectiveId, FragmentId, Phase, Span, Stream};
use ir::trace::{Confidence, Trace, TraceEvent};
use ir::units::Seconds;
use serde_json::Value;
use specimen::Job;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports").join(name)
}

fn page(name: &str, report: &Report<'_>) -> String {
    write_report(&folder(name), report).expect("the folder can be written");
    fs::read_to_string(folder(name).join("report.html")).expect("the page was written")
}

fn names(paths: &[PathBuf]) -> Vec<&str> {
    paths.iter().filter_map(|path| path.file_name()?.to_str()).collect()
}

#[test]
fn equal_input_gives_equal_bytes() {
    let [first, second] = ["first", "second"]
        .map(|name| write_report(&folder(name), &Job::new().report()).expect("the folder can be written"));
    assert_eq!(first.len(), 13, "{first:?}");
    for (one, other) in first.iter().zip(&second) {
        let [one_bytes, other_bytes] = [one, other].map(|path| fs::read(path).expect("it was written"));
        assert!(one_bytes == other_bytes, "{} differs", one.display());
    }
}

#[test]
fn traces_of_other_programs_are_refused() {
    let job = Job::new();
    let other = Trace { digest: 1, ..job.measured.clone() };
    let refused = compare(&job.predicted, &other, &job.programs);
    assert!(matches!(refused, Err(CompareError::Digests { measured: 1, .. })), "{refused:?}");
    let report = Report { measured: Some(&other), ..job.report() };
    let refused = write_report(&folder("refused"), &report);
    assert!(matches!(refused, Err(ReportError::Compare(_))), "{refused:?}");
    assert!(!folder("refused").exists(), "nothing is written of a report that is refused");
}

#[test]
fn a_trace_beside_itself_has_no_error() {
    let job = Job::new();
    let comparison = compare(&job.predicted, &job.predicted, &job.programs).expect("the programs are the same");
    let rows = comparison.parts.iter().chain(comparison.kinds.iter().map(|kind| &kind.time));
    for row in rows {
        assert!(row.gap().0.abs() < 1e-12, "{row:?}");
    }
}

#[test]
fn the_largest_error_comes_first_and_kinds_add_up() {
    let job = Job::new();
    let comparison = compare(&job.predicted, &job.measured, &job.programs).expect("the programs are the same");
    let gaps: Vec<f64> = comparison.kinds.iter().map(|kind| kind.time.gap().0).collect();
    assert!(gaps.is_sorted_by(|a, b| a >= b), "{gaps:?}");
    let compute: f64 =
        comparison.kinds.iter().filter(|kind| kind.stream == "compute").map(|kind| kind.time.measured.0).sum();
    assert!((compute - comparison.parts[0].measured.0).abs() < 1e-9, "{compute} {:?}", comparison.parts[0]);
    let json: Value = serde_json::from_str(&comparison.json()).expect("it is JSON");
    assert_eq!(json["step"]["predicted_seconds"].as_f64(), Some(job.predicted.step.0));
    let text = comparison.text();
    let widths: BTreeSet<usize> = text.lines().map(|line| line.chars().count()).collect();
    assert_eq!(widths.len(), 1, "columns are aligned:\n{text}");
}

#[test]
fn the_page_needs_no_network_and_shows_names_as_text() {
    let page = page("page", &Job::new().report());
    for needle in ["http:", "https:", " src=", "href=", "@import", "url(", "gpt <small>"] {
        assert!(!page.contains(needle), "{needle} in the page");
    }
    assert!(page.contains("gpt &lt;small&gt; &amp; &quot;quoted&quot;"));
    for tag in ["div", "section", "figure", "span", "table", "svg", "rect", "path"] {
        let opened = page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
        let closed =
            page.matches(&format!("</{tag}>")).count() + if tag == "path" { page.matches("/>").count() } else { 0 };
        assert_eq!(opened, closed, "{tag}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf\""), "every number is a number");
}

#[test]
fn what_is_not_there_is_left_out() {
    let job = Job::new();
    let predicted_only = Report { measured: None, steps: &[], candidates: &[], ..job.report() };
    let written = write_report(&folder("predicted"), &predicted_only).expect("the folder can be written");
    assert!(names(&written).contains(&"timeline.png") && !names(&written).contains(&"loss.svg"), "{written:?}");
    let text = page("predicted", &predicted_only);
    for needle in ["Step, measured", "Predicted beside measured", "Loss of each step", "Plans that were considered"] {
        assert!(!text.contains(needle), "{needle}");
    }
    let nothing = Report { predicted: None, model: &[], cluster: &[], layers: &[], ..predicted_only };
    let written = write_report(&folder("nothing"), &nothing).expect("the folder can be written");
    assert_eq!(names(&written), ["report.html", "results.json"]);
}

#[test]
fn totals_alone_make_a_comparison_without_figures() {
    let job = Job::new();
    let bare = |trace: &Trace| Trace { events: Vec::new(), memory: Vec::new(), ..trace.clone() };
    let (predicted, measured) = (bare(&job.predicted), bare(&job.measured));
    let report = Report { predicted: Some(&predicted), measured: Some(&measured), steps: &[], ..job.report() };
    let text = page("bare", &report);
    assert!(text.contains("Predicted beside measured"), "the table does not depend on a figure");
    assert!(!text.contains("What runs when"));
}

#[test]
fn a_long_step_makes_no_large_page() {
    let job = Job::new();
    let mut trace = job.measured.clone();
    let event = |index: u32| TraceEvent {
        rank: 0,
        stream: Stream::ALL[index as usize % 3],
        span: Span { microbatch: Some((index / 90) as u16), layer: Some((index % 90) as u16), phase: Phase::Forward },
        action: Action::Compute(FragmentId(index % 5)),
        start: Seconds(f64::from(index) * 0.01),
        end: Seconds(f64::from(index) * 0.01 + 0.004),
        confidence: Confidence::Measured,
    };
    trace.events = (0..100_000).map(event).collect();
    for one in trace.events.iter_mut().filter(|one| matches!(one.stream, Stream::Exchange(_))) {
        one.action = Action::Exchange(CollectiveId(0));
    }
    trace.step = Seconds(1000.0);
    let report = Report { predicted: None, measured: Some(&trace), ..job.report() };
    let size = page("long", &report).len();
    assert!(size < 1_000_000, "{size} bytes");
}

#[test]
fn a_prediction_for_other_devices_has_no_error_but_a_warning() {
    let job = Job::new();
    let unlike = "plan.yaml is for H100, but ran on CPU ranks";
    let with = page("unlike", &Report { unlike: Some(unlike), ..job.report() });
    let card = "<small>Error of the prediction</small><strong>–</strong>";
    assert!(with.contains(unlike) && with.contains(card));
    let results = fs::read_to_string(folder("unlike").join("results.json")).expect("it was written");
    assert!(results.contains("unlike_devices"));
    let without = page("like", &job.report());
    assert!(!without.contains(card) && !without.contains("class=\"warning\""));
}

#[test]
fn a_stream_that_is_hardly_busy_does_not_look_busy() {
    let job = Job::new();
    let heights = |busy: f64| -> BTreeSet<String> {
        let mut trace = job.measured.clone();
        let event = |index: u32| TraceEvent {
            rank: 0,
            stream: Stream::Exchange(Axis::Tensor),
            span: Span { microbatch: Some(0), layer: Some(0), phase: Phase::Forward },
            action: Action::Exchange(CollectiveId(0)),
            start: Seconds(f64::from(index)),
            end: Seconds(f64::from(index) + busy),
            confidence: Confidence::Measured,
        };
        trace.events = (0..10_000).map(event).collect();
        (trace.memory, trace.step) = (Vec::new(), Seconds(10_000.0));
        let report = Report { predicted: None, measured: Some(&trace), candidates: &[], ..job.report() };
        let page = page("busy", &report);
        let timeline = page.split("chart zoom").nth(1).and_then(|rest| rest.split("</figure>").next());
        let rects = timeline.expect("there is a timeline").split("<rect class=\"gold").skip(1);
        rects.filter_map(|rect| Some(rect.split_once("height=\"")?.1.split_once('"')?.0.to_owned())).collect()
    };
    let [most, tenth] = [1.0, 0.1].map(heights);
    assert_eq!((most.len(), tenth.len()), (1, 1));
    let [most, tenth] = [most, tenth].map(|set| set.first().expect("one").parse::<f64>().expect("a number"));
    assert!((tenth / most - 0.1).abs() < 0.02, "{tenth} of {most}");
}

#[test]
fn the_viewer_trace_has_every_event_in_a_named_process_and_thread() {
    let job = Job::new();
    let text = perfetto::json(&[&job.predicted, &job.measured], &job.programs);
    let file: Value = serde_json::from_str(&text).expect("it is JSON");
    let entries = file["traceEvents"].as_array().expect("it has events");
    let of = |kind: &'static str| entries.iter().filter(move |entry| entry["ph"] == kind);
    assert_eq!(of("X").count(), job.predicted.events.len() + job.measured.events.len());
    assert_eq!(of("C").count(), job.predicted.memory.len() + job.measured.memory.len());
    let threads: BTreeSet<(u64, u64)> = of("M")
        .filter(|entry| entry["name"] == "thread_name")
        .filter_map(|entry| Some((entry["pid"].as_u64()?, entry["tid"].as_u64()?)))
        .collect();
    let processes: BTreeSet<u64> =
        of("M").filter(|entry| entry["name"] == "process_name").filter_map(|entry| entry["pid"].as_u64()).collect();
    assert_eq!(processes.len(), 2 + 8, "two predicted and eight measured ranks");
    for entry in of("X") {
        let key = (entry["pid"].as_u64().unwrap_or(0), entry["tid"].as_u64().unwrap_or(0));
        assert!(threads.contains(&key), "{entry}");
    }
}
