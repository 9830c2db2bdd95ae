//! A file that one holder at a time has locked, over threads and processes: `flock(2)`. Imports its siblings `fd`,
//! `folder` and `lock`.
//!
//! The lock belongs to the open file, not to the process (as POSIX's record locks do), so each opening of the file
//! excludes all others, those of threads of the same process included. The kernel frees it when the last copy of the
//! descriptor is closed. Copies that would keep it alive are not left about: programs that are started do not get it
//! (close-on-exec), and a forked child closes its copy at the fork (see `fd`).

use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fd::{Fd, opening};
use super::folder::try_flock;
use super::lock::Lock;
use crate::err;
use crate::error::{Error, Result};
use crate::text;

/// A file that is open to be locked.
#[derive(Debug)]
pub struct LockFile {
    fd: Fd,
    path: PathBuf,
    /// Its device and its number there: what tells it from another file of the same path.
    id: (u64, u64),
}

/// How often a file is looked for that is there and is not, in turns.
const TRIES: usize = 20;

impl LockFile {
    /// Opens the file at `path`. One that is missing is made, for its owner only; with `create` false the answer is
    /// `None`.
    pub fn open(path: &Path, create: bool) -> Result<Option<LockFile>> {
        if path.as_os_str().len() >= libc::PATH_MAX as usize {
            return Err(refused(path, &io::Error::from_raw_os_error(libc::ENAMETOOLONG)));
        }
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| err!(Argument, "a path has no NUL in it, got {path:?}"))?;
        // O_NONBLOCK and O_NOCTTY: what is no file at all is opened without side effects, and refused below.
        let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        let open = |flags: i32| {
            opening(|| {
                // SAFETY: `name` ends in a NUL and lives through the call.
                match unsafe { libc::open(name.as_ptr(), flags, 0o600) } {
                    -1 => Err(io::Error::last_os_error()),
                    raw => Ok(Fd::own(raw)),
                }
            })
        };
        for _ in 0..TRIES {
            let fd = match open(flags) {
                Ok(fd) => fd,
                Err(e) if e.kind() == io::ErrorKind::NotFound && !create => return Ok(None),
                // O_EXCL: what somebody else puts there meanwhile, a link perhaps, is not followed.
                Err(e) if e.kind() == io::ErrorKind::NotFound => match open(flags | libc::O_CREAT | libc::O_EXCL) {
                    Ok(fd) => fd,
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                    Err(e) => return Err(refused(path, &e)),
                },
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(refused(path, &e)),
            };
            let mut file = LockFile { fd, path: path.to_owned(), id: (0, 0) };
            let kind = file.with(|f| f.metadata())?;
            if !kind.is_file() {
                return Err(err!(Io, "{} is not a plain file, so it is not locked", path.display()));
            }
            file.id = id(&kind);
            return Ok(Some(file));
        }
        Err(err!(Io, "cannot open {}: it is a link to nothing, or comes and goes", path.display()))
    }

    /// Takes the lock without waiting; false while another open of the file has it.
    pub fn try_lock(&self) -> Result<bool> {
        if try_flock(self.fd.check()?, true) {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            e if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(false),
            e => Err(Error::io("", &text!("cannot lock {}", self.path.display()), &e)),
        }
    }

    /// Whether its path still means this file. Somebody may have removed it, and another may have made and locked a new
    /// one: the lock of the old one then excludes nobody.
    pub fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|there| id(&there) == self.id)
    }

    /// The lock, which has been taken, in the form that its holders share.
    pub fn locked(self) -> FileLock {
        let path = self.path.clone();
        FileLock { path, file: Lock::new(Some(Arc::new(self))) }
    }

    /// Does something with the file, of this process.
    fn with<T>(&self, f: impl FnOnce(&File) -> io::Result<T>) -> Result<T> {
        let raw: RawFd = self.fd.check()?;
        // SAFETY: the descriptor is open as long as `self` is, and the File does not close it.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(raw) });
        f(&file).map_err(|e| Error::io("", &self.path.display().to_string(), &e))
    }

    /// All that is in it.
    fn read(&self) -> Result<Vec<u8>> {
        let size = self.with(|f| f.metadata())?.len();
        let mut bytes = Vec::new();
        let room = usize::try_from(size).ok().filter(|n| bytes.try_reserve_exact(*n).is_ok());
        let Some(room) = room else {
            return Err(err!(Limit, "{}: its {size} bytes do not fit into memory", self.path.display()));
        };
        bytes.resize(room, 0);
        let mut filled = 0;
        while filled < room {
            match self.with(|f| f.read_at(&mut bytes[filled..], filled as u64))? {
                // Cut meanwhile, by somebody without the lock.
                0 => break,
                n => filled += n,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

fn id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Why the file at `path` does not open, with what to do.
fn refused(path: &Path, e: &io::Error) -> Error {
    let path = path.display();
    match e.kind() {
        io::ErrorKind::NotFound => err!(Io, "cannot make {path}: its folder does not exist; make that first"),
        io::ErrorKind::IsADirectory => err!(Io, "cannot lock {path}: it is a folder; lock a file in it"),
        io::ErrorKind::PermissionDenied => {
            err!(Io, "cannot open {path}: this user may not read and write it, or not make it there")
        }
        _ => Error::io("", &text!("cannot open {path}"), e),
    }
}

/// The lock of a file, shared by those who hold it. Dropped, it is free.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    /// `None` once it is closed.
    file: Lock<Option<Arc<LockFile>>>,
}

impl FileLock {
    /// What it locks.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process holds it.
    pub fn is_held(&self) -> bool {
        self.file.lock().as_ref().is_some_and(|file| file.fd.is_ours())
    }

    /// In words: held, closed or the parent's, and which file.
    pub fn state(&self) -> String {
        let state = match &*self.file.lock() {
            None => "closed",
            Some(file) if file.fd.is_ours() => "held",
            Some(_) => "held by the parent process",
        };
        text!("{state}, {}", self.path.display())
    }

    fn file(&self) -> Result<Arc<LockFile>> {
        let file = self.file.lock().clone();
        let file = file.ok_or_else(|| err!(Closed, "the lock of {} is closed", self.path.display()))?;
        file.fd.check()?;
        Ok(file)
    }

    /// All that is in the file.
    pub fn read(&self) -> Result<Vec<u8>> {
        self.file()?.read()
    }

    /// Puts `bytes` in place of what is in the file.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        // Written first, then cut: a file that is emptied first is written to the disk at each close, by some file
        // systems.
        self.file()?.with(|f| f.write_all_at(bytes, 0).and_then(|()| f.set_len(bytes.len() as u64)))
    }

    /// Frees the lock; twice is fine. In a forked child nothing happens: the lock is the parent's.
    pub fn close(&self) {
        let file = self.file.lock().take();
        if let Some(file) = file
            && file.fd.is_ours()
        {
            // In so many words: a copy of the descriptor in a process that is just being started is not waited for.
            // SAFETY: touches no memory.
            unsafe { libc::flock(file.fd.as_raw_fd(), libc::LOCK_UN) };
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fork::tests::in_child;
    use super::*;
    use crate::error::Code;
    use std::os::unix::fs::PermissionsExt;

    fn folder() -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ipc-flock-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    fn locked(path: &Path) -> FileLock {
        let file = LockFile::open(path, true).unwrap().unwrap();
        assert!(file.try_lock().unwrap());
        file.locked()
    }

    fn is_free(path: &Path) -> bool {
        LockFile::open(path, false).unwrap().unwrap().try_lock().unwrap()
    }

    #[test]
    fn one_open_of_a_file_excludes_the_others() {
        let dir = folder();
        let path = dir.join("a");
        assert!(LockFile::open(&path, false).unwrap().is_none());
        let lock = locked(&path);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(lock.is_held() && !is_free(&path));
        lock.close();
        lock.close();
        assert!(!lock.is_held() && is_free(&path));
        assert_eq!(lock.read().unwrap_err().code(), Code::Closed);
        drop(locked(&path));
        assert!(is_free(&path));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_content_is_replaced_as_a_whole() {
        let dir = folder();
        let lock = locked(&dir.join("a"));
        assert_eq!(lock.read().unwrap(), b"");
        for text in [&b"a long text"[..], b"short", b"", &[0; 100_000]] {
            lock.write(text).unwrap();
            assert_eq!(lock.read().unwrap(), text);
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_forked_child_neither_has_nor_frees_nor_keeps_the_lock() {
        let dir = folder();
        let path = dir.join("a");
        let lock = locked(&path);
        let code = in_child(|| {
            let refused = lock.read().unwrap_err().code() == Code::State && !lock.is_held();
            lock.close();
            refused && !is_free(&path)
        });
        assert_eq!(code, 0);
        assert!(!is_free(&path));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_removed_file_is_noticed() {
        let dir = folder();
        let path = dir.join("a");
        let file = LockFile::open(&path, true).unwrap().unwrap();
        assert!(file.is_in_place());
        std::fs::remove_file(&path).unwrap();
        assert!(!file.is_in_place());
        drop(LockFile::open(&path, true).unwrap());
        assert!(!file.is_in_place());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_no_file_is_refused_by_name() {
        let dir = folder();
        let fails = |path: &Path| {
            let e = LockFile::open(path, true).unwrap_err();
            assert!(e.to_string().contains(&path.display().to_string()), "{e}");
            e.to_string()
        };
        assert!(fails(&dir).contains("folder"));
        assert!(fails(&dir.join("no/such")).contains("does not exist"));
        assert!(fails(Path::new("/dev/null")).contains("plain file"));
        std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
        assert!(fails(&dir.join("link")).contains("link to nothing"));
        assert!(LockFile::open(&dir.join("link"), false).unwrap().is_none());
        assert_eq!(LockFile::open(Path::new("a\0b"), true).unwrap_err().code(), Code::Argument);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
