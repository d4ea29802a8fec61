//! What checkpoints ask of the file system, so that tests can stop it anywhere.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Changes of a file system; each either happens or does not.
pub(crate) trait Files: Debug + Send + Sync {
    /// Makes a folder of a name that nobody else has or can foresee. Gives back where it is.
    fn make_folder(&self, within: &Path, prefix: &str) -> io::Result<PathBuf>;

    /// Makes a file that was not there.
    fn make_file(&self, path: &Path) -> io::Result<Box<dyn Target>>;

    /// Gives another name, at once and wholly.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Comes back when the names in a folder are on the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with all that is in it.
    fn remove(&self, folder: &Path) -> io::Result<()>;
}

/// A file that is written.
pub(crate) trait Target: Write {
    /// Comes back when all bytes are on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file system itself.
#[derive(Debug)]
pub(crate) struct Disk;

impl Files for Disk {
    fn make_folder(&self, within: &Path, prefix: &str) -> io::Result<PathBuf> {
        Ok(tempfile::Builder::new().prefix(prefix).rand_bytes(12).tempdir_in(within)?.keep())
    }

    fn make_file(&self, path: &Path) -> io::Result<Box<dyn Target>> {
        Ok(Box::new(File::create_new(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Elsewhere folders are no files, and their names are safe as soon as they are given.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }

    fn remove(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir_all(folder)
    }
}

impl Target for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
