//! How much room the address space has: before a large block is taken that somebody else has only asked for, and
//! before the stack grows.

/// So much has to be left of an address space that has a limit.
#[cfg(target_os = "linux")]
const LEFT: usize = 32 << 20;

/// Whether a block of `len` bytes would leave room for everything else. Where the address space has no limit it does:
/// what is not touched takes no memory.
#[cfg(target_os = "linux")]
pub fn leaves_room(len: usize) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place to write to.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    if !known || limit.rlim_cur == libc::RLIM_INFINITY {
        return true;
    }
    len.checked_add(LEFT).is_some_and(has_address_space)
}

/// As elsewhere: the allocator will say.
#[cfg(not(target_os = "linux"))]
pub fn leaves_room(_: usize) -> bool {
    true
}

/// Whether the address space has room for `len` bytes more just now.
pub fn has_address_space(len: usize) -> bool {
    // SAFETY: a new mapping, which is unmapped as it came.
    unsafe {
        let probe = libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        probe != libc::MAP_FAILED && libc::munmap(probe, len) == 0
    }
}
