//! A number that threads change one at a time.

use std::fmt;

use crate::sys::Lock;
use crate::wire::Object;

/// A number as Lua 5.3+ knows it; where Lua has no integers, all are floats.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// An integer; wraps round.
    Integer(i64),
    /// A float.
    Float(f64),
}

impl Number {
    /// The value as a float.
    pub fn float(self) -> f64 {
        match self {
            Number::Integer(n) => n as f64,
            Number::Float(x) => x,
        }
    }

    /// Lua's `+`.
    pub fn plus(self, other: Number) -> Number {
        match (self, other) {
            (Number::Integer(a), Number::Integer(b)) => Number::Integer(a.wrapping_add(b)),
            (a, b) => Number::Float(a.float() + b.float()),
        }
    }

    /// Lua's `==`: by mathematical value; NaN equals nothing.
    pub fn equals(self, other: Number) -> bool {
        match (self, other) {
            (Number::Integer(a), Number::Integer(b)) => a == b,
            (Number::Float(a), Number::Float(b)) => a == b,
            (Number::Integer(n), Number::Float(x)) | (Number::Float(x), Number::Integer(n)) => {
                // The float must be a whole number that an i64 holds exactly.
                x.floor() == x && (-9223372036854775808.0..9223372036854775808.0).contains(&x) && x as i64 == n
            }
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Integer(n) => n.fmt(f),
            Number::Float(x) => x.fmt(f),
        }
    }
}

/// The cell that holds it. The lock is never held for longer than a few instructions.
#[derive(Debug)]
pub struct Atomic(Lock<Number>);

impl Atomic {
    /// A cell that holds `n`.
    pub fn new(n: Number) -> Atomic {
        Atomic(Lock::new(n))
    }

    /// What it holds now.
    pub fn get(&self) -> Number {
        *self.0.lock()
    }

    /// Puts `n` in and returns what was there.
    pub fn set(&self, n: Number) -> Number {
        std::mem::replace(&mut *self.0.lock(), n)
    }

    /// Adds `n` and returns the sum.
    pub fn add(&self, n: Number) -> Number {
        let mut cell = self.0.lock();
        *cell = cell.plus(n);
        *cell
    }

    /// Puts `new` in if it holds `old`. Whether it did, and what it holds after.
    pub fn cas(&self, old: Number, new: Number) -> (bool, Number) {
        let mut cell = self.0.lock();
        let same = cell.equals(old);
        if same {
            *cell = new;
        }
        (same, *cell)
    }
}

impl Object for Atomic {
    fn class(&self) -> &'static str {
        "ipc.atomic"
    }

    fn state(&self) -> String {
        self.get().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_many_threads_are_not_lost() {
        let cell = Atomic::new(Number::Integer(0));
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..10_000).for_each(|_| _ = cell.add(Number::Integer(1))));
            }
        });
        assert!(cell.get().equals(Number::Integer(40_000)));
    }

    #[test]
    fn numbers_are_equal_as_in_lua() {
        let max = Number::Integer(i64::MAX);
        assert!(Number::Integer(1).equals(Number::Float(1.0)));
        assert!(!max.equals(Number::Float(i64::MAX as f64)), "2^63 is not 2^63 - 1");
        assert!(!Number::Float(f64::NAN).equals(Number::Float(f64::NAN)));
        assert!(max.plus(Number::Integer(1)).equals(Number::Integer(i64::MIN)));
    }

    #[test]
    fn a_swap_happens_only_from_the_expected_value() {
        let cell = Atomic::new(Number::Float(1.0));
        assert!(!cell.cas(Number::Float(2.0), Number::Float(3.0)).0);
        assert!(cell.cas(Number::Integer(1), Number::Float(3.0)).0);
        assert!(cell.set(Number::Integer(4)).equals(Number::Float(3.0)));
    }
}
