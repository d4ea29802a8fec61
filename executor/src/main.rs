//! `hetu-exec`: trains under a plan and reports predicted beside measured.

mod cli;
mod options;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use options::{Command, Options};

/// Whatever is given back after a failure is so within this.
const GRACE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(shell) = options.completions {
        clap_complete::generate(shell, &mut Options::command(), "hetu-exec", &mut Quiet);
        return ExitCode::SUCCESS;
    }
    if let Some(Command::Export(options)) = &options.command {
        return exit(cli::export(options).map(|()| 0));
    }
    hush_foreign();
    let ended = match options.supervise {
        Some(restarts) => cli::supervise(&options, &std::env::args_os().skip(1).collect::<Vec<_>>(), restarts),
        None => cli::run(&options).map(cli::Ending::exit),
    };
    exit(ended)
}

fn exit(ended: Result<u8, cli::Failure>) -> ExitCode {
    match ended {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            // If nobody listens, the exit status still says it.
            let _ = writeln!(std::io::stderr(), "{}", failure.text);
            end_soon();
            ExitCode::from(failure.exit)
        }
    }
}

/// Ends the process even where a library waits, at its end, for a device that waits for a process that is gone.
fn end_soon() {
    std::thread::spawn(|| {
        std::thread::sleep(GRACE);
        std::process::abort();
    });
}

/// What foreign rules panic with is told as an error of their file, once and not twice.
fn hush_foreign() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() != Some(hetu_executor::data::foreign::FOREIGN) {
            usual(info);
        }
    }));
}

/// Standard output, without a complaint if nobody reads it.
struct Quiet;

impl Write for Quiet {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stdout().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = std::io::stdout().flush();
        Ok(())
    }
}
