//! `hetu-plan`: from a model and devices to the fastest plan that fits.

mod cli;
mod options;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::Failure;
use options::{Command, Options};

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            cli::complain(&failure.text);
            ExitCode::from(failure.status)
        }
    }
}

fn run(options: Options) -> Result<(), Failure> {
    if let Some(shell) = options.completions {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Options::command(), "hetu-plan", &mut text);
        return cli::show(&with_files(&String::from_utf8_lossy(&text)));
    }
    if let Some(folder) = options.man {
        return cli::man(Options::command(), &folder);
    }
    match options.command {
        None => cli::plan(&options.plan),
        Some(Command::Check(options)) => cli::check(&options),
        Some(Command::Models) => cli::models(),
        Some(Command::Clusters) => cli::clusters(),
        Some(Command::Memory(options)) => cli::memory(&options),
        Some(Command::Solve(options)) => cli::solve(&options),
        Some(Command::Import(options)) => cli::import(&options),
        Some(Command::Dump(options)) => cli::dump(&options),
        Some(Command::Compile(options)) => cli::compile(&options),
        Some(Command::Replay(options)) => cli::replay(&options),
        Some(Command::Export(options)) => cli::export(&options),
    }
}

/// Completions of zsh, in which a list of names leaves no room for files: both are offered.
fn with_files(completions: &str) -> String {
    options::lists().iter().fold(completions.to_owned(), |text, names| {
        let names = names.join(" ");
        let both = format!(":{{_alternative \"names:name:({names})\" \"files:file:_files\"}}'");
        text.replace(&format!(":({names})'"), &both)
    })
}
