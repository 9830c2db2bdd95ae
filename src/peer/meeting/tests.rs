//! Who finds whom in a folder, and which folders are not trusted.
#![allow(clippy::unwrap_used)]
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::error::Code;

/// A folder of its own for each test, removed with it.
struct Room(PathBuf);

impl Room {
    fn new(name: &str) -> Room {
        let path = std::env::temp_dir().join(format!("libipc-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        PrivateFolder::make(&path).unwrap();
        Room(path)
    }

    fn place(&self, key: &[u8]) -> Place {
        Place::inside(vec![self.0.clone()], std::process::id(), key).unwrap()
    }

    fn files(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }
}

impl Place {
    fn path(&self) -> PathBuf {
        self.folders[0].join(&self.name)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_a_root_publishes_is_read_and_goes_with_it() {
    let room = Room::new("publish");
    let place = room.place(b"");
    assert_eq!(place.read().unwrap(), None);
    let mut root = Meeting::claim(place.clone(), "one").unwrap();
    assert_eq!(place.read().unwrap().as_deref(), Some("one"));
    root.publish("two").unwrap();
    assert_eq!(place.read().unwrap().as_deref(), Some("two"));
    assert_eq!(fs::metadata(place.path()).unwrap().mode() & 0o777, 0o600);
    assert_eq!(room.files(), 1);
    drop(root);
    assert_eq!(place.read().unwrap(), None);
    assert_eq!(room.files(), 0);
}

#[test]
fn a_second_live_root_is_refused_but_not_under_another_key() {
    let room = Room::new("second");
    let root = Meeting::claim(room.place(b"a"), "x").unwrap();
    let e = Meeting::claim(room.place(b"a"), "y").unwrap_err();
    assert_eq!(e.code(), Code::State);
    assert!(e.to_string().contains("key"), "{e}");
    assert_eq!(room.place(b"a").read().unwrap().as_deref(), Some("x"));
    Meeting::claim(room.place(b"/b"), "z").unwrap();
    drop(root);
    Meeting::claim(room.place(b"a"), "y").unwrap();
}

#[test]
fn a_dead_roots_file_is_not_read_and_is_replaced() {
    let room = Room::new("stale");
    let place = room.place(b"");
    fs::write(place.path(), "left behind").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place.read().unwrap(), None);
    let _root = Meeting::claim(place.clone(), "alive").unwrap();
    assert_eq!(place.read().unwrap().as_deref(), Some("alive"));
}

#[test]
fn a_reader_that_stands_still_is_not_taken_for_a_root() {
    let room = Room::new("reader");
    let place = room.place(b"");
    fs::write(place.path(), "left behind").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let reader = File::open(place.path()).unwrap();
    assert!(try_flock(reader.as_raw_fd(), false));
    std::thread::scope(|s| {
        let root = s.spawn(|| Meeting::claim(place.clone(), "alive").unwrap());
        std::thread::sleep(Duration::from_millis(200));
        drop(reader);
        let _root = root.join().unwrap();
        assert_eq!(place.read().unwrap().as_deref(), Some("alive"));
    });
}

#[test]
fn links_and_open_files_are_not_trusted() {
    let room = Room::new("link");
    let place = room.place(b"");
    let elsewhere = room.0.join("elsewhere");
    fs::write(&elsewhere, "evil").unwrap();
    std::os::unix::fs::symlink(&elsewhere, place.path()).unwrap();
    assert_eq!(place.read().unwrap(), None);
    assert_eq!(Meeting::claim(place.clone(), "x").unwrap_err().code(), Code::Io);
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "evil");
    fs::remove_file(place.path()).unwrap();
    fs::write(place.path(), "written by anyone").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(place.read().unwrap(), None);
}

#[test]
fn a_folder_that_others_can_enter_is_refused() {
    let room = Room::new("mode");
    let root = Meeting::claim(room.place(b""), "x").unwrap();
    fs::set_permissions(&room.0, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(room.place(b"").read().unwrap(), None);
    let e = Meeting::claim(room.place(b"k"), "x").unwrap_err();
    assert!(e.what().contains("mode 0755") && e.what().contains("IPC_RUNTIME_DIR"), "{e}");
    drop(root);
}

#[test]
fn nodes_whose_environments_differ_meet_where_one_of_their_folders_is_common() {
    let (a, b) = (Room::new("a"), Room::new("b"));
    let place = |folders: &[&Room]| {
        Place::inside(folders.iter().map(|room| room.0.clone()).collect(), std::process::id(), b"").unwrap()
    };
    let root = Meeting::claim(place(&[&a, &b]), "here").unwrap();
    assert_eq!(place(&[&b, &a]).read().unwrap().as_deref(), Some("here"));
    assert_eq!(place(&[&b]).read().unwrap(), None);
    // Nor is there a second root because it would look into the other first.
    assert_eq!(Meeting::claim(place(&[&b, &a]), "too").unwrap_err().code(), Code::State);
    drop(root);
    let missing = Room(std::env::temp_dir().join("libipc-test-missing/a"));
    let root = Meeting::claim(place(&[&missing, &b]), "there").unwrap();
    assert_eq!(place(&[&a, &b]).read().unwrap().as_deref(), Some("there"));
    drop(root);
}

#[test]
fn those_who_wait_wake_when_something_new_is_published() {
    let room = Room::new("wait");
    let place = room.place(b"");
    assert_eq!(place.wait(None, &Wait::until(Deadline::now())).unwrap(), None);
    std::thread::scope(|s| {
        let waiting = s.spawn(|| place.wait(Some("old"), &Wait::until(Deadline::NEVER)).unwrap());
        let mut root = Meeting::claim(place.clone(), "old").unwrap();
        root.publish("new").unwrap();
        assert_eq!(waiting.join().unwrap().as_deref(), Some("new"));
    });
}

#[test]
fn of_many_roots_at_once_one_wins() {
    let room = Room::new("race");
    let place = room.place(b"");
    for round in 0..20 {
        if round % 2 == 0 {
            fs::write(place.path(), "stale").unwrap();
            fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let all = std::thread::scope(|s| {
            let threads: Vec<_> = (0..4).map(|_| s.spawn(|| Meeting::claim(place.clone(), "me").ok())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(all.iter().flatten().count(), 1);
    }
    assert_eq!(room.files(), 0);
}

#[test]
fn the_name_tells_processes_and_keys_apart() {
    let room = Room::new("name");
    let here = room.place(b"");
    assert_ne!(here, Place::inside(vec![room.0.clone()], 1, b"").unwrap());
    assert_ne!(here, room.place(b"k"));
    assert_ne!(room.place(b"%2f"), room.place(b"/"));
    assert!(started(std::process::id()) > 0 || !cfg!(target_os = "linux"));
    assert_eq!(Place::new(1, &[0; LONGEST_KEY + 1]).unwrap_err().code(), Code::Argument);
}
