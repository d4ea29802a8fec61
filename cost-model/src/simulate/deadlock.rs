//! What is said when programs cannot come to their end.

use std::fmt;

use ir::program::{Action, Span, Stream};

use super::engine::Engine;

/// No role can go on, but not all are at their end.
#[derive(Clone, Debug, PartialEq)]
pub struct Deadlock {
    /// What stands, by role and stream. At least one.
    pub stuck: Vec<Stuck>,
}

/// An instruction that never ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Stuck {
    /// The stage of its role.
    pub stage: u32,
    /// Its place in the code.
    pub instruction: usize,
    /// Its stream.
    pub stream: Stream,
    /// What it is part of.
    pub span: Span,
    /// What it waits for.
    pub reason: String,
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the programs wait for each other")?;
        for stuck in &self.stuck {
            write!(f, "\n  {stuck}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stuck { stage, instruction, stream, span, reason } = self;
        write!(f, "stage {stage}, instruction {instruction} on {} ({span}) {reason}", stream.name())
    }
}

impl std::error::Error for Deadlock {}

/// The head of every stream that is not at its end.
pub(super) fn deadlock(engine: &Engine<'_>) -> Deadlock {
    let mut stuck = Vec::new();
    for player in &engine.players {
        for stream in Stream::ALL {
            let Some(&head) = player.head(stream) else { continue };
            let (instr, instruction) = (player.instr(head), head.place as usize);
            let reason = reason(engine, player.index, head.action);
            stuck.push(Stuck { stage: player.role.id.0, instruction, stream, span: instr.span, reason });
        }
    }
    Deadlock { stuck }
}

fn reason(engine: &Engine<'_>, role: usize, action: Action) -> String {
    match action {
        Action::Wait(event) => {
            let code = &engine.players[role].role.code;
            match code.iter().position(|instr| instr.action == Action::Signal(event)) {
                Some(signal) => format!(
                    "waits for event {}, which instruction {signal} on {} would signal",
                    event.0,
                    code[signal].stream.name()
                ),
                None => format!("waits for event {}, which nothing signals", event.0),
            }
        }
        Action::Send(id) => format!("waits for stage {} to receive", engine.draft.transfers[id.index()].to.0),
        Action::Receive(id) => format!("waits for stage {} to send", engine.draft.transfers[id.index()].from.0),
        Action::Exchange(id) => format!("waits for other stages to come to collective {}", id.0),
        Action::Compute(_) | Action::Free | Action::Signal(_) => "waits for its thread".to_owned(),
    }
}
