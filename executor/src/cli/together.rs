//! Several processes that train together: who speaks, how they meet, and what they must agree on.

use std::time::Duration;

use hetu_executor::{Invitation, Launch, Meet, Processes, World as _};

use super::failure::{Failure, Outcome};
use super::feed::Sources;
use super::inputs::Inputs;
use crate::options::{BackendName, Options, Resume, Save};

/// Processes that a launcher starts at once are there within this, with their plans compiled.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who prints and writes files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// Process 0.
    Heard,
    /// All others.
    Silent,
}

impl Voice {
    /// That of a process.
    pub(crate) fn of(process: u32) -> Voice {
        if process == 0 { Voice::Heard } else { Voice::Silent }
    }
}

/// What the launcher says.
pub(crate) fn launch() -> Outcome<Launch> {
    Launch::from_environment().map_err(Failure::wrong_use)
}

/// Meets the other processes, if there are any.
pub(crate) fn join(launch: &Launch, options: &Options, inputs: &Inputs, sources: &Sources) -> Outcome<Processes> {
    let place = launch.place;
    let lost = |error| Failure::run(error).help("see what that process printed, and whether its host can be reached");
    let mut processes = match &launch.meet {
        Meet::Nowhere => return Ok(Processes::alone()),
        Meet::Address { host, port, token } => {
            let programs = format!("{} with programs {:016x}", env!("CARGO_PKG_VERSION"), inputs.programs.digest());
            let (host, port, token) = (host.clone(), *port, token.clone());
            let invitation = Invitation { place, host, port, token, programs, patience: PATIENCE };
            Processes::new(invitation.join().map_err(lost)?, place.local)
        }
        Meet::Messages => messages(place.local)?,
    };
    let said = agree(&mut processes, options, sources);
    said.inspect_err(|failure| processes.fail(&failure.text))?;
    Ok(processes)
}

#[cfg(feature = "mpi")]
fn messages(local: u32) -> Outcome<Processes> {
    Ok(Processes::new(hetu_executor::messages().map_err(Failure::run)?, local))
}

#[cfg(not(feature = "mpi"))]
fn messages(_: u32) -> Outcome<Processes> {
    unreachable!("without its messages, a launch by MPI has an address")
}

/// Everything that decides what all do together is the same in all.
fn agree(processes: &mut Processes, options: &Options, sources: &Sources) -> Outcome<()> {
    let Options { steps, seed, evaluate_every, evaluate_windows, held_out, trace_every, save_every, .. } = options;
    let Options { resume, allow, .. } = options;
    let backend = options.backend.map_or("default", |name| match name {
        BackendName::Threads => "threads",
        BackendName::Cuda => "cuda",
        BackendName::Shuffle => "shuffle",
    });
    let resume = match resume {
        None => "not given",
        Some(Resume::Last) => "given",
        Some(Resume::Auto) => "auto",
    };
    let save = match options.save {
        Save::Waiting => "waiting",
        Save::Background => "background",
    };
    let values = [
        ("--steps", steps.to_string()),
        ("--seed", seed.to_string()),
        ("--evaluate-every", evaluate_every.to_string()),
        ("--evaluate-windows", evaluate_windows.map_or("default".to_owned(), |count| count.to_string())),
        ("--held-out", held_out.to_string()),
        ("--trace-every", trace_every.to_string()),
        ("--save-every", save_every.to_string()),
        ("--save", save.to_owned()),
        ("--backend", backend.to_owned()),
        ("--checkpoint", options.checkpoint.as_ref().map_or("none", |_| "a folder").to_owned()),
        ("--resume", resume.to_owned()),
        ("--from", options.from.as_ref().map_or("none", |_| "a folder").to_owned()),
        ("--allow", allow.join(",")),
        ("content of --tokenizer", sources.tokenizer.clone()),
        ("content of --text", sources.text.to_string()),
    ];
    for (name, value) in values {
        processes.agree(name, value).map_err(Failure::wrong_use)?;
    }
    Ok(())
}
