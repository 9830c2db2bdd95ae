//! As src/sys, for loom: its atomics and locks, a modelled futex; no descriptors, no time.

#[path = "../../../../src/sys/fork_gate.rs"]
pub mod fork_gate;
pub mod futex;
#[path = "../../../../src/sys/word_lock.rs"]
pub mod word_lock;

pub use futex::{FutexWait, Scope, futex_wait, futex_wake};

use std::ops::{Deref, DerefMut};
use std::os::fd::RawFd;

use crate::error::Result;

/// loom's, which takes every order that the memory model allows.
pub mod atomic {
    pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
}

/// Appends `item`; memory does not run out here.
pub fn try_push<T>(to: &mut Vec<T>, item: T) -> Result<()> {
    to.push(item);
    Ok(())
}

/// A lock that loom knows; the one of src/sys has a model of its own.
#[derive(Debug)]
pub struct Lock<T>(loom::sync::Mutex<T>);

/// The right to what a [`Lock`] holds.
#[derive(Debug)]
pub struct Guard<'a, T>(loom::sync::MutexGuard<'a, T>);

impl<T> Lock<T> {
    /// `value`, unlocked.
    pub fn new(value: T) -> Lock<T> {
        Lock(loom::sync::Mutex::new(value))
    }

    /// Takes the lock.
    pub fn lock(&self) -> Guard<'_, T> {
        Guard(self.0.lock().expect("a model that panicked has failed"))
    }

    /// The value, where nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect("a model that panicked has failed")
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Lock::new(T::default())
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// One look before the sleep: more would find what one finds.
#[derive(Debug, Default)]
pub struct Spin(bool);

impl Spin {
    /// The pace of one wait.
    pub fn new() -> Spin {
        Spin(false)
    }

    /// Whether to look once more.
    pub fn again(&mut self) -> bool {
        !std::mem::replace(&mut self.0, true)
    }
}

/// Nobody forks.
pub fn fork_generation() -> u32 {
    1
}

/// No time passes.
pub fn monotonic_ns() -> u64 {
    1
}

/// Nobody spins.
pub fn spare_core() -> bool {
    false
}

/// Nobody yields either.
#[derive(Debug)]
pub enum Looking {}

impl Looking {
    /// None: sleep at once.
    pub fn begin() -> Option<Looking> {
        None
    }

    /// Never called.
    pub fn yield_core(&self) -> bool {
        match *self {}
    }
}

// ---- what no model uses --------------------------------------------------------------------------------------------

const NO_PART: &str = "no part of a model";

/// No descriptors here.
#[derive(Debug)]
pub enum Event {}

#[allow(missing_docs)]
impl Event {
    pub fn new() -> Result<Event> {
        unreachable!("{NO_PART}")
    }
    pub fn fd(&self) -> Result<RawFd> {
        match *self {}
    }
    pub fn is_ours(&self) -> bool {
        match *self {}
    }
    pub fn set(&self) {
        match *self {}
    }
    pub fn clear(&self) {
        match *self {}
    }
}
