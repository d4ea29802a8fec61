//! `hetu-plan compile`: the programs of a plan as text, or what one pass of the compiler makes of it.

use compiler::{Pass, explain};
use ir::text::print;

use super::check::violations_failure;
use super::failure::Failure;
use super::input::job;
use super::output::{check_writable, show, write_whole};
use crate::options::CompileOptions;

pub(crate) fn compile(options: &CompileOptions) -> Result<(), Failure> {
    let job = job(&options.plan, None)?;
    if let Some(path) = &options.output {
        check_writable(path)?;
    }
    let name = options.plan.display().to_string();
    if let Some(number) = options.pass {
        let text = explain(&job.model.graph(), &job.file.plan, Pass::ALL[usize::from(number) - 1])
            .map_err(|violations| violations_failure(&name, &violations))?;
        return match &options.output {
            None => show(&text),
            Some(path) => write_whole(path, &text),
        };
    }
    let programs = compiler::compile(&job.model.graph(), &job.cluster, &job.file.plan)
        .map_err(|violations| violations_failure(&name, &violations))?;
    let text = print(programs.draft());
    let Some(path) = &options.output else { return show(&text) };
    write_whole(path, &text)?;
    let roles = programs.roles().len();
    show(&format!(
        "Wrote {}: programs {:016x}, {roles} of them, {} lines\n",
        path.display(),
        programs.digest(),
        text.lines().count()
    ))
}
