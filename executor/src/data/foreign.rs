//! A cage for foreign code that panics at files which it does not expect.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// The name of the thread in which foreign code runs: what it panics with is told as an error.
pub const FOREIGN: &str = "foreign";

/// Rules of a file may go deep.
const STACK: usize = 64 << 20;

/// What `act` gives, or the first line of what it panicked with.
pub(crate) fn caged<T: Send>(act: impl FnOnce() -> T + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name(FOREIGN.to_owned()).stack_size(STACK);
        let started = builder.spawn_scoped(scope, || catch_unwind(AssertUnwindSafe(act)));
        let handle = started.map_err(|error| format!("no thread for it: {error}"))?;
        handle.join().and_then(|caught| caught).map_err(|payload| words_of(&*payload))
    })
}

fn words_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    text.unwrap_or("it broke off").lines().next().unwrap_or_default().to_owned()
}
