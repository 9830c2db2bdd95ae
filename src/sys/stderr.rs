//! Lines on stderr that never wait, and take no lock.
//!
//! Stderr may be a pipe that nobody reads. A thread that tells something there (a log line in the background thread,
//! the error of a thread that nobody waits for) goes on all the same: a line that does not fit now is lost, and the
//! next that does says how many were. The descriptor's own mode is never changed, since other processes have the same
//! one. The standard library's stderr is not used: it has a lock, which the child of a fork might find held.
//!
//! Imports its siblings `critical`, `env`, `poll` and `spawn`.

use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::critical::Critical;
use super::env::env_var;
use super::poll::{Polled, poll};
use super::spawn::without_sigpipe;
use crate::text;

/// What a pipe takes as a whole or not at all (`PIPE_BUF`), so that the lines of many processes do not mix.
const PIECE: usize = 4096;

/// Lines that were lost since the last that was written.
static LOST: AtomicU32 = AtomicU32::new(0);

/// Writes `line`, which needs no line feed at its end, if that can be done without waiting.
pub fn tell(line: &str) {
    let lost = LOST.swap(0, Ordering::Relaxed);
    let text = match lost {
        0 => format!("{}\n", line.trim_end_matches('\n')),
        n => format!("libipc: {n} lost here, since nobody read stderr\n{}\n", line.trim_end_matches('\n')),
    };
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match write_now(libc::STDERR_FILENO, &rest[..rest.len().min(PIECE)]) {
            Ok(n) => rest = &rest[n..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => {
                // Where it is closed, nobody will ever read it.
                if e.kind() == ErrorKind::WouldBlock {
                    LOST.fetch_add(lost + 1, Ordering::Relaxed);
                }
                return;
            }
        }
    }
}

/// Tells the user of the program what nothing in it was told, `libipc: ` before it: as [`tell`], unless `IPC_LOG` is
/// `off`.
pub fn notice(what: fmt::Arguments<'_>) {
    if env_var("IPC_LOG").is_none_or(|asked| asked != "off") {
        tell(&text!("libipc: {what}"));
    }
}

/// Has a panic, which is a bug of ours and becomes an error, told in this way from now on: by default it is told under
/// locks of the standard library's.
pub fn tell_panics() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        // To set it takes one of those locks: no fork comes meanwhile.
        let _section = Critical::enter();
        std::panic::set_hook(Box::new(|panic| tell(&format!("libipc: internal error, please report it: {panic}"))));
    }
}

/// Writes to what may be a file, a socket, a pipe or a terminal, and is in the mode for calls that wait.
fn write_now(fd: i32, bytes: &[u8]) -> Result<usize> {
    without_sigpipe(|| {
        if is_file(fd) {
            // A disk is slow at most.
            return write(fd, bytes);
        }
        for way in [send, write_nowait] {
            match way(fd, bytes) {
                Err(e) if cannot(&e) => {}
                result => return result,
            }
        }
        // A terminal, or an old kernel. Another process may take the room in between: nothing can be done about that.
        let mut fds = [libc::pollfd { fd, events: libc::POLLOUT, revents: 0 }];
        if matches!(poll(&mut fds, Some(Duration::ZERO)), Ok(Polled::Ready(_))) {
            write(fd, bytes)
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    })
}

/// Whether a call is not for this kind of descriptor.
fn cannot(e: &Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOTSOCK | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ESPIPE))
}

fn is_file(fd: i32) -> bool {
    // SAFETY: all zeros is a valid place for fstat to fill in.
    let mut about: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: as above; a bad descriptor is an error.
    unsafe { libc::fstat(fd, &mut about) == 0 && about.st_mode & libc::S_IFMT == libc::S_IFREG }
}

fn done(n: isize) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::last_os_error())
}

fn write(fd: i32, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the bytes are there; a bad descriptor is an error.
    done(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
}

fn send(fd: i32, bytes: &[u8]) -> Result<usize> {
    // SAFETY: as above.
    done(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) })
}

/// For pipes, on Linux.
#[cfg(target_os = "linux")]
fn write_nowait(fd: i32, bytes: &[u8]) -> Result<usize> {
    const RWF_NOWAIT: i32 = 8;
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: as above; the place −1 is where the descriptor is.
    let n = unsafe { libc::syscall(libc::SYS_pwritev2, fd, &raw const part, 1usize, -1isize, -1isize, RWF_NOWAIT) };
    done(n as isize)
}

#[cfg(not(target_os = "linux"))]
fn write_nowait(_: i32, _: &[u8]) -> Result<usize> {
    Err(Error::from_raw_os_error(libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_full_takes_nothing_and_keeps_nobody() {
        let line = [b'x'; 1000];
        let (mut read, write) = std::io::pipe().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        for fd in [write.as_raw_fd(), far.as_raw_fd()] {
            let fitted = (0..10_000).take_while(|_| write_now(fd, &line).is_ok()).count();
            assert!(fitted > 10 && fitted < 10_000, "{fitted}");
            assert_eq!(write_now(fd, &line).unwrap_err().kind(), ErrorKind::WouldBlock);
            // SAFETY: touches no memory.
            assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFL) } & libc::O_NONBLOCK, 0);
        }
        let mut some = vec![0; 100_000];
        assert!(read.read(&mut some).unwrap() > 0 && near.read(&mut some).unwrap() > 0);
        for fd in [write.as_raw_fd(), far.as_raw_fd()] {
            assert_eq!(write_now(fd, b"on").unwrap(), 2);
        }
        // Nobody will read it: an error, and no signal.
        drop((read, near));
        for fd in [write.as_raw_fd(), far.as_raw_fd()] {
            assert_eq!(write_now(fd, b"gone").unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn a_file_takes_all() {
        let path = std::env::temp_dir().join(format!("ipc-stderr-{}", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        for _ in 0..200 {
            assert_eq!(write_now(file.as_raw_fd(), &[b'x'; 1000]).unwrap(), 1000);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 200_000);
        std::fs::remove_file(&path).unwrap();
    }
}
