//! trace.json: the step in the Chrome trace-event format, for ui.perfetto.dev or chrome://tracing.
//!
//! Each rank is a process and each stream a thread of it; predicted ranks stand above measured ones. Times are in
//! microseconds, as the format wants them. Live memory is a counter of the process.

use ir::program::{Action, Programs, Stream};
use ir::trace::{Confidence, Origin, Trace, TraceEvent};
use serde::Serialize;

use crate::compare::action_name;
use crate::quantity::phase_name;

/// The file as text. Predicted processes have the ids 1 to ranks, measured ones those after.
pub fn json(traces: &[&Trace], programs: &Programs) -> String {
    let mut lines = Vec::new();
    for trace in traces {
        let group = Processes::of(trace, programs);
        group.name_processes(&mut lines, programs);
        group.events(&mut lines, programs);
        group.memory(&mut lines);
    }
    format!("{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{}\n]}}\n", lines.join(",\n"))
}

/// One entry of the file.
#[derive(Serialize)]
struct Entry<'a, A: Serialize> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'a str>,
    ph: &'a str,
    pid: u32,
    tid: u32,
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    args: A,
}

#[derive(Serialize)]
struct Name {
    name: String,
}

#[derive(Serialize)]
struct Order {
    sort_index: u32,
}

#[derive(Serialize)]
struct Live {
    bytes: u64,
}

#[derive(Serialize)]
struct Work<'a> {
    phase: &'a str,
    /// Its name in the text form of programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    fragment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    microbatch: Option<u16>,
    confidence: Confidence,
}

fn fragment_of<'a>(event: &TraceEvent, programs: &'a Programs) -> Option<&'a str> {
    match event.action {
        Action::Compute(id) => Some(&programs.fragment(id).name),
        Action::Exchange(_)
        | Action::Send(_)
        | Action::Receive(_)
        | Action::Free
        | Action::Signal(_)
        | Action::Wait(_) => None,
    }
}

/// The processes of one trace.
struct Processes<'a> {
    trace: &'a Trace,
    word: &'a str,
    first: u32,
}

fn line<A: Serialize>(entry: &Entry<'_, A>) -> String {
    serde_json::to_string(entry).expect("numbers and words have a JSON form")
}

impl Processes<'_> {
    fn of<'a>(trace: &'a Trace, programs: &Programs) -> Processes<'a> {
        let (word, first) = match trace.origin {
            Origin::Predicted => ("predicted", 1),
            Origin::Measured => ("measured", 1 + programs.mesh().rank_count()),
        };
        Processes { trace, word, first }
    }

    fn process(&self, rank: u32) -> u32 {
        self.first + rank
    }

    /// Threads have ids of their own in the whole file: some viewers do not tell equal ones of two processes apart.
    fn thread(&self, rank: u32, stream: Stream) -> u32 {
        self.process(rank) * Stream::ALL.len() as u32 + stream.index() as u32
    }

    fn name_processes(&self, lines: &mut Vec<String>, programs: &Programs) {
        let mut used: Vec<(u32, Stream)> = self.trace.events.iter().map(|event| (event.rank, event.stream)).collect();
        used.extend(self.trace.memory.iter().map(|sample| (sample.rank, Stream::Compute)));
        used.sort_unstable();
        used.dedup();
        let mut last = None;
        for (rank, stream) in used {
            let (pid, tid) = (self.process(rank), self.thread(rank, stream));
            if last != Some(rank) {
                let stage = programs.role_of(rank).id.0 + 1;
                let name = format!("{} rank {rank} (stage {stage})", self.word);
                lines.push(metadata("process_name", pid, 0, Name { name }));
                lines.push(metadata("process_sort_index", pid, 0, Order { sort_index: pid }));
                last = Some(rank);
            }
            lines.push(metadata("thread_name", pid, tid, Name { name: stream.name().to_owned() }));
            lines.push(metadata("thread_sort_index", pid, tid, Order { sort_index: stream.index() as u32 }));
        }
    }

    fn events(&self, lines: &mut Vec<String>, programs: &Programs) {
        for event in &self.trace.events {
            let (start, duration) = span(event.start.0, event.end.0);
            lines.push(line(&Entry {
                name: &action_name(event, programs),
                cat: Some(self.word),
                ph: "X",
                pid: self.process(event.rank),
                tid: self.thread(event.rank, event.stream),
                ts: start,
                dur: Some(duration),
                args: Work {
                    phase: phase_name(event.span.phase),
                    fragment: fragment_of(event, programs),
                    layer: event.span.layer,
                    microbatch: event.span.microbatch,
                    confidence: event.confidence,
                },
            }));
        }
    }

    fn memory(&self, lines: &mut Vec<String>) {
        for sample in &self.trace.memory {
            lines.push(line(&Entry {
                name: "live memory",
                cat: None,
                ph: "C",
                pid: self.process(sample.rank),
                tid: 0,
                ts: microseconds(sample.time.0),
                dur: None,
                args: Live { bytes: sample.live.0 },
            }));
        }
    }
}

fn metadata<A: Serialize>(name: &str, pid: u32, tid: u32, args: A) -> String {
    line(&Entry { name, cat: None, ph: "M", pid, tid, ts: 0.0, dur: None, args })
}

/// To the nanosecond, which is as fine as the viewers go.
fn microseconds(seconds: f64) -> f64 {
    nanoseconds(seconds) / 1e3
}

fn nanoseconds(seconds: f64) -> f64 {
    (seconds * 1e9).round()
}

/// Start and duration in microseconds. The end is rounded as the start of what follows is, and the duration is what
/// lies between: were it rounded by itself, neighbours could overlap, and viewers drop what overlaps.
fn span(start: f64, end: f64) -> (f64, f64) {
    let (start, end) = (nanoseconds(start), nanoseconds(end));
    (start / 1e3, (end - start) / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_touch_and_never_overlap() {
        // A duration of 0.8 ns rounds to 1 ns; but from 3.6 to 4.4 both ends round to 4 ns.
        let ends: Vec<f64> = (0..10_000).map(|index| f64::from(index) * 0.8e-9 + 0.4e-9).collect();
        for three in ends.windows(3) {
            let (start, duration) = span(three[0], three[1]);
            let (next, _) = span(three[1], three[2]);
            // As a viewer reads them: whole nanoseconds.
            let whole = |microseconds: f64| (microseconds * 1e3).round() as i64;
            assert_eq!(whole(start) + whole(duration), whole(next), "{three:?}");
        }
    }
}
