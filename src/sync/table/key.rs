//! Keys: strings, booleans and numbers, by Lua's equality.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::error::Result;
use crate::sys::{SetOnce, SharedBytes};
use crate::wire::field_path;

/// A key as a table keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// An integer, or a float that is one.
    Integer(i64),
    /// The bits of any other float but NaN.
    Float(u64),
    /// true or false
    Boolean(bool),
    /// A byte string.
    String(SharedBytes),
}

/// A key as it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRef<'a> {
    /// As [`Key::Integer`].
    Integer(i64),
    /// As [`Key::Float`]; made by [`KeyRef::float`].
    Float(u64),
    /// As [`Key::Boolean`].
    Boolean(bool),
    /// As [`Key::String`].
    String(&'a [u8]),
}

impl Key {
    /// For a look.
    pub fn borrow(&self) -> KeyRef<'_> {
        match self {
            Key::Integer(n) => KeyRef::Integer(*n),
            Key::Float(bits) => KeyRef::Float(*bits),
            Key::Boolean(b) => KeyRef::Boolean(*b),
            Key::String(s) => KeyRef::String(s),
        }
    }

    /// Bytes of memory beside the key itself.
    pub(super) fn heap(&self) -> usize {
        match self {
            Key::String(s) => s.len() + SharedBytes::OVERHEAD,
            _ => 0,
        }
    }
}

impl<'a> KeyRef<'a> {
    /// The key that the number `x` is: 1.0 is 1, as in Lua. `None` for NaN, which is no key.
    pub fn float(x: f64) -> Option<KeyRef<'a>> {
        if x.is_nan() {
            return None;
        }
        let whole = x.floor() == x && (-9223372036854775808.0..9223372036854775808.0).contains(&x);
        Some(if whole { KeyRef::Integer(x as i64) } else { KeyRef::Float(x.to_bits()) })
    }

    /// For keeping.
    pub fn keep(self) -> Result<Key> {
        Ok(match self {
            KeyRef::Integer(n) => Key::Integer(n),
            KeyRef::Float(bits) => Key::Float(bits),
            KeyRef::Boolean(b) => Key::Boolean(b),
            KeyRef::String(s) => Key::String(SharedBytes::new(s)?),
        })
    }

    /// Spreads keys over all bits. Strangers may choose keys, so each process spreads them in its own way.
    #[inline]
    pub(super) fn hash(self) -> u64 {
        static SEED: SetOnce<u64> = SetOnce::new();
        let seed = *SEED.get_or_init(|| RandomState::new().build_hasher().finish());
        match self {
            KeyRef::Integer(n) => fold(n as u64 ^ seed, A),
            KeyRef::Float(bits) => fold(bits ^ seed, B),
            KeyRef::Boolean(b) => fold(u64::from(b) ^ seed, C),
            KeyRef::String(s) => {
                let (words, rest) = s.as_chunks::<8>();
                let mut hash = fold(seed ^ s.len() as u64, C);
                for word in words {
                    hash = fold(hash ^ u64::from_le_bytes(*word), A);
                }
                let mut last = [0; 8];
                last[..rest.len()].copy_from_slice(rest);
                fold(hash ^ u64::from_le_bytes(last), B)
            }
        }
    }
}

// Odd numbers without a pattern: digits of pi.
const A: u64 = 0x243f_6a88_85a3_08d3;
const B: u64 = 0x1319_8a2e_0370_7345;
const C: u64 = 0xa409_3822_299f_31d1;

/// The two halves of a product of 128 bits, in one.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl fmt::Display for KeyRef<'_> {
    /// As a part of a path: `.name`, `["a b"]`, `[3]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyRef::Integer(n) => write!(f, "[{n}]"),
            KeyRef::Float(bits) => write!(f, "[{}]", f64::from_bits(*bits)),
            KeyRef::Boolean(b) => write!(f, "[{b}]"),
            KeyRef::String(s) => f.write_str(&field_path(s)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_are_the_same_key_when_they_are_equal() {
        for (x, n) in [(1.0, 1), (-0.0, 0), (-9223372036854775808.0, i64::MIN), (9007199254740992.0, 1 << 53)] {
            assert_eq!(KeyRef::float(x), Some(KeyRef::Integer(n)));
        }
        for x in [0.5, f64::INFINITY, -1e300, 9223372036854775808.0] {
            assert_eq!(KeyRef::float(x), Some(KeyRef::Float(x.to_bits())));
        }
        assert_eq!(KeyRef::float(f64::NAN), None);
    }

    #[test]
    fn keys_that_look_alike_spread() {
        let numbers = (0..1000).map(|n| KeyRef::Integer(n << 32).hash());
        let names: Vec<_> = (0..1000).map(|n| format!("some prefix {n}")).collect();
        let all: HashSet<_> = numbers.chain(names.iter().map(|n| KeyRef::String(n.as_bytes()).hash())).collect();
        assert_eq!(all.len(), 2000);
        // In the low bits and in the high ones, which find the place in a table.
        for shift in [0, 57] {
            let places: HashSet<_> = all.iter().map(|hash| hash >> shift & 0x7f).collect();
            assert_eq!(places.len(), 128);
        }
    }

    proptest! {
        #[test]
        fn a_key_that_is_kept_is_found(bytes: Vec<u8>, x: f64) {
            let string = KeyRef::String(&bytes);
            let kept = string.keep().unwrap();
            prop_assert_eq!(kept.borrow(), string);
            prop_assert_eq!(kept.borrow().hash(), string.hash());
            if let Some(key) = KeyRef::float(x) {
                let kept = key.keep().unwrap();
                prop_assert_eq!(kept.borrow(), key);
            }
        }
    }
}
