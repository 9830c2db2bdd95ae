//! `require 'host'`: the few system calls that the stand-ins in spec/support/lua55 for lfs, system, term and socket are
//! made of.
//!
//! Failures are nil and a text, as Lua's own libraries have it. Sockets are plain descriptors, non-blocking; waiting is
//! `wait`.

use std::ffi::{CStr, c_char, c_int};
use std::{mem, ptr};

use mlua_sys as ffi;

type State = *mut ffi::lua_State;

/// Puts the module where `require` finds it.
///
/// # Safety
/// `l` is a live state with its libraries.
pub unsafe fn preload(l: State) {
    // SAFETY: as promised.
    unsafe {
        ffi::luaL_getsubtable(l, ffi::LUA_REGISTRYINDEX, ffi::LUA_PRELOAD_TABLE);
        ffi::lua_pushcfunction(l, open);
        ffi::lua_setfield(l, -2, c"host".as_ptr());
        ffi::lua_pop(l, 1);
    }
}

unsafe extern "C-unwind" fn open(l: State) -> c_int {
    let functions: &[(&CStr, unsafe extern "C-unwind" fn(State) -> c_int)] = &[
        (c"now", now),
        (c"monotonic", monotonic),
        (c"sleep", sleep),
        (c"isatty", isatty),
        (c"stat", stat),
        (c"list", list),
        (c"getcwd", getcwd),
        (c"chdir", chdir),
        (c"mkdir", mkdir),
        (c"rmdir", rmdir),
        (c"bind", bind),
        (c"listen", listen),
        (c"accept", accept),
        (c"connect", connect),
        (c"udp", udp),
        (c"address", address),
        (c"wait", wait),
        (c"send", send),
        (c"receive", receive),
        (c"close", close),
        (c"shutdown", shutdown),
    ];
    // SAFETY: a C function has 20 free slots.
    unsafe {
        ffi::lua_createtable(l, 0, functions.len() as c_int);
        for &(name, function) in functions {
            ffi::lua_pushcfunction(l, function);
            ffi::lua_setfield(l, -2, name.as_ptr());
        }
    }
    1
}

/// true, or nil and what errno says.
unsafe fn done(l: State, good: bool) -> c_int {
    // SAFETY: strerror's text is copied at once; one thread runs Lua here.
    unsafe {
        if good {
            ffi::lua_pushboolean(l, 1);
            return 1;
        }
        let code = *libc::__errno_location();
        ffi::lua_pushnil(l);
        ffi::lua_pushstring(l, if code == libc::EAGAIN { c"timeout".as_ptr() } else { libc::strerror(code) });
        2
    }
}

unsafe fn clock(l: State, which: libc::clockid_t) -> c_int {
    // SAFETY: fills a timespec.
    unsafe {
        let mut t: libc::timespec = mem::zeroed();
        libc::clock_gettime(which, &mut t);
        ffi::lua_pushnumber(l, t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9);
    }
    1
}

unsafe extern "C-unwind" fn now(l: State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { clock(l, libc::CLOCK_REALTIME) }
}

unsafe extern "C-unwind" fn monotonic(l: State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { clock(l, libc::CLOCK_MONOTONIC) }
}

unsafe extern "C-unwind" fn sleep(l: State) -> c_int {
    // SAFETY: sleeps on; a signal ends it early, and Lua's hook then raises.
    unsafe {
        let seconds = ffi::luaL_checknumber(l, 1).max(0.0);
        let t = libc::timespec { tv_sec: seconds as _, tv_nsec: (seconds.fract() * 1e9) as _ };
        libc::nanosleep(&t, ptr::null_mut());
    }
    0
}

/// isatty(descriptor)
unsafe extern "C-unwind" fn isatty(l: State) -> c_int {
    // SAFETY: any descriptor may be asked about.
    unsafe { ffi::lua_pushboolean(l, libc::isatty(ffi::luaL_checkinteger(l, 1) as c_int)) };
    1
}

/// stat(path, [follow links]) → mode, size, modification, change, access, device, inode
unsafe extern "C-unwind" fn stat(l: State) -> c_int {
    // SAFETY: the path is a string on the stack.
    unsafe {
        let path = ffi::luaL_checkstring(l, 1);
        let mut s: libc::stat = mem::zeroed();
        let call = if ffi::lua_toboolean(l, 2) != 0 { libc::stat } else { libc::lstat };
        if call(path, &mut s) != 0 {
            return done(l, false);
        }
        for n in [s.st_mode as i64, s.st_size, s.st_mtime, s.st_ctime, s.st_atime, s.st_dev as i64, s.st_ino as i64] {
            ffi::lua_pushinteger(l, n);
        }
        7
    }
}

/// list(path) → {name, …}
unsafe extern "C-unwind" fn list(l: State) -> c_int {
    // SAFETY: the stream is closed at the end; Lua raises in between only when it is out of memory, and the tests end
    // then.
    unsafe {
        let dir = libc::opendir(ffi::luaL_checkstring(l, 1));
        if dir.is_null() {
            return done(l, false);
        }
        ffi::lua_createtable(l, 0, 0);
        let mut n = 0;
        loop {
            let entry = libc::readdir(dir);
            if entry.is_null() {
                break;
            }
            n += 1;
            ffi::lua_pushstring(l, (&raw const (*entry).d_name).cast());
            ffi::lua_rawseti(l, -2, n);
        }
        libc::closedir(dir);
    }
    1
}

unsafe extern "C-unwind" fn getcwd(l: State) -> c_int {
    let mut buffer = [0 as c_char; libc::PATH_MAX as usize];
    // SAFETY: the buffer is as long as said.
    unsafe {
        if libc::getcwd(buffer.as_mut_ptr(), buffer.len()).is_null() {
            return done(l, false);
        }
        ffi::lua_pushstring(l, buffer.as_ptr());
    }
    1
}

unsafe extern "C-unwind" fn chdir(l: State) -> c_int {
    // SAFETY: the path is a string on the stack.
    unsafe { done(l, libc::chdir(ffi::luaL_checkstring(l, 1)) == 0) }
}

unsafe extern "C-unwind" fn mkdir(l: State) -> c_int {
    // SAFETY: the path is a string on the stack.
    unsafe { done(l, libc::mkdir(ffi::luaL_checkstring(l, 1), 0o777) == 0) }
}

unsafe extern "C-unwind" fn rmdir(l: State) -> c_int {
    // SAFETY: the path is a string on the stack.
    unsafe { done(l, libc::rmdir(ffi::luaL_checkstring(l, 1)) == 0) }
}

/// A new socket and the address in slots 1 and 2 (IPv4 in digits, or `localhost`).
unsafe fn inet(l: State, kind: c_int) -> (c_int, libc::sockaddr_in) {
    // SAFETY: the host is a string on the stack; zeros are a valid sockaddr_in.
    unsafe {
        let host = CStr::from_ptr(ffi::luaL_checkstring(l, 1));
        let mut address: libc::sockaddr_in = mem::zeroed();
        address.sin_family = libc::AF_INET as _;
        address.sin_port = (ffi::luaL_checkinteger(l, 2) as u16).to_be();
        let digits = if host.to_bytes() == b"localhost" { c"127.0.0.1" } else { host };
        let mut parts = [0u8; 4];
        let mut given = digits.to_bytes().split(|b| *b == b'.');
        for part in &mut parts {
            let word = given.next().and_then(|w| std::str::from_utf8(w).ok()).and_then(|w| w.parse().ok());
            match word {
                Some(n) => *part = n,
                None => {
                    ffi::luaL_argerror(l, 1, c"an IPv4 address in digits is expected here".as_ptr());
                }
            }
        }
        address.sin_addr.s_addr = u32::from_ne_bytes(parts);
        (libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, 0), address)
    }
}

/// The descriptor, made non-blocking, or nil and the reason.
unsafe fn socket(l: State, fd: c_int, good: bool) -> c_int {
    // SAFETY: fd is ours.
    unsafe {
        if !good {
            let n = done(l, false);
            libc::close(fd);
            return n;
        }
        libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK);
        ffi::lua_pushinteger(l, fd as ffi::lua_Integer);
    }
    1
}

const ADDRESS: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

/// A socket that has taken the address in slots 1 and 2, and whether it could.
unsafe fn bound(l: State) -> (c_int, bool) {
    // SAFETY: plain system calls on our own descriptor.
    unsafe {
        let (fd, address) = inet(l, libc::SOCK_STREAM);
        let one: c_int = 1;
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, (&raw const one).cast(), size_of::<c_int>() as _);
        (fd, libc::bind(fd, (&raw const address).cast(), ADDRESS) == 0)
    }
}

/// bind(host, port) → descriptor that holds the port, and does not listen
unsafe extern "C-unwind" fn bind(l: State) -> c_int {
    // SAFETY: called with the arguments that `bound` and `socket` read.
    unsafe {
        let (fd, good) = bound(l);
        socket(l, fd, good)
    }
}

/// listen(host, port) → descriptor
unsafe extern "C-unwind" fn listen(l: State) -> c_int {
    // SAFETY: plain system calls on our own descriptor.
    unsafe {
        let (fd, good) = bound(l);
        let good = good && libc::listen(fd, 32) == 0;
        socket(l, fd, good)
    }
}

/// connect(host, port) → descriptor, once connected
unsafe extern "C-unwind" fn connect(l: State) -> c_int {
    // SAFETY: plain system calls on our own descriptor.
    unsafe {
        let (fd, address) = inet(l, libc::SOCK_STREAM);
        socket(l, fd, libc::connect(fd, (&raw const address).cast(), ADDRESS) == 0)
    }
}

/// udp(host, port) → descriptor that sends there
unsafe extern "C-unwind" fn udp(l: State) -> c_int {
    // SAFETY: plain system calls on our own descriptor.
    unsafe {
        let (fd, address) = inet(l, libc::SOCK_DGRAM);
        socket(l, fd, libc::connect(fd, (&raw const address).cast(), ADDRESS) == 0)
    }
}

/// accept(descriptor) → descriptor
unsafe extern "C-unwind" fn accept(l: State) -> c_int {
    // SAFETY: plain system calls.
    unsafe {
        let fd = libc::accept4(descriptor(l), ptr::null_mut(), ptr::null_mut(), libc::SOCK_CLOEXEC);
        socket(l, fd, fd >= 0)
    }
}

unsafe fn descriptor(l: State) -> c_int {
    // SAFETY: slot 1 may be anything; what is no integer raises.
    unsafe { ffi::luaL_checkinteger(l, 1) as c_int }
}

/// address(descriptor, [of the peer]) → IPv4 address in digits, port
unsafe extern "C-unwind" fn address(l: State) -> c_int {
    // SAFETY: the address is as long as said.
    unsafe {
        let mut address: libc::sockaddr_in = mem::zeroed();
        let mut length = ADDRESS;
        let call = if ffi::lua_toboolean(l, 2) != 0 { libc::getpeername } else { libc::getsockname };
        if call(descriptor(l), (&raw mut address).cast(), &mut length) != 0 {
            return done(l, false);
        }
        let [a, b, c, d] = address.sin_addr.s_addr.to_ne_bytes().map(c_int::from);
        ffi::lua_pushfstring(l, c"%d.%d.%d.%d".as_ptr(), a, b, c, d);
        ffi::lua_pushinteger(l, u16::from_be(address.sin_port) as ffi::lua_Integer);
    }
    2
}

/// wait(descriptor, to write?, seconds) → whether it is ready; negative: for ever
unsafe extern "C-unwind" fn wait(l: State) -> c_int {
    // SAFETY: one pollfd.
    unsafe {
        let events = if ffi::lua_toboolean(l, 2) != 0 { libc::POLLOUT } else { libc::POLLIN };
        let mut poll = libc::pollfd { fd: descriptor(l), events, revents: 0 };
        let seconds = ffi::luaL_checknumber(l, 3);
        let ms = if seconds < 0.0 { -1 } else { (seconds * 1000.0).ceil().min(1e9) as c_int };
        ffi::lua_pushboolean(l, (libc::poll(&mut poll, 1, ms) > 0) as c_int);
    }
    1
}

/// send(descriptor, string, [first byte]) → how many bytes went
unsafe extern "C-unwind" fn send(l: State) -> c_int {
    // SAFETY: the string is on the stack; the offset is kept inside it.
    unsafe {
        let mut length = 0;
        let bytes = ffi::luaL_checklstring(l, 2, &mut length);
        let skip = ((ffi::luaL_optinteger(l, 3, 1) - 1).max(0) as usize).min(length);
        let sent = libc::send(descriptor(l), bytes.add(skip).cast(), length - skip, libc::MSG_NOSIGNAL);
        if sent < 0 {
            return done(l, false);
        }
        ffi::lua_pushinteger(l, sent as ffi::lua_Integer);
    }
    1
}

/// receive(descriptor) → some bytes; none at the end
unsafe extern "C-unwind" fn receive(l: State) -> c_int {
    let mut buffer = [0u8; 65536];
    // SAFETY: the buffer is as long as said.
    unsafe {
        let got = libc::recv(descriptor(l), buffer.as_mut_ptr().cast(), buffer.len(), 0);
        if got < 0 {
            return done(l, false);
        }
        ffi::lua_pushlstring(l, buffer.as_ptr().cast(), got as usize);
    }
    1
}

unsafe extern "C-unwind" fn close(l: State) -> c_int {
    // SAFETY: the descriptor is the caller's.
    unsafe { done(l, libc::close(descriptor(l)) == 0) }
}

/// shutdown(descriptor, [how: 0 receive, 1 send, 2 both])
unsafe extern "C-unwind" fn shutdown(l: State) -> c_int {
    // SAFETY: plain system call.
    unsafe { done(l, libc::shutdown(descriptor(l), ffi::luaL_optinteger(l, 2, 2) as c_int) == 0) }
}
