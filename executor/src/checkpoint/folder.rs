//! The folder of the checkpoints of one training: one writer, the last two kept, nothing good removed before its
//! successor is whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use ir::units::Bytes;

use super::CheckpointError;
use super::files::{Disk, Files};
use super::identity::{Identity, Noted};
use super::manifest::{MANIFEST, Manifest, PiecesFile, pieces_name};
use super::pieces::{self, Copy};
use super::talk::{agreed, gathered, together};
use crate::session::Session;
use crate::world::World;

/// Checkpoints that are kept.
const KEPT: usize = 2;
const LOCK: &str = ".lock";
/// What is not yet whole, or not any more: cleared at the next start.
const SAVING: &str = ".saving-";
const REMOVING: &str = ".removing-";
/// Before the name of what could not be read: it stays for people.
const DAMAGED: &str = "damaged-";

/// A folder of checkpoints that this training alone writes to, as long as this value or its process lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    files: Arc<dyn Files>,
    /// Held by process 0.
    _lock: Option<File>,
}

/// A checkpoint that is written beside the training: not yet one.
#[derive(Debug)]
pub struct Saving {
    step: u64,
    facts: Vec<Noted>,
    partial: PathBuf,
    writing: JoinHandle<io::Result<PiecesFile>>,
}

impl Saving {
    /// Whether this process has written its part, or failed.
    pub fn is_written(&self) -> bool {
        self.writing.is_finished()
    }

    /// Of so many steps.
    pub fn step(&self) -> u64 {
        self.step
    }
}

/// Where a training went on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The checkpoint.
    pub path: PathBuf,
    /// Why later ones were left out; a sentence for each.
    pub left_out: Vec<String>,
}

impl Folder {
    /// Takes the folder, which is made if it is not there, and clears what a killed run left half done.
    ///
    /// # Errors
    /// Another run has it, it cannot be written, it holds checkpoints of an earlier version, or not all processes see
    /// it.
    pub fn open(path: &Path, world: &mut dyn World) -> Result<Folder, CheckpointError> {
        Folder::open_with(path, Box::new(Disk), world)
    }

    pub(crate) fn open_with(
        path: &Path,
        files: Box<dyn Files>,
        world: &mut dyn World,
    ) -> Result<Folder, CheckpointError> {
        let first = world.process() == 0;
        let lock = if first { lock(path).map(Some) } else { Ok(None) };
        let lock = together(world, lock)?;
        let process = world.process();
        let is_seen = path.join(LOCK).exists();
        together(world, is_seen.then_some(()).ok_or(CheckpointError::Unseen { path: path.to_owned(), process }))?;
        let folder = Folder { path: path.to_owned(), files: Arc::from(files), _lock: lock };
        if first {
            folder.clear();
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Steps of the checkpoints that this process sees there, the last one last.
    pub fn steps(&self) -> Vec<u64> {
        let mut steps: Vec<u64> = names(&self.path).iter().filter_map(|name| step_of(name)).collect();
        steps.sort_unstable();
        steps
    }

    /// The step of the last checkpoint at `path`, whoever saves there; none also where there is no folder.
    pub fn last_seen(path: &Path) -> Option<u64> {
        names(path).iter().filter_map(|name| step_of(name)).max()
    }

    /// Where the last checkpoint at `path` is, if there is one.
    pub(crate) fn last_path(path: &Path) -> Option<PathBuf> {
        Folder::last_seen(path).map(|step| path.join(step_name(step)))
    }

    /// The step of the last checkpoint, if there is one: as process 0 sees it, told to all.
    ///
    /// # Errors
    /// If another process is lost.
    pub fn last(&self, world: &mut dyn World) -> Result<Option<u64>, CheckpointError> {
        Ok(self.steps_of_first(world)?.last().copied())
    }

    fn steps_of_first(&self, world: &mut dyn World) -> Result<Vec<u64>, CheckpointError> {
        Ok(gathered(world, Ok(self.steps()))?.swap_remove(0))
    }

    /// Saves the state of a session: when this comes back without error, the checkpoint is whole and on the disk.
    /// Then removes all but the last two. Gives back where it is.
    ///
    /// # Errors
    /// Something could not be written, here or in another process; what was saved before is still there.
    pub fn save(
        &self,
        session: &Session,
        identity: &Identity,
        world: &mut dyn World,
    ) -> Result<PathBuf, CheckpointError> {
        let partial = self.make_place(world)?;
        let path = partial.join(pieces_name(world.process() as usize));
        let written = pieces::write(&session.draft, &*session.host, &*self.files, &path);
        let facts = identity.noted();
        self.conclude((session.steps_done(), facts), &partial, written, world)
    }

    /// Bytes of memory that this process needs for [`Folder::save_beside`].
    pub fn copy_bytes(session: &Session) -> Bytes {
        Bytes(pieces::copy_bytes(&session.draft, &*session.host))
    }

    /// Begins to save the state of a session from a copy in memory, beside what follows. There is no checkpoint before
    /// [`Folder::finish`] has come back.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub fn save_beside(
        &self,
        session: &Session,
        identity: &Identity,
        world: &mut dyn World,
    ) -> Result<Saving, CheckpointError> {
        let partial = self.make_place(world)?;
        let path = partial.join(pieces_name(world.process() as usize));
        let (copy, files) = (Copy::of(&session.draft, &*session.host), Arc::clone(&self.files));
        let writing = thread::spawn(move || copy.write(&*files, &path));
        Ok(Saving { step: session.steps_done(), facts: identity.noted(), partial, writing })
    }

    /// Ends what [`Folder::save_beside`] began, as [`Folder::save`] does: waits until all processes have written.
    ///
    /// # Errors
    /// As [`Folder::save`].
    pub fn finish(&self, saving: Saving, world: &mut dyn World) -> Result<PathBuf, CheckpointError> {
        let Saving { step, facts, partial, writing } = saving;
        let written = writing.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes panicked")));
        self.conclude((step, facts), &partial, written, world)
    }

    /// Makes a checkpoint of what all processes have written.
    fn conclude(
        &self,
        (step, facts): (u64, Vec<Noted>),
        partial: &Path,
        written: io::Result<PiecesFile>,
        world: &mut dyn World,
    ) -> Result<PathBuf, CheckpointError> {
        let first = world.process() == 0;
        let place = self.path.join(step_name(step));
        let path = partial.join(pieces_name(world.process() as usize));
        let finished =
            gathered(world, written.map_err(|error| CheckpointError::file(&path, error))).and_then(|files| {
                let manifest = Manifest { step, facts, files };
                let finished = if first { self.seal(&manifest, partial, &place) } else { Ok(()) };
                together(world, finished)
            });
        if first && finished.is_err() {
            // What stays only takes room, until the next start.
            let _ = self.files.remove(partial);
        }
        finished.map(|()| {
            if first {
                self.remove_old();
            }
            place
        })
    }

    /// Gives a session the last checkpoint that can be read. A damaged one is set aside under another name, and the
    /// one before is taken. Facts that differ are accepted if `allowed` names them.
    ///
    /// # Errors
    /// There is none, none can be read, or it is of another training: then the session should not be used.
    pub fn resume(
        &self,
        session: &mut Session,
        (identity, allowed): (&Identity, &[String]),
        world: &mut dyn World,
    ) -> Result<Resumed, CheckpointError> {
        let mut left_out = Vec::new();
        let mut damaged: Vec<PathBuf> = Vec::new();
        for step in self.steps_of_first(world)?.into_iter().rev() {
            let path = self.path.join(step_name(step));
            match agreed(world, restore(session, &path, step, (identity, allowed)))? {
                Ok(()) => {
                    if world.process() == 0 {
                        damaged.iter().for_each(|path| self.set_aside(path));
                    }
                    return Ok(Resumed { path, left_out });
                }
                Err(words) => {
                    left_out.push(words);
                    damaged.push(path);
                }
            }
        }
        if left_out.is_empty() {
            return Err(CheckpointError::Nothing { path: self.path.clone() });
        }
        Err(CheckpointError::AllDamaged { reasons: left_out })
    }

    /// A new folder, which all processes write to.
    fn make_place(&self, world: &mut dyn World) -> Result<PathBuf, CheckpointError> {
        let make = || {
            let made = self.files.make_folder(&self.path, SAVING);
            let path = made.map_err(|error| CheckpointError::file(&self.path, error))?;
            Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        };
        let made = if world.process() == 0 { make() } else { Ok(String::new()) };
        Ok(self.path.join(&gathered(world, made)?[0]))
    }

    /// Writes the manifest, and gives the folder its name when all is on the disk.
    fn seal(&self, manifest: &Manifest, partial: &Path, place: &Path) -> Result<(), CheckpointError> {
        let path = partial.join(MANIFEST);
        let write = || {
            let mut file = self.files.make_file(&path)?;
            file.write_all(manifest.print().as_bytes())?;
            file.sync()?;
            self.files.sync_folder(partial)?;
            if place.exists() {
                // Of this step already: only where the training went back behind it.
                self.files.rename(place, &self.aside(place))?;
            }
            self.files.rename(partial, place)?;
            self.files.sync_folder(&self.path)
        };
        write().map_err(|error| CheckpointError::file(&path, error))
    }

    fn remove_old(&self) {
        let steps = self.steps();
        for &step in steps.iter().take(steps.len().saturating_sub(KEPT)) {
            let path = self.path.join(step_name(step));
            let aside = self.aside(&path);
            // One that stays only takes room; half of one must not have a name.
            let _ = self.files.rename(&path, &aside).and_then(|()| self.files.remove(&aside));
        }
    }

    /// A name under which it is no checkpoint any more, and is cleared at the next start.
    fn aside(&self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let free = (0..).map(|index: u32| self.path.join(format!("{REMOVING}{name}-{index}")));
        free.into_iter().find(|path| !path.exists()).expect("some number is free")
    }

    fn set_aside(&self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = self.path.join(format!("{DAMAGED}{name}"));
        // Only the last of one step is of use; if this fails, the next save of this step takes its name.
        let _ = self.files.remove(&aside);
        let _ = self.files.rename(path, &aside);
    }

    /// Removes what killed runs left.
    fn clear(&self) {
        for name in names(&self.path) {
            if name.starts_with(SAVING) || name.starts_with(REMOVING) {
                // What stays only takes room.
                let _ = self.files.remove(&self.path.join(name));
            }
        }
    }
}

/// What is in a folder.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Takes the folder for this process; the lock ends with it, however it ends.
fn lock(path: &Path) -> Result<File, CheckpointError> {
    fs::create_dir_all(path).map_err(|error| CheckpointError::file(path, error))?;
    let entries = fs::read_dir(path).map_err(|error| CheckpointError::file(path, error))?;
    let is_earlier = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("step-") && name.ends_with(".safetensors")
    };
    if let Some(path) = entries.flatten().map(|entry| entry.path()).find(is_earlier) {
        return Err(CheckpointError::Earlier { path });
    }
    let file = path.join(LOCK);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let opened = opened.map_err(|error| CheckpointError::file(&file, error))?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(TryLockError::WouldBlock) => Err(CheckpointError::Taken { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(CheckpointError::file(&file, error)),
    }
}

/// Takes up one checkpoint.
fn restore(
    session: &mut Session,
    path: &Path,
    step: u64,
    (identity, allowed): (&Identity, &[String]),
) -> Result<(), CheckpointError> {
    let manifest = Manifest::read(path)?;
    if manifest.step != step {
        return Err(CheckpointError::damaged(path, format!("the manifest is of step {}", manifest.step)));
    }
    if let Some(found) = identity.differences(&manifest.facts, allowed) {
        let (differences, remedy) = (found.words, found.remedy);
        return Err(CheckpointError::Unlike { path: path.to_owned(), differences, remedy });
    }
    pieces::read(&session.draft, &mut *session.host, path, &manifest)?;
    session.step = step;
    Ok(())
}

fn step_name(step: u64) -> String {
    format!("step-{step:06}")
}

/// The step in `step-000200`.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (step_name(step) == name).then_some(step)
}
