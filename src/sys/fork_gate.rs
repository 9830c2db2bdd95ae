//! The protocol between threads in critical sections and a fork: words only, so that it can be model-checked.
//!
//! Each thread counts in a word of its own, its depth, how many critical sections it is in. All share one word, the
//! gate, which counts the forks that are going on. A thread raises its depth, then looks at the gate; a fork raises the
//! gate, then looks at the depths. With a full fence between the two steps on both sides at least one sees the other:
//! either the thread finds the gate closed and steps back, or the fork finds the thread inside and waits.
//!
//! A full fence at each entry would cost as much as the lock behind it. So the entering thread has a compiler's fence
//! only, and the fork has the kernel execute a full one on every thread of the process (`membarrier`). That one falls
//! on some place of the thread's program order. If it falls behind the raised depth, the fork sees the depth; if it
//! falls before it, the look at the gate comes later still, and sees the gate closed. While [`FENCED`] is set in the
//! gate, which is so where the kernel has no such call, `enter` fails and `enter_fenced` makes the fence itself.
//!
//! `leave` releases and `is_inside` acquires: a fork that finds a thread outside has everything that the thread changed
//! inside.
//!
//! Imports its sibling `atomic`.

use std::sync::atomic::compiler_fence;

use super::atomic::{AtomicU32, Ordering, fence};

/// In the gate: who enters makes a full fence.
pub const FENCED: u32 = 1 << 31;
/// In the gate: this process was forked while another thread was inside. Nobody enters any more.
pub const TORN: u32 = 1 << 30;
/// The rest of the gate: how many forks are going on.
pub const FORKS: u32 = TORN - 1;

/// Enters if the gate is plainly open: no bit of it is set.
#[inline]
pub fn enter(gate: &AtomicU32, depth: &AtomicU32) -> bool {
    let before = depth.load(Ordering::Relaxed);
    depth.store(before + 1, Ordering::Relaxed);
    // The processor's fence is the fork's business.
    compiler_fence(Ordering::SeqCst);
    if gate.load(Ordering::Acquire) == 0 {
        return true;
    }
    depth.store(before, Ordering::Release);
    false
}

/// Enters if no fork is going on, with a fence of its own.
pub fn enter_fenced(gate: &AtomicU32, depth: &AtomicU32) -> bool {
    let before = depth.load(Ordering::Relaxed);
    depth.store(before + 1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if gate.load(Ordering::Acquire) & (FORKS | TORN) == 0 {
        return true;
    }
    depth.store(before, Ordering::Release);
    false
}

/// Leaves what was entered last.
#[inline]
pub fn leave(depth: &AtomicU32) {
    depth.store(depth.load(Ordering::Relaxed) - 1, Ordering::Release);
}

/// Before a fork: from now on nobody enters. Whether the caller has to make the fence for those who enter without one.
pub fn close(gate: &AtomicU32) -> bool {
    let before = gate.fetch_add(1, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    before & FENCED == 0
}

/// Whether a thread is in a critical section; asked after `close`, and after the fence that it may have called for.
pub fn is_inside(depth: &AtomicU32) -> bool {
    depth.load(Ordering::Acquire) != 0
}

/// After a fork: takes one `close` back. Whether it was the last.
pub fn open(gate: &AtomicU32) -> bool {
    gate.fetch_sub(1, Ordering::SeqCst) & FORKS == 1
}
