//! Files that replace others as a whole: what is written goes to a new file in the same folder, which takes the name
//! when all of it is there. Until then, and after any error, the old file is as it was.
//!
//! ```no_run
//! # use std::io::Write;
//! let mut file = ipc::sys::Replacement::create("weights.t7".as_ref())?;
//! file.write_all(b"...")?;
//! file.commit()?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Symbolic links that are followed from a name, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// A file that is being written. Dropping it without [`commit`](Self::commit) removes what was written.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    /// The new file's name and the name that it is to take; none if the file is written in place.
    names: Option<(PathBuf, PathBuf)>,
    /// The file that is there, open for writing.
    old: Option<File>,
}

impl Replacement {
    /// Begins a file that will be `path`, or what `path` links to.
    ///
    /// What is no regular file (a device, a pipe, whatever `/dev/stdout` is) is written in place. So is a regular file
    /// in a folder that takes no new ones. What is there is cut off at the [`commit`](Self::commit).
    pub fn create(path: &Path) -> io::Result<Replacement> {
        let old = match fs::metadata(path) {
            Ok(about) if !about.is_file() || is_descriptor(path) => {
                let file = OpenOptions::new().write(true).open(path)?;
                return Ok(Replacement { file, names: None, old: None });
            }
            // Opened, since a file that may not be written must not be replaced either.
            Ok(about) => Some((OpenOptions::new().write(true).open(path)?, about)),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let path = follow(path)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made = loop {
            let mut random = [0u8; 8];
            getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
            let new = folder.join(format!(".libipc-{:016x}.tmp", u64::from_ne_bytes(random)));
            // Nobody else reads it before it has the old file's permissions.
            let mode = if old.is_some() { 0o600 } else { 0o666 };
            match OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&new) {
                Ok(file) => break Ok((file, new)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => break Err(e),
            }
        };
        match (made, old) {
            (Ok((file, new)), old) => {
                let mut replacement = Replacement { file, names: Some((new, path)), old: None };
                if let Some((old, about)) = old {
                    replacement.resemble(&about)?;
                    replacement.old = Some(old);
                }
                Ok(replacement)
            }
            (Err(e), Some((old, _))) if refuses_names(&e) => Ok(Replacement { file: old, names: None, old: None }),
            (Err(e), _) => Err(e),
        }
    }

    /// Whether a regular file is written in place: where what is written may turn out to be refused, find out before
    /// the first byte.
    pub fn in_place(&self) -> bool {
        self.names.is_none() && self.file.metadata().is_ok_and(|about| about.is_file())
    }

    /// Gives the new file the owner and the permissions of the old one. An owner that only a superuser may give stays
    /// ours.
    fn resemble(&self, about: &fs::Metadata) -> io::Result<()> {
        let own = self.file.metadata()?;
        if (own.uid(), own.gid()) != (about.uid(), about.gid()) {
            let _ = std::os::unix::fs::fchown(&self.file, Some(about.uid()), Some(about.gid()));
        }
        self.file.set_permissions(fs::Permissions::from_mode(about.mode() & 0o7777))
    }

    /// Gives the file its name: all of it is there.
    pub fn commit(mut self) -> io::Result<()> {
        let Some((new, path)) = self.names.take() else {
            if self.file.metadata()?.is_file() {
                let end = self.file.stream_position()?;
                self.file.set_len(end)?;
            }
            return Ok(());
        };
        let renamed = match (fs::rename(&new, &path), self.old.take()) {
            (Ok(()), _) => return Ok(()),
            // A name that stays with its file: a mount point, or another user's file in a folder like /tmp. The bytes
            // are whole, and go where the old ones are.
            (Err(e), Some(old)) if refuses_names(&e) => self.copy_to(old),
            (Err(e), _) => Err(e),
        };
        let _ = fs::remove_file(&new);
        renamed
    }

    fn copy_to(&mut self, mut old: File) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut piece = Vec::new();
        piece.try_reserve_exact(1 << 16)?;
        piece.resize(1 << 16, 0);
        let mut total = 0;
        loop {
            match self.file.read(&mut piece) {
                Ok(0) => return old.set_len(total),
                Ok(n) => {
                    old.write_all(&piece[..n])?;
                    total += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some((new, _)) = &self.names {
            let _ = fs::remove_file(new);
        }
    }
}

/// Whether a folder or the system does not let a name be made or changed, where writing to the file may be allowed.
fn refuses_names(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::EBUSY | libc::EXDEV | libc::ENAMETOOLONG)
    )
}

/// Whether `path` stands for an open file of a process, as `/dev/stdout` and `/dev/fd/1` do: that process would go on
/// with the old one.
fn is_descriptor(path: &Path) -> bool {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let folder = path.parent().and_then(|p| p.canonicalize().ok());
        if folder.is_some_and(|p| p.starts_with("/proc")) {
            return true;
        }
        match target(&path) {
            Some(next) => path = next,
            None => return false,
        }
    }
    false
}

/// What the symbolic link `path` says, as a path from where we are; none if it is no link.
fn target(path: &Path) -> Option<PathBuf> {
    let link = fs::read_link(path).ok()?;
    Some(path.parent().map_or_else(|| link.clone(), |folder| folder.join(&link)))
}

/// The path of what `path` links to, which need not exist.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match target(&path) {
            Some(next) => path = next,
            None => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A folder of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("libipc-replacement-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Folder(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = Replacement::create(path)?;
        file.write_all(bytes)?;
        file.commit()
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole() {
        let folder = Folder::new("whole");
        let path = folder.0.join("a");
        save(&path, b"old").unwrap();
        let mut file = Replacement::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(folder.names(), ["a"]);
    }

    #[test]
    fn what_is_dropped_leaves_nothing() {
        let folder = Folder::new("dropped");
        save(&folder.0.join("a"), b"old").unwrap();
        for name in ["a", "b"] {
            let mut file = Replacement::create(&folder.0.join(name)).unwrap();
            file.write_all(b"half").unwrap();
            drop(file);
        }
        assert_eq!((folder.names(), fs::read(folder.0.join("a")).unwrap()), (vec!["a".to_owned()], b"old".to_vec()));
    }

    #[test]
    fn permissions_are_those_of_the_file_before() {
        let folder = Folder::new("mode");
        let path = folder.0.join("a");
        save(&path, b"x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        save(&path, b"y").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn links_stay_and_their_target_is_replaced() {
        let folder = Folder::new("links");
        fs::create_dir(folder.0.join("in")).unwrap();
        std::os::unix::fs::symlink("in/target", folder.0.join("second")).unwrap();
        std::os::unix::fs::symlink("second", folder.0.join("first")).unwrap();
        for bytes in [b"one", b"two"] {
            save(&folder.0.join("first"), bytes).unwrap();
            assert_eq!(fs::read(folder.0.join("in/target")).unwrap(), bytes);
        }
        assert!(fs::symlink_metadata(folder.0.join("second")).unwrap().is_symlink());
        std::os::unix::fs::symlink("circle", folder.0.join("circle")).unwrap();
        assert!(save(&folder.0.join("circle"), b"x").is_err());
    }

    #[test]
    fn what_is_no_regular_file_is_written_in_place() {
        use std::os::fd::AsRawFd;
        save(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let folder = Folder::new("place");
        let open = File::create(folder.0.join("open")).unwrap();
        let before = open.metadata().unwrap().ino();
        save(Path::new(&format!("/dev/fd/{}", open.as_raw_fd())), b"here").unwrap();
        assert_eq!(fs::metadata(folder.0.join("open")).unwrap().ino(), before);
        assert_eq!(fs::read(folder.0.join("open")).unwrap(), b"here");
        assert!(save(&folder.0, b"x").is_err() && save(&folder.0.join("none/a"), b"x").is_err());
    }

    #[test]
    fn writers_of_one_name_do_not_mix() {
        let folder = Folder::new("mix");
        let path = folder.0.join("a");
        std::thread::scope(|scope| {
            for n in 0..4u8 {
                let path = &path;
                scope.spawn(move || (0..50).for_each(|_| save(path, &vec![n; 10_000]).unwrap()));
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 10_000 && bytes.iter().all(|&b| b == bytes[0]));
        assert_eq!(folder.names(), ["a"]);
    }
}
