//! plan.trace, the simulated step of plan.yaml: a step in JSON, one line for the whole, then one for each rank, event and sample of memory.
//!
//! ```text
//! {"format":1,"origin":"predicted","programs":"9f1c33d02b7e51aa","step":"1.2 ms","rests_on":["1 ms","0 s","0.1 ms"]}
//! {"rank":{"rank":0,"compute":"1 ms","exchange":"0.1 ms","transfer":"0 s","hidden":"0 s","idle":"0.1 ms","arena":"2 MiB"}}
//! {"event":[0,"compute","m0 L3 F","run 5","0 s","120 µs","measured"]}
//! {"memory":[0,"120 µs","1.5 MiB"]}
//! ```

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::parse::FORMAT;
use super::{Digest, quantity};
use crate::error::{Mistake, Mistakes, shown};
use crate::program::{Action, CollectiveId, EventId, FragmentId, Phase, Span, Stream, TransferId};
use crate::trace::{Confidence, MemorySample, Origin, Totals, Trace, TraceEvent};
use crate::units::{Bytes, Seconds};

/// A time as text with its unit.
#[derive(Serialize, Deserialize)]
struct Time(#[serde(with = "quantity")] Seconds);

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    origin: Origin,
    programs: Digest,
    step: Time,
    rests_on: [Time; 3],
}

/// Any other line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Rank(RankLine),
    Event(EventLine),
    Memory(MemoryLine),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RankLine {
    rank: u32,
    compute: Time,
    exchange: Time,
    transfer: Time,
    hidden: Time,
    idle: Time,
    #[serde(with = "quantity")]
    arena: Bytes,
}

/// Rank, stream, span, action, start, end, what its time rests on.
#[derive(Serialize, Deserialize)]
struct EventLine(u32, String, String, String, Time, Time, Confidence);

/// Rank, time, live memory.
#[derive(Serialize, Deserialize)]
struct MemoryLine(u32, Time, #[serde(with = "quantity")] Bytes);

/// Where the simulated step of a plan file stands: beside it, under its name (`plan.yaml`, `plan.trace`).
pub fn trace_beside(plan: &Path) -> PathBuf {
    match plan.extension() {
        // Nothing keeps a plan from being called so.
        Some(extension) if extension == "trace" => plan.with_added_extension("trace"),
        Some(_) | None => plan.with_extension("trace"),
    }
}

/// The file form of a trace.
pub fn print_trace(trace: &Trace) -> String {
    let head = Head {
        format: FORMAT,
        origin: trace.origin,
        programs: Digest(trace.digest),
        step: Time(trace.step),
        rests_on: trace.shares.map(Time),
    };
    let mut text = json(&head);
    for totals in &trace.totals {
        text.push_str(&json(&Line::Rank(rank_line(totals))));
    }
    for event in &trace.events {
        let (span, action) = (event.span.to_string(), action_words(event.action));
        let stream = event.stream.name().to_owned();
        let line = EventLine(event.rank, stream, span, action, Time(event.start), Time(event.end), event.confidence);
        text.push_str(&json(&Line::Event(line)));
    }
    for sample in &trace.memory {
        text.push_str(&json(&Line::Memory(MemoryLine(sample.rank, Time(sample.time), sample.live))));
    }
    text
}

/// The trace that `text` describes, or the first thing that is wrong with it; `file` names it in messages.
pub fn parse_trace(text: &str, file: &str) -> Result<Trace, Mistakes> {
    let mut lines = text.lines().enumerate();
    let wrong = |index: usize, what: String| Mistake::new(file, what).at((index + 1, 1)).help("plan again");
    let unreadable = |index: usize, error: serde_json::Error| wrong(index, format!("not a line of a trace: {error}"));
    let first = lines.next().map_or("", |(_, line)| line);
    let head: Head = serde_json::from_str(first).map_err(|error| unreadable(0, error))?;
    if head.format != FORMAT {
        return Err(wrong(0, format!("format `{}` is not known here", head.format)).into());
    }
    let mut trace = Trace {
        origin: head.origin,
        digest: head.programs.0,
        step: head.step.0,
        events: Vec::new(),
        memory: Vec::new(),
        totals: Vec::new(),
        shares: head.rests_on.map(|time| time.0),
    };
    for (index, line) in lines {
        match serde_json::from_str(line).map_err(|error| unreadable(index, error))? {
            Line::Rank(line) => trace.totals.push(totals(&line)),
            Line::Event(line) => trace.events.push(event(line).map_err(|what| wrong(index, what))?),
            Line::Memory(MemoryLine(rank, time, live)) => {
                trace.memory.push(MemorySample { rank, time: time.0, live });
            }
        }
    }
    Ok(trace)
}

fn json(line: &impl Serialize) -> String {
    let mut text = serde_json::to_string(line).expect("words and numbers have a JSON form");
    text.push('\n');
    text
}

fn rank_line(totals: &Totals) -> RankLine {
    RankLine {
        rank: totals.rank,
        compute: Time(totals.compute),
        exchange: Time(totals.exchange),
        transfer: Time(totals.transfer),
        hidden: Time(totals.hidden),
        idle: Time(totals.idle),
        arena: totals.arena,
    }
}

fn totals(line: &RankLine) -> Totals {
    Totals {
        rank: line.rank,
        compute: line.compute.0,
        exchange: line.exchange.0,
        transfer: line.transfer.0,
        hidden: line.hidden.0,
        idle: line.idle.0,
        arena: line.arena,
    }
}

fn event(line: EventLine) -> Result<TraceEvent, String> {
    let EventLine(rank, stream, span, action, start, end, confidence) = line;
    Ok(TraceEvent {
        rank,
        stream: known(&stream, "stream", |word| Stream::ALL.into_iter().find(|stream| stream.name() == word))?,
        span: known(&span, "span", parse_span)?,
        action: known(&action, "action", parse_action)?,
        start: start.0,
        end: end.0,
        confidence,
    })
}

fn known<T>(word: &str, what: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
    parse(word).ok_or_else(|| format!("`{}` is no {what}", shown(word)))
}

fn action_words(action: Action) -> String {
    let numbered = |word: &str, number: &dyn Display| format!("{word} {number}");
    match action {
        Action::Compute(FragmentId(id)) => numbered("run", &id),
        Action::Exchange(CollectiveId(id)) => numbered("exchange", &id),
        Action::Send(TransferId(id)) => numbered("send", &id),
        Action::Receive(TransferId(id)) => numbered("receive", &id),
        Action::Free => "free".to_owned(),
        Action::Signal(EventId(id)) => numbered("signal", &id),
        Action::Wait(EventId(id)) => numbered("wait", &id),
    }
}

fn parse_action(words: &str) -> Option<Action> {
    if words == "free" {
        return Some(Action::Free);
    }
    let (word, number) = words.split_once(' ')?;
    Some(match word {
        "run" => Action::Compute(FragmentId(number.parse().ok()?)),
        "exchange" => Action::Exchange(CollectiveId(number.parse().ok()?)),
        "send" => Action::Send(TransferId(number.parse().ok()?)),
        "receive" => Action::Receive(TransferId(number.parse().ok()?)),
        "signal" => Action::Signal(EventId(number.parse().ok()?)),
        "wait" => Action::Wait(EventId(number.parse().ok()?)),
        _ => return None,
    })
}

/// `m0 L12 F`, as a span prints.
fn parse_span(words: &str) -> Option<Span> {
    let mut rest = words;
    let mut number = |prefix: char| -> Option<Option<u16>> {
        let Some(behind) = rest.strip_prefix(prefix) else { return Some(None) };
        let (number, behind) = behind.split_once(' ')?;
        rest = behind;
        number.parse().ok().map(Some)
    };
    let (microbatch, layer) = (number('m')?, number('L')?);
    let phases = [Phase::Forward, Phase::Backward, Phase::Update];
    let phase = phases.into_iter().find(|phase| rest == phase.letter().to_string())?;
    Some(Span { microbatch, layer, phase })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Draws, Seed};

    fn random(seed: u64) -> Trace {
        let mut draws = Draws::new(Seed(seed));
        let mut trace = Trace {
            origin: *draws.pick(&[Origin::Predicted, Origin::Measured]),
            digest: draws.below(u64::MAX),
            step: Seconds(draws.uniform()),
            events: Vec::new(),
            memory: Vec::new(),
            totals: Vec::new(),
            shares: [0; 3].map(|_: u8| Seconds(draws.uniform())),
        };
        for rank in 0..draws.below(3) as u32 {
            let time = |draws: &mut Draws| Seconds(draws.uniform() * 1e-3);
            trace.totals.push(Totals {
                rank,
                compute: time(&mut draws),
                exchange: time(&mut draws),
                transfer: time(&mut draws),
                hidden: time(&mut draws),
                idle: Seconds::ZERO,
                arena: Bytes(draws.below(1 << 40)),
            });
            trace.memory.push(MemorySample { rank, time: time(&mut draws), live: Bytes(draws.below(1 << 40)) });
            let actions = [
                Action::Compute(FragmentId(7)),
                Action::Exchange(CollectiveId(0)),
                Action::Send(TransferId(3)),
                Action::Receive(TransferId(u32::MAX)),
                Action::Free,
                Action::Signal(EventId(9)),
                Action::Wait(EventId(12)),
            ];
            for action in actions {
                let number = |draws: &mut Draws| *draws.pick(&[None, Some(0), Some(12), Some(u16::MAX)]);
                let (microbatch, layer) = (number(&mut draws), number(&mut draws));
                let phase = *draws.pick(&[Phase::Forward, Phase::Backward, Phase::Update]);
                let span = Span { microbatch, layer, phase };
                let confidence = *draws.pick(&[Confidence::Measured, Confidence::Interpolated, Confidence::Modelled]);
                let (start, end) = (time(&mut draws), time(&mut draws));
                let stream = *draws.pick(&Stream::ALL);
                trace.events.push(TraceEvent { rank, stream, span, action, start, end, confidence });
            }
        }
        trace
    }

    #[test]
    fn what_is_printed_is_read_back_to_the_bit() {
        for seed in 0..200 {
            let trace = random(seed);
            assert_eq!(parse_trace(&print_trace(&trace), "t"), Ok(trace), "seed {seed}");
        }
    }

    fn said(text: &str) -> String {
        parse_trace(text, "p.trace").expect_err("a mistake").to_string()
    }

    #[test]
    fn a_mistake_names_its_line() {
        let trace = Trace { events: Vec::new(), totals: Vec::new(), memory: Vec::new(), ..random(0) };
        let head = print_trace(&trace);
        let event = "{\"event\":[0,\"compute\",\"m0 L3 F\",\"run 5\",\"0 s\",\"120 µs\",\"measured\"]}\n";
        assert!(parse_trace(&format!("{head}{event}"), "p.trace").is_ok());
        let wrong = |from: &str, to: &str| said(&format!("{head}{event}{}", event.replacen(from, to, 1)));
        assert!(wrong("compute", "compote").starts_with("error: p.trace:3: `compote` is no stream"));
        assert!(wrong("L3 F", "L3 G").starts_with("error: p.trace:3: `m0 L3 G` is no span"));
        assert!(wrong("run 5", "run").starts_with("error: p.trace:3: `run` is no action"));
        assert!(wrong("120 µs", "120").starts_with("error: p.trace:3: not a line of a trace: "));
        assert!(said("").starts_with("error: p.trace:1: not a line of a trace: "));
        assert!(said(&head.replacen("\"format\":1", "\"format\":2", 1)).contains("format `2` is not known here"));
    }
}
