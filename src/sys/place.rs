//! The end of a forked child, and the files that its parent is reading.
//!
//! A child shares with its parent the place in every open file. When it ends by `exit`, C goes through the streams that
//! it has a copy of, and sets the place of each that was being read back to where the copy had read. The parent, which
//! is elsewhere by then, reads a part twice: a loop over lines that forks gets lines again, a thread that loads a
//! module a syntax error. So a child gets, before that, places of its own. Imports its siblings `fork` and `thread`.

use std::sync::atomic::{AtomicU32, Ordering};

use super::fork::fork_generation;
use super::thread::at_exit;

/// The generation of the process that registered what follows; 0: nobody did.
static FIRST: AtomicU32 = AtomicU32::new(0);

/// From now on no child leaves the places of its parent's files changed. To be called before a fork.
pub(super) fn keep_places() {
    if FIRST.compare_exchange(0, fork_generation(), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        at_exit(part_from_parent);
    }
}

extern "C" fn part_from_parent() {
    if fork_generation() != FIRST.load(Ordering::Relaxed) {
        part();
    }
}

/// Opens each regular file that is open for reading anew, at the same place, under the same number. Standard input is
/// left: what a child has not taken of it is for the parent.
#[cfg(target_os = "linux")]
fn part() {
    let Ok(all) = std::fs::read_dir("/proc/self/fd") else { return };
    // All of them first: the numbers change meanwhile.
    let all: Vec<i32> = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in all.into_iter().filter(|fd| *fd > 2) {
        part_at(fd);
    }
}

/// Elsewhere a second opening shares the place, too.
#[cfg(not(target_os = "linux"))]
fn part() {}

#[cfg(target_os = "linux")]
fn part_at(fd: i32) {
    // SAFETY: plain system calls on numbers; all zeros is a valid stat, and the path ends in a NUL. Who else uses `fd`
    // finds the same file at the same place. What fails leaves the descriptor as it is.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags < 0 || flags & (libc::O_ACCMODE | libc::O_PATH) != libc::O_RDONLY {
            return;
        }
        let mut meta: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &mut meta) != 0 || meta.st_mode & libc::S_IFMT != libc::S_IFREG {
            return;
        }
        let place = libc::lseek(fd, 0, libc::SEEK_CUR);
        let path = format!("/proc/self/fd/{fd}\0");
        let own = libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY);
        if own < 0 {
            return;
        }
        if place >= 0 && libc::lseek(own, place, libc::SEEK_SET) == place {
            libc::dup3(own, fd, libc::O_CLOEXEC);
        }
        libc::close(own);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Seek, SeekFrom, Write};

    use super::super::fork::tests::in_child;
    use super::*;

    #[test]
    fn a_child_that_parted_moves_nothing_of_its_parent() {
        let path = std::env::temp_dir().join(format!("libipc-place-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut read = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        read.seek(SeekFrom::Start(4)).unwrap();
        let parted = || {
            part();
            let mut next = [0];
            read_at(&read, &mut next) && next == *b"4" && moved(&read, 0) && moved(&file, 2)
        };
        assert_eq!(in_child(parted), 0);
        let mut rest = String::new();
        read.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "456789");
        // What is written goes on being shared.
        assert_eq!(file.stream_position().unwrap(), 2);
    }

    fn read_at(mut file: &std::fs::File, into: &mut [u8]) -> bool {
        file.read_exact(into).is_ok()
    }

    fn moved(mut file: &std::fs::File, to: u64) -> bool {
        file.seek(SeekFrom::Start(to)).is_ok()
    }
}
