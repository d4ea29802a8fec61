//! `--supervise`: the training runs in a child process, which is started again when it fails, as long as that helps.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use hetu_executor::Folder;

use super::failure::{Failure, Outcome};
use super::signals::{self, Signals};
use super::words::counted;
use crate::options::{Options, SUPERVISE};

/// Exit status if the training fails again and again.
pub(crate) const GIVEN_UP: u8 = 3;
/// Between two looks at the child and at signals: little beside a start, and no work.
const LOOK: Duration = Duration::from_millis(50);

/// What the end of a child means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// All is done, or another start would end in the same way.
    End(u8),
    /// It may go better next time; why it ended.
    Failed(String),
}

/// Trains in a child process with these arguments, which `options` were read from. If it fails it is started again
/// from its last checkpoint, at most `restarts` times, but not if no step was saved since the failure before. A signal
/// to this process goes to the child, and ends both.
///
/// # Errors
/// The child cannot be started, or it failed too often: then the exit status is [`GIVEN_UP`].
pub(crate) fn run(options: &Options, arguments: &[OsString], restarts: u32) -> Outcome<u8> {
    let folder = options.checkpoint.as_deref().expect("the command line demands a folder");
    let arguments = own_arguments(arguments, options);
    let signals = Signals::listen()?;
    let mut gained: Option<Option<u64>> = None;
    for start in 0.. {
        let status = child(&arguments, &signals)?;
        if let Some(signal) = signals.seen() {
            return Ok(exit(status).unwrap_or_else(|| signals::exit(signal)));
        }
        let words = match verdict(status) {
            Verdict::End(status) => return Ok(status),
            Verdict::Failed(words) => words,
        };
        let saved = Folder::last_seen(folder);
        let what = format!("the training failed with {words}, {}", saved_words(saved, folder));
        if gained == Some(saved) {
            return Err(given_up(format!("{what}: no step more than at the failure before")));
        }
        if start == restarts {
            return Err(given_up(format!("{what}: it was started again {} already", counted(restarts.into(), "time"))));
        }
        eprintln!("note: {what}; start {} of at most {}", start + 2, u64::from(restarts) + 1);
        gained = Some(saved);
    }
    unreachable!("the number of restarts ends it")
}

/// Arguments of the child: those given, without the wish to be supervised, and going on where there is a checkpoint.
fn own_arguments(arguments: &[OsString], options: &Options) -> Vec<OsString> {
    let mut own = Vec::new();
    let mut given = arguments.iter();
    while let Some(argument) = given.next() {
        if argument == SUPERVISE {
            given.next();
        } else if !argument.to_string_lossy().starts_with(&format!("{SUPERVISE}=")) {
            own.push(argument.clone());
        }
    }
    // The first start may demand a checkpoint; so do those that follow, and there is one.
    if options.resume.is_none() {
        own.extend(["--resume", "auto"].map(OsString::from));
    }
    own
}

/// Starts a child and waits for its end. A signal goes on to it once: a second one would not let it save.
fn child(arguments: &[OsString], signals: &Signals) -> Outcome<ExitStatus> {
    let cannot = |error| Failure::run(format!("the training cannot be started: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
    command.args(arguments);
    #[cfg(unix)]
    // So that Ctrl-C reaches it through this process alone.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(cannot)?;
    let mut sent = None;
    loop {
        if let Some(status) = child.try_wait().map_err(cannot)? {
            return Ok(status);
        }
        if sent.is_none()
            && let Some(signal) = signals.seen()
        {
            send(&child, signal);
            sent = Some(signal);
        }
        thread::sleep(LOOK);
    }
}

#[cfg(unix)]
fn send(child: &std::process::Child, signal: u8) {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = Signal::from_named_raw(signal.into()).unwrap_or(Signal::TERM);
    // If it has just ended, it needs none.
    let _ = kill_process(Pid::from_child(child), signal);
}

/// Elsewhere Ctrl-C reaches the child by itself.
#[cfg(not(unix))]
fn send(_: &std::process::Child, _: u8) {}

/// The exit status, if it was not a signal.
fn exit(status: ExitStatus) -> Option<u8> {
    status.code().map(|code| code as u8)
}

fn verdict(status: ExitStatus) -> Verdict {
    match exit(status) {
        // Done; wrong use or files; nobody reads the output.
        Some(code @ (0 | 2 | 141)) => Verdict::End(code),
        Some(code) => Verdict::Failed(format!("exit status {code}")),
        None => Verdict::Failed(status.to_string()),
    }
}

fn saved_words(saved: Option<u64>, folder: &Path) -> String {
    let folder = folder.display();
    saved.map_or(format!("without a checkpoint in {folder}"), |step| format!("step {step} is saved in {folder}"))
}

fn given_up(what: String) -> Failure {
    Failure { exit: GIVEN_UP, ..Failure::run(what) }.help("see above why it failed; the last checkpoint stays")
}
