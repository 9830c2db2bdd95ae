//! A folder that only this user can enter, used through its descriptor, so that what was checked is what is used; and
//! this user's home. Imports its siblings `fd`, `folder` and `thread`.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::fd::{Fd, opening};
use super::folder::user;
use super::thread::has_room_for_thread_locals;
use crate::err;
use crate::error::{Error, Result};

/// An open folder that belongs to this user, has mode 0700 and was no symbolic link.
#[derive(Debug)]
pub struct PrivateFolder {
    fd: Fd,
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| err!(Io, "the path {} holds a NUL", path.display()))
}

fn stat(fd: RawFd) -> Result<libc::stat> {
    let mut meta = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `meta` has room for what fstat writes.
    if unsafe { libc::fstat(fd, meta.as_mut_ptr()) } != 0 {
        return Err(Error::os("", "fstat"));
    }
    // SAFETY: fstat succeeded, so it has written all of it.
    Ok(unsafe { meta.assume_init() })
}

/// What is wrong with the owner or the permissions of `meta`, if anything is.
fn foreign(meta: &libc::stat, mode: libc::mode_t) -> Option<String> {
    let has = meta.st_mode & 0o7777;
    if meta.st_uid != user() {
        Some(format!("belongs to user {}, not to {}", meta.st_uid, user()))
    } else if has != mode {
        Some(format!("has mode {has:04o}, not {mode:04o}"))
    } else {
        None
    }
}

impl PrivateFolder {
    /// Opens the folder at `path`; `None` when there is nothing.
    pub fn open(path: &Path) -> Result<Option<PrivateFolder>> {
        let name = c_path(path)?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let opened = opening(|| {
            // SAFETY: `name` ends in a NUL and lives through the call.
            let raw = unsafe { libc::open(name.as_ptr(), flags) };
            if raw < 0 { Err(std::io::Error::last_os_error()) } else { Ok(Fd::own(raw)) }
        });
        let fd = match opened {
            Ok(fd) => fd,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR)) => {
                return Err(err!(Io, "{} is not a directory, or is a symbolic link", path.display()));
            }
            Err(e) => return Err(err!(Io, "{} cannot be opened: {e}", path.display())),
        };
        match foreign(&stat(fd.check()?)?, 0o700) {
            Some(what) => Err(err!(Io, "{} {what}", path.display())),
            None => Ok(Some(PrivateFolder { fd })),
        }
    }

    /// Opens the folder at `path`, which is made when there is nothing. The folder that it lies in has to be there.
    pub fn make(path: &Path) -> Result<PrivateFolder> {
        let name = c_path(path)?;
        // Twice: what was there may be removed before it is opened.
        for _ in 0..2 {
            if let Some(folder) = PrivateFolder::open(path)? {
                return Ok(folder);
            }
            // SAFETY: `name` ends in a NUL and lives through the call.
            if unsafe { libc::mkdir(name.as_ptr(), 0o700) } != 0 {
                let e = std::io::Error::last_os_error();
                if e.kind() != std::io::ErrorKind::AlreadyExists {
                    return Err(err!(Io, "{} cannot be made: {e}", path.display()));
                }
            }
        }
        PrivateFolder::open(path)?.ok_or_else(|| err!(Io, "{} was removed again and again", path.display()))
    }

    /// Fills `into` from the file `name`: a plain file of this user with mode 0600 and exactly that many bytes. False
    /// when there is no such file.
    pub fn read(&self, name: &CStr, into: &mut [u8]) -> Result<bool> {
        let folder = self.fd.check()?;
        // Without O_NONBLOCK, opening a FIFO would wait.
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let opened = opening(|| {
            // SAFETY: `name` ends in a NUL and lives through the call.
            let raw = unsafe { libc::openat(folder, name.as_ptr(), flags) };
            if raw < 0 { Err(std::io::Error::last_os_error()) } else { Ok(Fd::own(raw)) }
        });
        let bad = |what: &dyn std::fmt::Display| err!(Io, "{} {what}", name.to_string_lossy());
        let fd = match opened {
            Ok(fd) => fd,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => return Err(bad(&"is a symbolic link")),
            Err(e) => return Err(bad(&format_args!("cannot be opened: {e}"))),
        };
        let meta = stat(fd.check()?)?;
        if meta.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(bad(&"is no plain file"));
        }
        if let Some(what) = foreign(&meta, 0o600) {
            return Err(bad(&what));
        }
        if meta.st_size != into.len() as libc::off_t {
            return Err(bad(&format_args!("has {} bytes, not {}", meta.st_size, into.len())));
        }
        // SAFETY: `into` is valid for writes of its length.
        let n = unsafe { libc::read(fd.check()?, into.as_mut_ptr().cast(), into.len()) };
        if n != into.len() as isize {
            return Err(bad(&"cannot be read whole"));
        }
        Ok(true)
    }

    /// Makes the file `name` with `bytes` in it and mode 0600, all at once: under `temporary` first, then linked into
    /// place. False when there is something of that name.
    pub fn publish(&self, name: &CStr, temporary: &CStr, bytes: &[u8]) -> Result<bool> {
        let folder = self.fd.check()?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: the name ends in a NUL and lives through the call.
        let fd = Fd::open("openat", || unsafe { libc::openat(folder, temporary.as_ptr(), flags, 0o600) })?;
        let linked = write_all(fd.check()?, bytes).and_then(|()| {
            // SAFETY: both names end in a NUL and live through the call.
            if unsafe { libc::linkat(folder, temporary.as_ptr(), folder, name.as_ptr(), 0) } == 0 {
                return Ok(true);
            }
            let e = std::io::Error::last_os_error();
            if e.kind() == std::io::ErrorKind::AlreadyExists { Ok(false) } else { Err(Error::io("", "linkat", &e)) }
        });
        // SAFETY: as above.
        unsafe { libc::unlinkat(folder, temporary.as_ptr(), 0) };
        linked
    }
}

/// Writes a file as a whole, and has it on the disk before it gets the name that others look for: an empty one would
/// stay.
fn write_all(fd: RawFd, bytes: &[u8]) -> Result<()> {
    // SAFETY: `bytes` is valid for reads of its length; the mode is set whatever the umask took away.
    let done = unsafe {
        libc::fchmod(fd, 0o600) == 0
            && libc::write(fd, bytes.as_ptr().cast(), bytes.len()) == bytes.len() as isize
            && libc::fsync(fd) == 0
    };
    if done { Ok(()) } else { Err(Error::os("", "write")) }
}

/// The home of this user by the system's database, whatever the environment says. It may ask a server, so it can take
/// long. `[limit]` where memory is short: the C library may crash in there then.
pub fn home() -> Result<Option<PathBuf>> {
    let mut buffer = vec![0; 4096];
    loop {
        if !has_room_for_thread_locals() {
            return Err(Error::no_memory());
        }
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is valid for what is written there, and the buffer has the length given.
        let rc =
            unsafe { libc::getpwuid_r(user(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
        if rc == libc::ERANGE && buffer.len() < 1 << 20 {
            let more = buffer.len() * 3;
            buffer.try_reserve(more)?;
            buffer.resize(buffer.len() + more, 0);
            continue;
        }
        if rc != 0 || found.is_null() {
            return Ok(None);
        }
        // SAFETY: `found` is not null, so the entry was filled in, with strings in the buffer that end in a NUL.
        let dir = unsafe { CStr::from_ptr((*found).pw_dir) };
        let home = PathBuf::from(std::ffi::OsString::from_vec(dir.to_bytes().to_vec()));
        return Ok(home.is_absolute().then_some(home));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ipc-private-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn why<T>(r: Result<T>) -> String {
        r.err().map(|e| e.what().to_string()).unwrap_or_default()
    }

    #[test]
    fn a_folder_is_ours_and_closed_to_others_or_refused() {
        let path = scratch("folder");
        assert!(PrivateFolder::open(&path).unwrap().is_none());
        PrivateFolder::make(&path).unwrap();
        PrivateFolder::make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(why(PrivateFolder::open(&path)).contains("has mode 0750, not 0700"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let link = scratch("link");
        let _ = fs::remove_file(&link);
        symlink(&path, &link).unwrap();
        assert!(why(PrivateFolder::make(&link)).contains("symbolic link"));
        fs::remove_file(&link).unwrap();
        fs::write(&link, "").unwrap();
        assert!(why(PrivateFolder::make(&link)).contains("not a directory"));
        fs::remove_file(&link).unwrap();
        assert!(why(PrivateFolder::make(&path.join("a/b"))).contains("cannot be made"));
        fs::remove_dir(&path).unwrap();
    }

    #[test]
    fn a_file_is_published_whole_and_once() {
        let path = scratch("publish");
        let folder = PrivateFolder::make(&path).unwrap();
        assert!(folder.publish(c"f", c"f.1", b"1234").unwrap());
        assert!(!folder.publish(c"f", c"f.2", b"5678").unwrap());
        let mut got = [0; 4];
        assert!(folder.read(c"f", &mut got).unwrap());
        assert_eq!(&got, b"1234");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        assert!(!folder.read(c"g", &mut got).unwrap());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn files_that_others_could_have_made_or_read_are_refused() {
        let path = scratch("files");
        let folder = PrivateFolder::make(&path).unwrap();
        let file = path.join("f");
        let mut got = [0; 4];
        fs::write(&file, "1234").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(why(folder.read(c"f", &mut got)).contains("has mode 0640, not 0600"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(why(folder.read(c"f", &mut [0; 5])).contains("has 4 bytes, not 5"));
        symlink(&file, path.join("l")).unwrap();
        assert!(why(folder.read(c"l", &mut got)).contains("symbolic link"));
        fs::create_dir(path.join("d")).unwrap();
        assert!(why(folder.read(c"d", &mut got)).contains("no plain file"));
        let fifo = c_path(&path.join("p")).unwrap();
        // SAFETY: a path that ends in a NUL.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        assert!(why(folder.read(c"p", &mut got)).contains("no plain file"));
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn the_home_is_an_absolute_path_where_there_is_one() {
        assert!(home().unwrap().is_none_or(|home| home.is_absolute()));
    }
}
