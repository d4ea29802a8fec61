//! A file system for tests that is cut at any change.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::files::{Disk, Files, Target};

/// A file system that stops, as a machine without power does, or refuses once, as a full disk does.
#[derive(Clone, Debug)]
pub(crate) struct Cut(Arc<Mutex<Ahead>>);

#[derive(Debug)]
struct Ahead {
    /// Changes that still happen.
    left: usize,
    then: Then,
    /// What is not yet on the disk.
    unsafe_files: Vec<(PathBuf, File)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Stop,
    RefuseOnce,
    Stopped,
    GoOn,
}

impl Cut {
    pub(crate) fn after(left: usize, then: Then) -> Cut {
        Cut(Arc::new(Mutex::new(Ahead { left, then, unsafe_files: Vec::new() })))
    }

    pub(crate) fn was_reached(&self) -> bool {
        matches!(self.0.lock().unwrap().then, Then::Stopped | Then::GoOn)
    }

    fn change(&self) -> io::Result<()> {
        let mut ahead = self.0.lock().unwrap();
        match (ahead.then, ahead.left) {
            (Then::GoOn, _) => Ok(()),
            (Then::Stopped, _) => Err(ErrorKind::Other.into()),
            (Then::RefuseOnce, 0) => {
                ahead.then = Then::GoOn;
                Err(ErrorKind::StorageFull.into())
            }
            (Then::Stop, 0) => {
                ahead.then = Then::Stopped;
                // Half of what nobody saw on the disk is lost.
                for (_, file) in ahead.unsafe_files.drain(..) {
                    file.set_len(file.metadata()?.len() / 2)?;
                }
                Err(ErrorKind::Other.into())
            }
            (Then::Stop | Then::RefuseOnce, _) => {
                ahead.left -= 1;
                Ok(())
            }
        }
    }
}

impl Files for Cut {
    fn make_folder(&self, within: &Path, prefix: &str) -> io::Result<PathBuf> {
        self.change()?;
        Disk.make_folder(within, prefix)
    }

    fn make_file(&self, path: &Path) -> io::Result<Box<dyn Target>> {
        self.change()?;
        let file = File::create_new(path)?;
        self.0.lock().unwrap().unsafe_files.push((path.to_owned(), file.try_clone()?));
        Ok(Box::new(CutFile { path: path.to_owned(), file, cut: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        Disk.rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        Disk.sync_folder(path)
    }

    fn remove(&self, folder: &Path) -> io::Result<()> {
        if let Err(error) = self.change() {
            // Half of it is gone.
            if let Some(entry) = fs::read_dir(folder)?.flatten().next() {
                fs::remove_file(entry.path())?;
            }
            return Err(error);
        }
        Disk.remove(folder)
    }
}

struct CutFile {
    path: PathBuf,
    file: File,
    cut: Cut,
}

impl Write for CutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.cut.change() {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for CutFile {
    fn sync(&mut self) -> io::Result<()> {
        self.cut.change()?;
        self.cut.0.lock().unwrap().unsafe_files.retain(|(path, _)| *path != self.path);
        self.file.sync_all()
    }
}
