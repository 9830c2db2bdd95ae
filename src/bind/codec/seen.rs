//! Which objects a message holds already, by address.

use std::collections::{HashMap, TryReserveError};
use std::hash::{BuildHasherDefault, Hasher};

/// Spreads addresses: they are aligned, so the low bits say little.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_usize(*b as usize);
        }
    }
    fn write_usize(&mut self, n: usize) {
        let mixed = (self.0 ^ n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// So many need no memory.
pub(super) const FEW: usize = 16;

/// Addresses in order of first appearance. A few are searched in place, so that a small message allocates nothing.
#[derive(Debug)]
pub(super) struct Seen {
    few: [usize; FEW],
    count: u32,
    many: Option<HashMap<usize, u32, BuildHasherDefault<AddressHasher>>>,
}

impl Seen {
    pub(super) fn new() -> Self {
        Seen { few: [0; FEW], count: 0, many: None }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The number of `address`, if it has one.
    pub(super) fn find(&self, address: usize) -> Option<u32> {
        match &self.many {
            Some(many) if self.count as usize > FEW => many.get(&address).copied(),
            _ => self.few[..FEW.min(self.count as usize)].iter().position(|a| *a == address).map(|i| i as u32),
        }
    }

    /// Forgets all but the first `count`.
    pub(super) fn keep(&mut self, count: u32) {
        self.count = count;
        if count as usize <= FEW {
            self.many = None;
        } else if let Some(many) = &mut self.many {
            many.retain(|_, number| *number < count);
        }
    }

    /// Gives a number to an object that nobody will ask for.
    pub(super) fn skip(&mut self) {
        if let Some(few) = self.few.get_mut(self.count as usize) {
            *few = 0;
        }
        self.count += 1;
    }

    /// The number of `address` if it was seen before; otherwise it gets the next one.
    #[inline]
    pub(super) fn number(&mut self, address: usize) -> Result<Option<u32>, TryReserveError> {
        let n = self.count as usize;
        if n < FEW {
            if let Some(i) = self.few[..n].iter().position(|a| *a == address) {
                return Ok(Some(i as u32));
            }
            self.few[n] = address;
            self.count += 1;
            return Ok(None);
        }
        let many = self.many.get_or_insert_with(|| self.few.iter().copied().zip(0..).collect());
        many.try_reserve(1)?;
        Ok(match many.entry(address) {
            std::collections::hash_map::Entry::Occupied(found) => Some(*found.get()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(self.count);
                self.count += 1;
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_gets_a_new_number() {
        for kept in [0, 5, FEW as u32, 20, 60] {
            let mut seen = Seen::new();
            for i in 0..60 {
                assert_eq!(seen.number(0x1000 + i), Ok(None));
            }
            seen.keep(kept);
            for i in (0..60).rev() {
                let expected = (i < kept as usize).then_some(i as u32);
                assert_eq!(seen.find(0x1000 + i), expected);
                assert_eq!(seen.number(0x1000 + i), Ok(expected));
            }
            assert_eq!(seen.count(), 60);
            assert_eq!(seen.number(0x1000 + 59), Ok(Some(kept.min(59))));
        }
    }

    #[test]
    fn addresses_keep_their_numbers_past_the_first_few() {
        let mut seen = Seen::new();
        for round in 0..2 {
            for i in 0..1000u32 {
                assert_eq!(seen.number(0x1000 + 16 * i as usize), Ok((round == 1).then_some(i)));
            }
        }
    }
}
