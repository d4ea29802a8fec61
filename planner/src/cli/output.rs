//! Printing, and files that are written whole or not at all.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anstyle::{AnsiColor, Style};
use tempfile::NamedTempFile;

use super::failure::Failure;

/// Held while a file is replaced, so that an interrupt waits for it.
static WRITING: Mutex<()> = Mutex::new(());

/// Prints to stdout. A reader that has gone ends the command quietly.
pub(crate) fn show(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure { status: 0, text: String::new() }),
        Err(error) => Err(Failure::wrong(format!("cannot print: {error}"))),
    }
}

/// Prints text for people to stdout, with colours where it is a terminal that wants them.
pub(crate) fn show_painted(text: &str) -> Result<(), Failure> {
    let mut text = text.to_owned();
    text = text.replace("does not fit", &painted(MISFIT, "does not fit"));
    let mut painter = anstream::AutoStream::new(Vec::new(), anstream::AutoStream::choice(&io::stdout()));
    painter.write_all(text.as_bytes()).expect("memory can be written");
    show(&String::from_utf8_lossy(&painter.into_inner()))
}

/// What does not fit.
const MISFIT: Style = AnsiColor::Yellow.on_default();
/// That something is wrong.
const WRONG: Style = AnsiColor::Red.on_default().bold();
/// The best of several.
pub(crate) const BEST: Style = Style::new().bold();

/// Text in a style.
pub(crate) fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// How many columns a line on stdout may have; none where nobody looks at lines. `COLUMNS` comes first.
pub(crate) fn columns() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
    said.or_else(|| terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into()))
}

/// Prints to stderr, if there is something to say and somebody to read it.
pub(crate) fn complain(text: &str) {
    if !text.is_empty() {
        // Nobody is left to tell that this failed.
        let paint = |line: &str| match line.strip_prefix("error:") {
            Some(rest) => painted(WRONG, "error:") + rest,
            None => line.to_owned(),
        };
        let lines: Vec<String> = text.split('\n').map(paint).collect();
        let _ = writeln!(anstream::stderr().lock(), "{}", lines.join("\n"));
    }
}

/// From now on an interrupt ends the command with status 130, but not in the middle of a file.
pub(crate) fn end_at_interrupt() -> Result<(), Failure> {
    let handler = || {
        let _whole = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        complain("\ninterrupted: the search was not finished");
        std::process::exit(130);
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::wrong(format!("cannot catch interrupts: {error}")))
}

/// Makes sure that a file can be written at `path`, before time is spent on its content. Folders are made.
pub(crate) fn check_writable(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Err(cannot_write(path, "it is a folder").help("name a file, such as plan.yaml"));
    }
    fs::create_dir_all(folder_of(path)).map_err(|error| cannot_write(path, error))?;
    beside(path).and_then(NamedTempFile::close).map_err(|error| cannot_write(path, error))
}

/// Makes sure that a folder is there and can be written.
pub(crate) fn check_folder(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| cannot_write(folder, error))?;
    check_writable(&folder.join("report.html"))
}

/// Replaces the file at `path`: readers see the old content or the new, never a part.
pub(crate) fn write_whole(path: &Path, content: &str) -> Result<(), Failure> {
    let _whole = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let write = || {
        let mut file = beside(path)?;
        file.write_all(content.as_bytes())?;
        Ok(file.persist(path)?)
    };
    write().map(drop).map_err(|error: io::Error| cannot_write(path, error))
}

/// The folder of a file.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `path` as it is found from `folder`; absolute if they have nothing in common.
pub(crate) fn relative(path: &Path, folder: &Path) -> Result<String, Failure> {
    let absolute = |path: &Path| {
        fs::canonicalize(path).map_err(|error| Failure::wrong(format!("cannot find {}: {error}", path.display())))
    };
    let (path, folder) = (absolute(path)?, absolute(folder)?);
    let common = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(common).map(|_| PathBuf::from(".."));
    let down = path.components().skip(common).map(|part| PathBuf::from(part.as_os_str()));
    let relative: PathBuf = if common == 0 { path.clone() } else { up.chain(down).collect() };
    let text = relative.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::wrong(format!("cannot name {} in a file: it is not UTF-8", path.display())))
}

/// A new file beside `path`, of a name that nobody can foresee and lay a link under; gone unless it is given that path.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    // As any file of the user, not for the user alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".hetu-plan-").tempfile_in(folder_of(path))
}

fn cannot_write(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::wrong(format!("cannot write {}: {why}", path.display()))
}
