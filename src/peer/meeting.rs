//! Where the nodes of a tree on one host find each other: a file that belongs to their common parent process.
//!
//! The file lies in a folder that only its user can enter: the first one of those that `cookie` names which the root
//! can use; the others look into all of them, since their environment may be another. Its name is made of the parent's
//! process id, the moment that it was started (ids come again) and a key. The root makes it complete under another
//! name, takes its lock and links it into place, so that a process that sees the file sees all of it, locked; it holds
//! the lock for its life. A file that nobody locks is a dead root's, and replaced. Files of other users and links are
//! never followed. Imports its sibling `cookie`.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cookie;
use crate::err;
use crate::error::{Error, Result};
use crate::sys::{
    Fd, FolderWatch, Lock, PrivateFolder, SetOnce, at_exit, fork_generation, is_torn, opening, try_flock, user,
};
use crate::wait::{Deadline, Interest, Wait, poll_fd, sleep};

/// The longest text that a root can publish.
const LONGEST: u64 = 4096;
/// How long the readers of a dead root's file may hold up the next root, in seconds.
const PATIENCE_WITH_READERS: f64 = 30.0;
/// The longest key: file names end at 255 bytes.
const LONGEST_KEY: usize = 60;

/// Which file: the parent whose children meet, and a key that distinguishes meetings under one parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    folders: Vec<PathBuf>,
    name: String,
}

impl Place {
    /// The place of `key` among the children of process `parent`.
    pub fn new(parent: u32, key: &[u8]) -> Result<Place> {
        Place::inside(cookie::folders()?, parent, key)
    }

    fn inside(folders: Vec<PathBuf>, parent: u32, key: &[u8]) -> Result<Place> {
        if key.len() > LONGEST_KEY {
            return Err(err!(Argument, "the key has {} bytes, {LONGEST_KEY} are the most", key.len()));
        }
        let mut name = format!("tree-{parent}-{}-", started(parent));
        for byte in key {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => name.push(char::from(*byte)),
                _ => name.push_str(&format!("%{byte:02x}")),
            }
        }
        Ok(Place { folders, name })
    }

    /// The folder that a root uses, made if need be.
    fn make_folder(&self) -> Result<&Path> {
        let mut why = None;
        for folder in &self.folders {
            match PrivateFolder::make(folder) {
                Ok(_) => return Ok(folder),
                Err(e) => why = Some(e),
            }
        }
        let why = why.map_or(String::new(), |e| format!(", the last since {}", e.what()));
        Err(err!(
            Io,
            "none of the folders where a tree could meet can be used{why}; let IPC_RUNTIME_DIR be a folder of yours \
             with mode 0700"
        ))
    }

    /// What the live root of this place has published; `None` when there is no root.
    pub fn read(&self) -> Result<Option<String>> {
        for folder in &self.folders {
            if let Some(text) = self.read_in(folder)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn read_in(&self, folder: &Path) -> Result<Option<String>> {
        if !matches!(PrivateFolder::open(folder), Ok(Some(_))) {
            return Ok(None);
        }
        // Nothing in here blocks; and a fork in between would leave the child with the lock.
        opening(|| {
            let Some(mut file) = ours(&folder.join(&self.name))? else { return Ok(None) };
            if try_flock(file.as_raw_fd(), false) {
                return Ok(None);
            }
            let mut text = String::new();
            let read = Read::by_ref(&mut file).take(LONGEST).read_to_string(&mut text);
            Ok(read.ok().map(|_| text))
        })
    }

    /// Waits until a live root has published something other than `known`; `None` when the time is over.
    pub fn wait(&self, known: Option<&str>, wait: &Wait) -> Result<Option<String>> {
        // First the watch, then the look, so that nothing is missed in between.
        let _ = self.make_folder();
        let watch = FolderWatch::new().ok();
        for folder in &self.folders {
            if let (Some(watch), Ok(name)) = (&watch, CString::new(folder.as_os_str().as_bytes())) {
                // One that is not there is looked into all the same, once a second.
                let _ = watch.add(&name);
            }
        }
        loop {
            if let Some(text) = self.read()?
                && known != Some(text.as_str())
            {
                return Ok(Some(text));
            }
            if wait.deadline.expired() {
                return Ok(None);
            }
            // Once a second in any case: the folder itself may have been replaced.
            match &watch {
                Some(watch) => {
                    poll_fd(watch.fd()?, Interest::Read, &wait.sooner(Deadline::after(1.0)))?;
                    watch.clear();
                }
                None => sleep(&wait.sooner(Deadline::after(0.1)))?,
            }
        }
    }
}

/// When process `pid` was started, in the system's ticks; 0 where that cannot be known.
fn started(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field, a name in brackets, may hold anything; field 22 is the twentieth after it.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().nth(19).and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// Opens the file at `path` for reading if it is a plain file of ours; `None` if there is none or it is another's.
fn ours(path: &Path) -> Result<Option<File>> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ELOOP) => return Ok(None),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => return Ok(None),
        Err(e) => return Err(Error::io("", &format!("open {}", path.display()), &e)),
    };
    let meta = file.metadata().map_err(|e| Error::io("", "fstat", &e))?;
    let good = meta.is_file() && meta.uid() == user() && meta.mode() & 0o077 == 0;
    Ok(good.then_some(file))
}

/// The files that roots of this process hold, for the end of the process.
static HELD: SetOnce<Lock<Holdings>> = SetOnce::new();

#[derive(Debug, Default)]
struct Holdings {
    files: Vec<Claim>,
    /// Whether [`remove_all`] runs at the end of the process.
    at_exit: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    path: PathBuf,
    inode: u64,
    generation: u32,
}

impl Claim {
    /// Removes the file, if it is still the one that we made, in this process.
    fn remove(&self) {
        if self.generation == fork_generation() && fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

extern "C" fn remove_all() {
    if !is_torn()
        && let Some(held) = HELD.get().and_then(Lock::try_lock)
    {
        held.files.iter().for_each(Claim::remove);
    }
}

fn hold(new: Option<Claim>, old: Option<&Claim>) {
    let mut all = HELD.get_or_init(Lock::default).lock();
    if !all.at_exit {
        at_exit(remove_all);
        all.at_exit = true;
    }
    all.files.retain(|held| held.generation == fork_generation() && Some(held) != old);
    all.files.extend(new);
}

/// A root's hold on its place: the file is there and locked until this is dropped.
#[derive(Debug)]
pub struct Meeting {
    place: Place,
    folder: PathBuf,
    lock: Fd,
    held: Claim,
}

impl Meeting {
    /// Takes `place` for this process, with `text` as the first thing published. `[state]` when a live root has it.
    pub fn claim(place: Place, text: &str) -> Result<Meeting> {
        let folder = place.make_folder()?.to_owned();
        for other in place.folders.iter().filter(|other| **other != folder) {
            if place.read_in(other)?.is_some() {
                return Err(taken(&other.join(&place.name)));
            }
        }
        let path = folder.join(&place.name);
        let (lock, temporary, inode) = prepare(&path, text)?;
        let linked = link(&path, &temporary);
        let _ = fs::remove_file(&temporary);
        linked?;
        let held = Claim { path, inode, generation: fork_generation() };
        hold(Some(held.clone()), None);
        Ok(Meeting { place, folder, lock, held })
    }

    /// Replaces what is published, all at once.
    pub fn publish(&mut self, text: &str) -> Result<()> {
        self.lock.check()?;
        let path = self.folder.join(&self.place.name);
        let (lock, temporary, inode) = prepare(&path, text)?;
        if let Err(e) = fs::rename(&temporary, &path) {
            let _ = fs::remove_file(&temporary);
            return Err(Error::io("", "rename", &e));
        }
        let held = Claim { inode, ..self.held.clone() };
        hold(Some(held.clone()), Some(&self.held));
        (self.lock, self.held) = (lock, held);
        Ok(())
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        self.held.remove();
        hold(None, Some(&self.held));
    }
}

/// A locked file that holds `text`, under a name that nobody looks for: lock, path, inode.
fn prepare(place: &Path, text: &str) -> Result<(Fd, PathBuf, u64)> {
    if text.len() as u64 >= LONGEST {
        return Err(err!(Argument, "the text has {} bytes, {} are the most", text.len(), LONGEST - 1));
    }
    let (mut file, path) = make_temporary(place)?;
    let filled = file.write_all(text.as_bytes()).and_then(|()| file.metadata());
    let meta = filled.map_err(|e| Error::io("", &format!("write {}", path.display()), &e))?;
    let lock = opening(|| Fd::own(file.into_raw_fd()));
    if !try_flock(lock.check()?, true) {
        return Err(Error::os("", &format!("flock {}", path.display())));
    }
    Ok((lock, path, meta.ino()))
}

fn make_temporary(place: &Path) -> Result<(File, PathBuf)> {
    let mut last = None;
    for n in 0..1000 {
        let mut path = place.as_os_str().to_owned();
        path.push(format!(".{}-{n}", std::process::id()));
        let path = PathBuf::from(path);
        let made =
            OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&path);
        match made {
            Ok(file) => return Ok((file, path)),
            // Another thread's, or left by a killed process that had this id.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => last = Some(e),
            Err(e) => return Err(Error::io("", &format!("create {}", path.display()), &e)),
        }
    }
    let e = last.unwrap_or_else(|| ErrorKind::AlreadyExists.into());
    Err(Error::io("", &format!("create a file beside {}", place.display()), &e))
}

/// Gives the file at `temporary` the name `path`, unless a live root's file has it.
fn link(path: &Path, temporary: &Path) -> Result<()> {
    // A process that finds a root dead holds the lock of its file for a moment, so one refusal proves nothing.
    let (mut refusals, patience) = (0, Deadline::after(PATIENCE_WITH_READERS));
    while refusals < 20 && !patience.expired() {
        match fs::hard_link(temporary, path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("", &format!("link {}", path.display()), &e)),
        }
        let replaced = opening(|| {
            let Some(stale) = ours(path)? else {
                return match fs::symlink_metadata(path) {
                    Err(_) => Ok(true),
                    Ok(_) => Err(err!(Io, "{} is in the way and no plain file of ours; remove it", path.display())),
                };
            };
            if !try_flock(stale.as_raw_fd(), true) {
                // Readers share the lock, and may keep it for as long as the system lets them stand still.
                if !try_flock(stale.as_raw_fd(), false) {
                    refusals += 1;
                }
                return Ok(false);
            }
            // Under its lock: another process that finds it dead waits for us, then sees another file.
            let inode = stale.metadata().map_err(|e| Error::io("", "fstat", &e))?.ino();
            Claim { path: path.to_owned(), inode, generation: fork_generation() }.remove();
            Ok(true)
        })?;
        if !replaced {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Err(taken(path))
}

fn taken(path: &Path) -> Error {
    err!(
        State,
        "another tree of the same parent process is alive (its root holds {}); close it first, or give this one a key",
        path.display()
    )
}

#[cfg(test)]
mod tests;
