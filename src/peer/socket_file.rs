//! The file of a server's Unix socket: who may take its name, and that a server removes its own file only.

use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::err;
use crate::error::Result;
use crate::sys::socket::{self, Address};
use crate::sys::{Fd, try_flock};
use crate::wait::Deadline;

/// How long servers that start and end in the same folder are waited for, in seconds. Anybody who can read the folder
/// can hold its lock, so this is short.
const PATIENCE: f64 = 0.5;

/// The file that a server made when it began to listen.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file. The system keeps the number from being used again while the socket is open.
    file: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`. A file that a dead server left behind is replaced, one that a server listens at is not.
    pub fn listen(path: &Path) -> Result<(Fd, SocketFile)> {
        let at = Address::Unix(path.to_owned());
        let _lock = lock_folder(path);
        let fd = match socket::listen(&at) {
            Ok(fd) => fd,
            Err(e) if is_dead(path, &at) => {
                drop(e);
                fs::remove_file(path).map_err(|e| err!(Io, "removing the old socket {}: {e}", path.display()))?;
                socket::listen(&at)?
            }
            Err(e) => return Err(e),
        };
        let file = identity(path).ok_or_else(|| err!(Io, "{} went away while it was made", path.display()))?;
        Ok((fd, SocketFile { path: path.to_owned(), file }))
    }

    /// Removes the file, unless another one has taken its name. Call it before the socket is closed.
    pub fn remove(&self) {
        let _lock = lock_folder(&self.path);
        if identity(&self.path) == Some(self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Whether there is a socket at which nobody listens.
fn is_dead(path: &Path, at: &Address) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    is_socket && matches!(socket::connect(at), Err(e) if e.kind() == ErrorKind::ConnectionRefused)
}

/// Keeps other servers from replacing or removing files in the folder of `path` between a look and what follows from
/// it. Where the folder cannot be opened or the lock is not to be had, it goes on without.
fn lock_folder(path: &Path) -> Option<Fd> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: `name` ends in a NUL and lives through the call.
    let open = || unsafe { libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    let fd = Fd::open("open", open).ok()?;
    let patience = Deadline::after(PATIENCE);
    while !try_flock(fd.check().ok()?, true) {
        if patience.expired() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(fd)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_another_server_made_is_left_alone() {
        let path = std::env::temp_dir().join(format!("ipc-socket-file-{}", std::process::id()));
        let old = path.with_extension("old");
        let (_a, first) = SocketFile::listen(&path).unwrap();
        fs::rename(&path, &old).unwrap();
        let (_b, second) = SocketFile::listen(&path).unwrap();
        first.remove();
        assert!(path.exists());
        second.remove();
        assert!(!path.exists());
        fs::remove_file(&old).unwrap();
        // Gone already, or replaced by something else: nothing happens.
        fs::write(&path, "text").unwrap();
        second.remove();
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn of_servers_that_find_a_dead_file_at_once_one_gets_it() {
        let path = std::env::temp_dir().join(format!("ipc-socket-dead-{}", std::process::id()));
        for _ in 0..20 {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let won = std::thread::scope(|s| {
                let tries: Vec<_> = (0..4).map(|_| s.spawn(|| SocketFile::listen(&path))).collect();
                let all: Vec<_> = tries.into_iter().map(|t| t.join().unwrap()).collect();
                all.into_iter().flatten().collect::<Vec<_>>()
            });
            assert_eq!(won.len(), 1);
            assert!(socket::connect(&Address::Unix(path.clone())).is_ok());
            won[0].1.remove();
        }
    }
}
