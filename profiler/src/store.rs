//! The profile on disk: read if it is there, and written at once and whole.

use std::fs::File;
use std::io::{self, Write as _};
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

/// Writes a file beside its place, under a name that nobody can foresee and lay a link under, and moves it there.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // As any file of the user, not for the user alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".hetu-profile-");
    let write = || {
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        Ok(file.persist(path)?)
    };
    write().map(drop).map_err(|source| Error::Save { file: path.display().to_string(), source })
}
