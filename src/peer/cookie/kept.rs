//! Cookies that were read before, each with what the system said of its folder and file then: while it says the same,
//! the file has what it had, and need not be opened and checked again.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Cookie;
use crate::sys::{Lock, user};

/// How long ago a file has changed at least before its stamp is relied on: a change soon after another may leave the
/// times as they are, since the clocks of file systems go in steps.
const SETTLED: Duration = Duration::from_secs(2);
/// How many are kept.
const MOST: usize = 16;

/// What a look at a folder finds, without opening anything.
pub(super) enum Look {
    /// No such folder, or a private one without a cookie.
    Nothing,
    /// A folder with a cookie.
    Stamp(Stamp),
    /// Something else: to be looked at closely.
    Other,
}

/// What the system says of a folder and the cookie in it. Any write, exchange or change of rights shows in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Who looks: what is wrong with an owner depends on it.
    user: u32,
    /// Of the folder: device, inode, mode and owner.
    folder: (u64, u64, u32, u32),
    /// Of the file: the same, its size, and when its contents and what else there is to it changed.
    file: (u64, u64, u32, u32),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn identity(meta: &Metadata) -> (u64, u64, u32, u32) {
    (meta.dev(), meta.ino(), meta.mode(), meta.uid())
}

impl Look {
    /// Looks at `folder`. Links are not followed.
    pub fn at(folder: &Path) -> Look {
        let of_folder = match fs::symlink_metadata(folder) {
            Ok(meta) => identity(&meta),
            Err(e) if e.kind() == ErrorKind::NotFound => return Look::Nothing,
            Err(_) => return Look::Other,
        };
        let user = user();
        match fs::symlink_metadata(folder.join("cookie")) {
            Ok(file) => Look::Stamp(Stamp {
                user,
                folder: of_folder,
                file: identity(&file),
                size: file.size(),
                modified: (file.mtime(), file.mtime_nsec()),
                changed: (file.ctime(), file.ctime_nsec()),
            }),
            // A folder for other things of this library has none, and would be opened at each handshake.
            Err(e) if e.kind() == ErrorKind::NotFound && is_private(of_folder, user) => Look::Nothing,
            Err(_) => Look::Other,
        }
    }
}

fn is_private((_, _, mode, owner): (u64, u64, u32, u32), user: u32) -> bool {
    // A directory with all rights for its owner alone.
    owner == user && mode == 0o040_700
}

impl Stamp {
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(self.changed.0.max(self.modified.0).max(0).unsigned_abs());
        now.checked_sub(changed).is_some_and(|age| age > SETTLED)
    }
}

#[derive(Debug)]
struct Kept {
    folder: PathBuf,
    stamp: Stamp,
    cookie: Cookie,
}

static KEPT: Lock<Vec<Arc<Kept>>> = Lock::new(Vec::new());

/// The cookie of `folder`, which looks as `now` says, if it is known.
pub(super) fn find(folder: &Path, now: &Stamp) -> Option<Cookie> {
    let found = KEPT.lock().iter().find(|kept| kept.folder == folder).cloned();
    found.filter(|kept| kept.stamp == *now).map(|kept| kept.cookie.clone())
}

/// Keeps `cookie`, which was read, with every check, after `folder` looked as `before` says.
pub(super) fn keep(folder: &Path, before: Stamp, cookie: &Cookie) {
    if !before.is_settled() {
        return;
    }
    let new = Arc::new(Kept { folder: folder.to_owned(), stamp: before, cookie: cookie.clone() });
    let mut kept = KEPT.lock();
    let old = kept.iter().position(|kept| kept.folder == folder).or((kept.len() >= MOST).then_some(0));
    let old = old.map(|at| kept.swap_remove(at));
    kept.push(new);
    drop(kept);
    // Overwrites its bytes.
    drop(old);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use zeroize::Zeroizing;

    fn stamp(folder: &Path) -> Stamp {
        match Look::at(folder) {
            Look::Stamp(stamp) => stamp,
            _ => panic!("no stamp"),
        }
    }

    #[test]
    fn a_cookie_is_kept_until_its_file_or_folder_changes() {
        let folder = std::env::temp_dir().join(format!("ipc-kept-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        assert!(matches!(Look::at(&folder), Look::Nothing));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(Look::at(&folder), Look::Other));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(Look::at(&folder), Look::Nothing));
        let file = folder.join("cookie");
        fs::write(&file, [1; 32]).unwrap();
        let cookie = Cookie::new(Zeroizing::new([1; 32]), String::new());
        // What has just changed may change again within the same tick.
        keep(&folder, stamp(&folder), &cookie);
        assert!(find(&folder, &stamp(&folder)).is_none());
        let keep_now = || {
            let settled = || Stamp { modified: (1, 0), changed: (1, 0), ..stamp(&folder) };
            keep(&folder, settled(), &cookie);
            settled
        };
        let settled = keep_now();
        assert_eq!(find(&folder, &settled()).unwrap().id, cookie.id);
        assert!(find(&folder.join("other"), &settled()).is_none());
        for (path, mode) in [(&folder, 0o750), (&file, 0o640)] {
            let before = fs::metadata(path).unwrap().permissions();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(find(&folder, &settled()).is_none(), "{mode:o}");
            fs::set_permissions(path, before).unwrap();
            assert!(find(&folder, &settled()).is_some());
        }
        for other in [
            Stamp { user: 4_000_000, ..settled() },
            Stamp { changed: (1, 1), ..settled() },
            Stamp { modified: (1, 1), ..settled() },
        ] {
            assert!(find(&folder, &other).is_none(), "{other:?}");
        }
        // Another file in its place, which is there before the old one goes.
        fs::write(folder.join("new"), [2; 32]).unwrap();
        fs::rename(folder.join("new"), &file).unwrap();
        assert!(find(&folder, &settled()).is_none());
        fs::remove_dir_all(&folder).unwrap();
    }
}
