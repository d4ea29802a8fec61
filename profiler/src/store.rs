//! The profile on disk: read if it is there, and written at once and whole.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hetu_profiler::Error;
use ir::file::{parse_profile, print_profile};
use ir::profile::Profile;

/// A profile without measurements.
pub(crate) fn empty(device: &str) -> Profile {
    Profile::new(device)
}

/// What was measured on this device before; nothing if there is no such file.
pub(crate) fn known(path: &Path, device: &str) -> Result<Profile> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(empty(device)),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let name = path.display().to_string();
    let profile = parse_profile(&ir::file::read(file, ir::file::FILE_MAX, &name)?, &name)?;
    if profile.device != device {
        bail!(
            "error: {name}: measured on `{}`, but this is `{device}`\n  help: choose another file with -o, or measure \
             everything anew with --again",
            profile.device
        );
    }
    Ok(profile)
}

/// Writes a profile: sorted, and so that the file is never half written.
pub(crate) fn save(path: &Path, profile: &Profile) -> Result<(), Error> {
    let mut profile = profile.clone();
    profile.samples.sort_by(|a, b| a.work.cmp(&b.work));
    write(path, &print_profile(&profile))
}

/// Writes a file beside its place and moves it there.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = fs::write(&part, text).and_then(|()| fs::rename(&part, path));
    written.map_err(|source| {
        // Best effort: what matters is the first error.
        drop(fs::remove_file(&part));
        Error::Save { file: path.display().to_string(), source }
    })
}
