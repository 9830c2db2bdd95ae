//! A full memory fence on every thread of the process, by the kernel: `membarrier(2)`.

/// As in `linux/membarrier.h`.
#[cfg(target_os = "linux")]
const PRIVATE_EXPEDITED: i32 = 1 << 3;
#[cfg(target_os = "linux")]
const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;

#[cfg(target_os = "linux")]
fn membarrier(command: i32) -> bool {
    // SAFETY: takes numbers, and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Asks for [`barrier_everywhere`] to be possible; false where it is not (Linux has it since 4.14). A child of a fork
/// asks anew.
#[cfg(target_os = "linux")]
pub fn register_barrier() -> bool {
    membarrier(REGISTER_PRIVATE_EXPEDITED)
}

/// Each thread of this process executes a full memory fence between the call and its return. False: it could not be
/// done.
#[cfg(target_os = "linux")]
pub fn barrier_everywhere() -> bool {
    membarrier(PRIVATE_EXPEDITED)
}

/// There is none.
#[cfg(not(target_os = "linux"))]
pub fn register_barrier() -> bool {
    false
}

/// There is none.
#[cfg(not(target_os = "linux"))]
pub fn barrier_everywhere() -> bool {
    false
}
