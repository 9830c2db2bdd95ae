//! The cookie: 32 random bytes in a file that only its user can read. Who shows that it has them is this user, or was
//! let in by this user (doc/security.md). Folders come and go with logins, so all are looked at anew at each handshake;
//! `kept` spares reading a file that has not changed.
//!
//! Also says where the other files lie that processes of one user meet at.

mod kept;

use std::ffi::CString;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use blake2::digest::{FixedOutput, Mac};
use blake2::{Blake2s256, Blake2sMac256, Digest};
use zeroize::Zeroizing;

use self::kept::Look;
use crate::err;
use crate::error::Result;
use crate::sys::{PrivateFolder, SetOnce, env_var, home, user};

/// The name of the file in its folder.
const FILE: &std::ffi::CStr = c"cookie";
/// Bytes of a cookie, and of a proof made with it.
pub(super) const LENGTH: usize = 32;
/// How many cookies an end may say that it has.
pub(super) const MOST: usize = 16;

/// What tells a cookie from others, and nothing about it.
pub(super) type Id = [u8; 16];
/// What only an end that has the cookie could make.
pub(super) type Proof = [u8; LENGTH];

/// One cookie.
#[derive(Clone)]
pub(super) struct Cookie {
    key: Zeroizing<[u8; LENGTH]>,
    /// What the ends call it.
    pub id: Id,
    /// Its file, for people.
    pub place: String,
}

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cookie({} at {})", short(&self.id), self.place)
    }
}

/// The start of an id, for people.
pub(super) fn short(id: &Id) -> String {
    id[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Cookie {
    fn new(key: Zeroizing<[u8; LENGTH]>, place: String) -> Cookie {
        let hash = Blake2s256::new().chain_update(b"libipc cookie 2\0").chain_update(*key).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Cookie { key, id, place }
    }

    /// What proves, over `parts`, that its maker has this cookie.
    pub fn prove(&self, parts: &[&[u8]]) -> Proof {
        self.mac(parts).finalize_fixed().into()
    }

    /// Whether `proof` is what [`Cookie::prove`] gives for `parts`; takes the same time wherever they differ.
    pub fn is_proved(&self, parts: &[&[u8]], proof: &Proof) -> bool {
        self.mac(parts).verify(proof.into()).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Blake2sMac256 {
        let mut mac = <Blake2sMac256 as Mac>::new((&*self.key).into());
        parts.iter().for_each(|part| Mac::update(&mut mac, part));
        mac
    }
}

/// The cookies that this process can read now, and what was wrong with those that it cannot.
#[derive(Debug)]
pub(super) struct Cookies {
    pub known: Vec<Cookie>,
    passed: Vec<String>,
}

impl Cookies {
    /// Reads all there are. Where there is none, makes one in the first folder that allows it; where none does, this
    /// process and the children that it forks afterwards have one in memory. In a folder that the user has named there
    /// is one in any case: that is how two ends which have no other folder in common get one.
    pub fn read() -> Result<Cookies> {
        Cookies::among(&folders()?, named().as_deref())
    }

    fn among(folders: &[PathBuf], named: Option<&Path>) -> Result<Cookies> {
        let mut cookies = Cookies { known: Vec::new(), passed: Vec::new() };
        for folder in folders {
            let found = match read(folder) {
                Ok(None) if named == Some(folder) => make(folder).map(Some),
                found => found,
            };
            match found {
                Ok(Some(cookie)) => cookies.add(cookie),
                Ok(None) => {}
                Err(e) => cookies.passed.push(e.what().to_string()),
            }
        }
        if cookies.known.is_empty() {
            match folders.iter().find_map(|folder| make(folder).ok()) {
                Some(cookie) => cookies.add(cookie),
                None => cookies.add(in_memory()?),
            }
        }
        Ok(cookies)
    }

    /// The first cookie here that has one of `ids`. Stops looking when it is found: a handshake costs as little as it
    /// can.
    pub fn common(ids: &[Id]) -> Option<Cookie> {
        let found = |folder: &PathBuf| read(folder).ok().flatten().filter(|cookie| ids.contains(&cookie.id));
        folders().ok()?.iter().find_map(found)
    }

    fn add(&mut self, cookie: Cookie) {
        if self.known.len() < MOST && self.known.iter().all(|known| known.id != cookie.id) {
            self.known.push(cookie);
        }
    }

    /// Their ids.
    pub fn ids(&self) -> Vec<Id> {
        self.known.iter().map(|cookie| cookie.id).collect()
    }

    /// The first of `ids` that is known here.
    pub fn find(&self, ids: &[Id]) -> Option<&Cookie> {
        ids.iter().find_map(|id| self.known.iter().find(|cookie| cookie.id == *id))
    }

    /// For people: which there are and where, and which were not taken.
    pub fn list(&self) -> String {
        let known = self.known.iter().map(|cookie| format!("{} in {}", short(&cookie.id), cookie.place));
        let passed = self.passed.iter().map(|why| format!("none from a folder that is not safe ({why})"));
        known.chain(passed).collect::<Vec<_>>().join(", ")
    }
}

/// Where files of this user may lie that its processes meet at, best first. What of the environment is missing for one
/// process (cron, su, docker exec and srun drop variables) another way leads to; some go when the user logs out.
pub(super) fn folders() -> Result<Vec<PathBuf>> {
    let mut folders = Vec::from_iter(named());
    folders.push(PathBuf::from(format!("/run/user/{}/libipc", user())));
    folders.extend(absolute("XDG_RUNTIME_DIR").map(|path| path.join("libipc")));
    folders.extend(own_home()?.map(|home| home.join(".cache/libipc")));
    folders.push(PathBuf::from(format!("/tmp/libipc-{}", user())));
    let mut once = Vec::with_capacity(folders.len());
    for folder in folders {
        if !once.contains(&folder) {
            once.push(folder);
        }
    }
    Ok(once)
}

/// The folder that the user has named.
fn named() -> Option<PathBuf> {
    absolute("IPC_RUNTIME_DIR")
}

fn absolute(name: &str) -> Option<PathBuf> {
    env_var(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Asked for once: the answer may come from a server far away.
fn own_home() -> Result<Option<PathBuf>> {
    static HOME: SetOnce<(u32, Option<PathBuf>)> = SetOnce::new();
    let user = user();
    match HOME.get() {
        Some((of, home)) if *of == user => Ok(home.clone()),
        _ => {
            let found = home()?;
            let _ = HOME.set((user, found.clone()));
            Ok(found)
        }
    }
}

fn read(path: &Path) -> Result<Option<Cookie>> {
    let now = match Look::at(path) {
        Look::Nothing => return Ok(None),
        Look::Other => None,
        Look::Stamp(stamp) => Some(stamp),
    };
    if let Some(cookie) = now.as_ref().and_then(|now| kept::find(path, now)) {
        return Ok(Some(cookie));
    }
    let Some(folder) = PrivateFolder::open(path)? else { return Ok(None) };
    let found = read_in(&folder, path)?;
    if let (Some(stamp), Some(cookie)) = (now, &found) {
        kept::keep(path, stamp, cookie);
    }
    Ok(found)
}

fn read_in(folder: &PrivateFolder, path: &Path) -> Result<Option<Cookie>> {
    let mut key = Zeroizing::new([0; LENGTH]);
    let found = folder.read(FILE, &mut *key).map_err(|e| err!(Io, "{}: {}", path.display(), e.what()))?;
    Ok(found.then(|| Cookie::new(key, path.join("cookie").display().to_string())))
}

fn make(path: &Path) -> Result<Cookie> {
    // Not every home has a ~/.cache.
    if let Some(cache) = path.parent().filter(|parent| parent.ends_with(".cache")) {
        let _ = std::fs::DirBuilder::new().mode(0o700).create(cache);
    }
    let folder = PrivateFolder::make(path)?;
    let mut key = Zeroizing::new([0; LENGTH]);
    getrandom::fill(&mut *key).map_err(|e| err!(Io, "the system's random numbers: {e}"))?;
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|e| err!(Io, "the system's random numbers: {e}"))?;
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = format!("cookie.{}-{n}-{:08x}", std::process::id(), u32::from_ne_bytes(random));
    let temporary = CString::new(temporary).map_err(|_| err!(Io, "a name with a NUL"))?;
    if folder.publish(FILE, &temporary, &*key)? {
        return Ok(Cookie::new(key, path.join("cookie").display().to_string()));
    }
    // Another process was first.
    read_in(&folder, path)?.ok_or_else(|| err!(Io, "{} was removed again", path.display()))
}

/// The cookie of this process and of its forked children.
fn in_memory() -> Result<Cookie> {
    static KEY: SetOnce<Zeroizing<[u8; LENGTH]>> = SetOnce::new();
    let key = match KEY.get() {
        Some(key) => key.clone(),
        None => {
            let mut new = Zeroizing::new([0; LENGTH]);
            getrandom::fill(&mut *new).map_err(|e| err!(Io, "the system's random numbers: {e}"))?;
            KEY.get_or_init(|| new).clone()
        }
    };
    Ok(Cookie::new(key, "the memory of its process and its forked children only, since no folder could be made".into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    /// A folder of its own for a test, removed with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("ipc-cookie-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }

        fn folder(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_cookie_is_made_in_the_first_folder_that_allows_it_and_found_again() {
        let scratch = Scratch::new("made");
        let folders = [scratch.folder("missing/a"), scratch.folder("b"), scratch.folder("c")];
        let first = Cookies::among(&folders, None).unwrap();
        assert_eq!(first.ids().len(), 1);
        assert_eq!(Cookies::among(&folders, None).unwrap().ids(), first.ids());
        let meta = fs::metadata(scratch.folder("b/cookie")).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.len()), (0o600, 32));
        assert!(!scratch.folder("c").exists());
        assert!(first.list().contains("b/cookie") && first.list().contains(&short(&first.ids()[0])), "{first:?}");
        // The one that the user names gets one, too, whatever others there are.
        let named = Cookies::among(&[folders[2].clone(), folders[1].clone()], Some(&folders[2])).unwrap();
        assert_eq!((named.ids().len(), named.ids()[1]), (2, first.ids()[0]));
        fs::remove_dir_all(scratch.folder("c")).unwrap();
        // Gone with a login: another is made in its stead.
        fs::remove_dir_all(scratch.folder("b")).unwrap();
        assert_ne!(Cookies::among(&folders, None).unwrap().ids(), first.ids());
    }

    #[test]
    fn all_that_can_be_read_are_known_and_the_first_common_one_is_found() {
        let scratch = Scratch::new("all");
        let (a, b) = (scratch.folder("a"), scratch.folder("b"));
        let one = Cookies::among(std::slice::from_ref(&a), None).unwrap().ids()[0];
        let two = Cookies::among(std::slice::from_ref(&b), None).unwrap().ids()[0];
        let both = Cookies::among(&[a, b], None).unwrap();
        assert_eq!(both.ids(), [one, two]);
        assert_eq!(both.find(&[[9; 16], two, one]).unwrap().id, two);
        assert!(both.find(&[[9; 16]]).is_none() && both.find(&[]).is_none());
    }

    #[test]
    fn a_file_or_folder_that_others_can_read_is_passed_over_and_said() {
        let scratch = Scratch::new("open");
        let (a, b) = (scratch.folder("a"), scratch.folder("b"));
        Cookies::among(std::slice::from_ref(&a), None).unwrap();
        fs::set_permissions(a.join("cookie"), fs::Permissions::from_mode(0o644)).unwrap();
        let cookies = Cookies::among(&[a.clone(), b.clone()], None).unwrap();
        assert!(cookies.known[0].place.starts_with(b.to_str().unwrap()), "{cookies:?}");
        assert!(cookies.list().contains("has mode 0644"), "{}", cookies.list());
        fs::set_permissions(&a, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Cookies::among(&[a], None).unwrap().list().contains("has mode 0755"));
    }

    #[test]
    fn where_no_folder_can_be_made_the_process_has_one_in_memory() {
        let scratch = Scratch::new("memory");
        let nowhere = [scratch.folder("missing/a")];
        let (one, two) = (Cookies::among(&nowhere, None).unwrap(), Cookies::among(&nowhere, None).unwrap());
        assert_eq!(one.ids(), two.ids());
        assert!(one.list().contains("memory"));
        let id = one.ids()[0];
        assert_eq!(
            crate::sys::fork_for_tests(|| Cookies::among(&[PathBuf::from("/nowhere/a")], None).unwrap().ids() == [id]),
            0
        );
    }

    #[test]
    fn of_many_that_make_one_at_once_all_get_the_same() {
        let scratch = Scratch::new("race");
        let folders = [scratch.folder("a")];
        let ids: Vec<_> = std::thread::scope(|s| {
            let all: Vec<_> = (0..8).map(|_| s.spawn(|| Cookies::among(&folders, None).unwrap().ids())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|one| *one == ids[0]), "{ids:?}");
        assert_eq!(fs::read_dir(&folders[0]).unwrap().count(), 1);
    }

    #[test]
    fn a_proof_is_of_what_was_said_and_of_the_cookie() {
        let cookie = Cookie::new(Zeroizing::new([7; LENGTH]), String::new());
        let proof = cookie.prove(&[b"a", b"bc"]);
        assert!(cookie.is_proved(&[b"ab", b"c"], &proof));
        assert!(!cookie.is_proved(&[b"ab", b"d"], &proof));
        assert!(!Cookie::new(Zeroizing::new([8; LENGTH]), String::new()).is_proved(&[b"abc"], &proof));
        assert!(!format!("{cookie:?}").contains("7, 7"));
    }
}
