//! Signals that end a training: the first lets it save, the second ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::failure::{Failure, Outcome};

/// The first signal that came.
pub(crate) struct Signals {
    seen: Arc<AtomicUsize>,
}

impl Signals {
    /// Begins to listen: to Ctrl-C, to what schedulers and `timeout` send, and to a closed terminal.
    pub(crate) fn listen() -> Outcome<Signals> {
        let seen = Arc::new(AtomicUsize::new(0));
        let armed = Arc::new(AtomicBool::new(false));
        for signal in wanted() {
            // In this order: a signal ends the tool only if one came before it.
            flag::register_conditional_shutdown(signal, i32::from(exit(signal as u8)), Arc::clone(&armed))
                .and_then(|_| flag::register(signal, Arc::clone(&armed)))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&seen), signal as usize))
                .map_err(|error| Failure::run(format!("signal {signal} cannot be handled: {error}")))?;
        }
        Ok(Signals { seen })
    }

    /// The number of a signal that came, if one did.
    pub(crate) fn seen(&self) -> Option<u8> {
        match self.seen.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as u8),
        }
    }
}

/// The exit status of a tool that a signal ended, as shells report it.
pub(crate) fn exit(signal: u8) -> u8 {
    128 + signal
}

#[cfg(unix)]
fn wanted() -> Vec<i32> {
    let mut wanted = vec![SIGINT, SIGTERM, SIGUSR1];
    // Whoever starts us with `nohup` wants hang-ups to be ignored.
    if !is_ignored(SIGHUP, &std::fs::read_to_string("/proc/self/status").unwrap_or_default()) {
        wanted.push(SIGHUP);
    }
    wanted
}

#[cfg(not(unix))]
fn wanted() -> Vec<i32> {
    vec![SIGINT, SIGTERM]
}

/// Whether the line `SigIgn:  0000000000000001` has the signal's bit.
#[cfg(unix)]
fn is_ignored(signal: i32, status: &str) -> bool {
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (signal - 1) != 0)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_known() {
        let status = "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(SIGHUP, status) && !is_ignored(SIGTERM, status));
        assert!(!is_ignored(SIGHUP, "") && !is_ignored(SIGHUP, "SigIgn: none"));
    }
}
