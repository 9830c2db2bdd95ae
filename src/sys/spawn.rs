//! Starting another program, at the speed of `posix_spawn`: the parent's memory is not copied, however large it is.
//!
//! What the child gets is what it was given: its three standard streams, a clean signal mask, and no other descriptor
//! of this process, be it one of ours (all of them are close-on-exec) or one that Lua, C or another library has open.
//! So it does not matter what other threads open or start meanwhile. Imports its sibling `fd`.

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use super::fd::{Fd, opening};
use crate::error::{Error, Result};

/// A program to start, in the system's terms.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// A path, or a name that is looked for along `PATH`.
    pub file: &'a CStr,
    /// Its arguments after `argv[0]`, which is the file.
    pub args: &'a [CString],
    /// Its environment, `NAME=value` each; `None` for this process's own.
    pub env: Option<&'a [CString]>,
    /// The folder that it starts in.
    pub cwd: Option<&'a CStr>,
    /// Its standard input, output and error: descriptors of this process, 3 or above; `None` for those of this process.
    pub stdio: [Option<RawFd>; 3],
    /// Whether it leads a process group of its own.
    pub group: bool,
}

/// Starts the program; its process id, or what the system said (a program that cannot be executed is told of here).
pub fn spawn(program: &Program) -> std::io::Result<i32> {
    let argv = pointers(Some(program.file), program.args)?;
    let envp = program.env.map(|env| pointers(None, env)).transpose()?;
    let mut setup = Setup::new()?;
    setup.attributes(program.group)?;
    for (n, fd) in program.stdio.iter().enumerate() {
        if let Some(fd) = fd {
            setup.duplicate(*fd, n as RawFd)?;
        }
    }
    if let Some(cwd) = program.cwd {
        setup.enter(cwd)?;
    }
    setup.close_the_rest()?;
    // SAFETY: `environ` is what the C library reads for every child; setenv in another thread is as unsafe here as
    // anywhere.
    let environment = envp.as_ref().map_or(unsafe { libc::environ } as *const *mut c_char, |e| e.as_ptr());
    let mut pid = 0;
    // SAFETY: all strings end in a NUL and all lists in a null pointer; they and `setup` live through the call.
    let code = unsafe {
        let file = program.file.as_ptr();
        libc::posix_spawnp(&mut pid, file, &setup.actions, &setup.attributes, argv.as_ptr(), environment)
    };
    check(code).map(|()| pid)
}

/// The strings as C wants a list of them.
fn pointers(first: Option<&CStr>, strings: &[CString]) -> std::io::Result<Vec<*mut c_char>> {
    let mut list = Vec::new();
    list.try_reserve_exact(strings.len() + 2)?;
    list.extend(first.map(|s| s.as_ptr().cast_mut()));
    list.extend(strings.iter().map(|s| s.as_ptr().cast_mut()));
    list.push(ptr::null_mut());
    Ok(list)
}

/// These functions give the error instead of setting `errno`.
fn check(code: c_int) -> std::io::Result<()> {
    if code == 0 { Ok(()) } else { Err(std::io::Error::from_raw_os_error(code)) }
}

/// What `posix_spawn` does between fork and exec.
struct Setup {
    actions: libc::posix_spawn_file_actions_t,
    attributes: libc::posix_spawnattr_t,
}

impl Setup {
    fn new() -> std::io::Result<Setup> {
        let (mut actions, mut attributes) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: each is initialised by its own function, and destroyed where the other one fails.
        unsafe {
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            if let Err(e) = check(libc::posix_spawnattr_init(attributes.as_mut_ptr())) {
                libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr());
                return Err(e);
            }
            Ok(Setup { actions: actions.assume_init(), attributes: attributes.assume_init() })
        }
    }

    /// No signal is blocked in the child, whatever the thread that starts it blocks; and those are not ignored that
    /// this process may ignore for its own sake (what else is ignored stays so, as `nohup` wants it).
    fn attributes(&mut self, group: bool) -> std::io::Result<()> {
        let mut flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        if group {
            flags |= libc::POSIX_SPAWN_SETPGROUP;
        }
        let mut set = MaybeUninit::uninit();
        // SAFETY: the attributes are initialised; the set is, before it is read.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(&mut self.attributes, set.as_ptr()))?;
            libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGXFSZ);
            check(libc::posix_spawnattr_setsigdefault(&mut self.attributes, set.as_ptr()))?;
            check(libc::posix_spawnattr_setpgroup(&mut self.attributes, 0))?;
            check(libc::posix_spawnattr_setflags(&mut self.attributes, flags as _))
        }
    }

    fn duplicate(&mut self, from: RawFd, to: RawFd) -> std::io::Result<()> {
        debug_assert!(from > 2, "a source that another action replaces");
        // SAFETY: the actions are initialised.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.actions, from, to) })
    }

    fn enter(&mut self, folder: &CStr) -> std::io::Result<()> {
        // SAFETY: the actions are initialised, and keep a copy of the path.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut self.actions, folder.as_ptr()) })
    }

    /// Whatever else is open in this process, also without close-on-exec: not in the child.
    fn close_the_rest(&mut self) -> std::io::Result<()> {
        type CloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;
        // glibc has it since 2.34; asked for by name, so that older ones can load this library.
        // SAFETY: the name ends in a NUL; if there is such a function, it is of this type.
        let close_from = unsafe {
            let name = c"posix_spawn_file_actions_addclosefrom_np";
            std::mem::transmute::<*mut libc::c_void, Option<CloseFrom>>(libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()))
        };
        if let Some(close_from) = close_from {
            // SAFETY: the actions are initialised.
            return check(unsafe { close_from(&mut self.actions, 3) });
        }
        // What a thread opens between this look and the start is missed, unless it is close-on-exec.
        for entry in std::fs::read_dir("/dev/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse().ok()).unwrap_or(-1);
            // SAFETY: F_GETFD touches no memory; a bad descriptor is an error.
            let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
            if number > 2 && flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
                // SAFETY: the actions are initialised.
                check(unsafe { libc::posix_spawn_file_actions_addclose(&mut self.actions, number) })?;
            }
        }
        Ok(())
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        // SAFETY: both were initialised in `new`.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&mut self.actions);
            libc::posix_spawnattr_destroy(&mut self.attributes);
        }
    }
}

/// A copy of descriptor `fd`, no matter what owns it: close-on-exec, and above the standard streams.
pub fn copy_fd(fd: RawFd) -> Result<Fd> {
    // SAFETY: touches no memory; a bad descriptor is an error.
    Fd::open("fcntl", || unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })
}

/// A pipe: the end to read and the end to write, both close-on-exec and above the standard streams.
pub fn pipe() -> Result<(Fd, Fd)> {
    let (read, write) = opening(|| {
        let mut ends = [0; 2];
        // SAFETY: there is room for two descriptors.
        if unsafe { make_pipe(&mut ends) } != 0 {
            return Err(Error::os("", "pipe"));
        }
        Ok((Fd::own(ends[0]), Fd::own(ends[1])))
    })?;
    // In a process that has closed its standard streams a pipe may take their numbers.
    let above = |fd: Fd| if fd.as_raw_fd() > 2 { Ok(fd) } else { copy_fd(fd.as_raw_fd()) };
    Ok((above(read)?, above(write)?))
}

#[cfg(target_os = "linux")]
unsafe fn make_pipe(ends: &mut [c_int; 2]) -> c_int {
    // SAFETY: as promised.
    unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }
}

#[cfg(not(target_os = "linux"))]
unsafe fn make_pipe(ends: &mut [c_int; 2]) -> c_int {
    // SAFETY: as promised; the flags are set on descriptors that were just made.
    unsafe {
        let code = libc::pipe(ends.as_mut_ptr());
        if code == 0 {
            ends.iter().for_each(|fd| _ = libc::fcntl(*fd, libc::F_SETFD, libc::FD_CLOEXEC));
        }
        code
    }
}

/// Makes calls on this end of a pipe return instead of waiting; the other end stays as it is.
pub fn set_nonblocking(fd: &Fd) -> Result<()> {
    // SAFETY: touches no memory.
    let done = unsafe {
        let flags = libc::fcntl(fd.check()?, libc::F_GETFL);
        flags >= 0 && libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) == 0
    };
    if done { Ok(()) } else { Err(Error::os("", "fcntl")) }
}

/// Reads up to `most` bytes to the end of `into`; how many came, 0 at the end.
pub fn read_some(fd: RawFd, into: &mut Vec<u8>, most: usize) -> std::io::Result<usize> {
    into.try_reserve(most)?;
    // SAFETY: there is room for `most` bytes behind the vector's own, and as many as were read count as its own then.
    unsafe {
        let n = libc::read(fd, into.as_mut_ptr().add(into.len()).cast(), most);
        if n < 0 {
            return Err(std::io::Error::last_os_error());
        }
        into.set_len(into.len() + n as usize);
        Ok(n as usize)
    }
}

/// Writes what a pipe takes of `bytes`. One that nobody reads any more is an error (`BrokenPipe`) and not a SIGPIPE:
/// that is blocked in this thread meanwhile, and taken away if it came.
pub fn write_some(fd: RawFd, bytes: &[u8]) -> std::io::Result<usize> {
    without_sigpipe(|| {
        // SAFETY: the bytes are there; a bad descriptor is an error.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        usize::try_from(n).map_err(|_| std::io::Error::last_os_error())
    })
}

/// Runs `write`, whose `BrokenPipe` brings no SIGPIPE.
pub(super) fn without_sigpipe<T>(write: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    let quiet = Quiet::new();
    let result = write();
    if result.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
        quiet.take();
    }
    result
}

/// SIGPIPE is blocked in this thread.
struct Quiet {
    old: libc::sigset_t,
    /// One was waiting already, which is not ours.
    pending: bool,
}

fn only_sigpipe() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: emptying initialises the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

impl Quiet {
    fn new() -> Quiet {
        let set = only_sigpipe();
        let (mut pending, mut old) = (set, set);
        // SAFETY: all sets are initialised; the mask is this thread's own.
        unsafe {
            libc::sigpending(&mut pending);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut old);
            Quiet { old, pending: libc::sigismember(&pending, libc::SIGPIPE) == 1 }
        }
    }

    /// Takes the signal that a write has just caused.
    fn take(&self) {
        if self.pending {
            return;
        }
        let set = only_sigpipe();
        #[cfg(target_os = "linux")]
        // SAFETY: the sets and the time are initialised; with no time to wait this returns at once.
        unsafe {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            while libc::sigtimedwait(&set, ptr::null_mut(), &now) == -1
                && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
            {}
        }
        #[cfg(not(target_os = "linux"))]
        // SAFETY: waits only for a signal that is pending.
        unsafe {
            let (mut pending, mut which) = (set, 0);
            libc::sigpending(&mut pending);
            if libc::sigismember(&pending, libc::SIGPIPE) == 1 {
                libc::sigwait(&set, &mut which);
            }
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: the mask that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.old, ptr::null_mut()) };
    }
}

/// Where the first `byte` of `bytes` is, at the speed of the C library's `memchr`.
pub fn find_byte(bytes: &[u8], byte: u8) -> Option<usize> {
    // SAFETY: looks at these bytes only, and gives null or a place among them.
    unsafe {
        let at = libc::memchr(bytes.as_ptr().cast(), c_int::from(byte), bytes.len());
        (!at.is_null()).then(|| at.cast::<u8>().offset_from(bytes.as_ptr()) as usize)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::process::reap;
    use super::*;

    fn run(words: &[&str], stdio: [Option<RawFd>; 3]) -> std::io::Result<i32> {
        let args: Vec<CString> = words.iter().map(|w| CString::new(*w).unwrap()).collect();
        spawn(&Program { file: &args[0], args: &args[1..], env: None, cwd: Some(c"/"), stdio, group: true })
    }

    fn ended(pid: i32) -> i32 {
        loop {
            if let Some(exit) = reap(pid).unwrap() {
                return exit.code;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_starts_where_and_with_what_it_is_told() {
        let (read, write) = pipe().unwrap();
        let pid = run(&["sh", "-c", "pwd; ls /proc/self/fd"], [None, Some(write.as_raw_fd()), None]).unwrap();
        drop(write);
        let mut out = Vec::new();
        while read_some(read.as_raw_fd(), &mut out, 100).unwrap() > 0 {}
        assert_eq!(ended(pid), 0);
        // 3 is the folder that ls reads.
        assert_eq!(String::from_utf8(out).unwrap(), "/\n0\n1\n2\n3\n");
    }

    #[test]
    fn what_is_open_without_close_on_exec_is_not_in_the_child() {
        // SAFETY: opens a plain file.
        let leak = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) };
        let pid = run(&["sh", "-c", &format!("test ! -e /proc/self/fd/{leak}")], [None; 3]).unwrap();
        assert_eq!(ended(pid), 0);
        // SAFETY: ours to close.
        unsafe { libc::close(leak) };
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_here() {
        let e = run(&["no-such-program-anywhere"], [None; 3]).unwrap_err();
        assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_an_error_and_no_signal() {
        let broken = || {
            let (read, write) = pipe().unwrap();
            drop(read);
            write_some(write.as_raw_fd(), b"x").unwrap_err().kind() == std::io::ErrorKind::BrokenPipe
        };
        assert!(broken());
        let code = super::super::fork::tests::in_child(|| {
            // SAFETY: what a program has unless it asks for something else; the test harness has, so only in a child.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            broken()
        });
        assert_eq!(code, 0);
    }

    #[test]
    fn a_byte_is_found_or_not() {
        assert_eq!(find_byte(b"abc", b'c'), Some(2));
        assert_eq!(find_byte(b"abc", b'd'), None);
        assert_eq!(find_byte(b"", b'd'), None);
    }
}
