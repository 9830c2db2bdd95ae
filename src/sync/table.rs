//! A table that threads share: values go in and come out as copies, each key changes in one step.
//!
//! The keys are spread over parts with a lock of their own each, which is held for the length of one look or one
//! change. A part is made when its first key comes, so a small table has few. Threads that use different keys rarely
//! meet, not even on a line of memory, and readers never wait for readers. What walks over all keys goes from part to
//! part: it sees every key that is there all the while, once, and may see or miss one that comes or goes.
//!
//! A table that holds itself, directly or through other tables, is not released before that value is taken out: handles
//! are counted, and nobody looks for circles.
//!
//! Imports its sibling `atomic`, for numbers.

mod key;
mod shard;
mod value;

use std::fmt;

pub use self::key::{Key, KeyRef};
use self::shard::Shard;
pub use self::value::{Short, Value};
use super::Number;
use crate::err;
use crate::error::{Error, Result};
use crate::sys::{ReadGuard, RwLock, SetOnce, WriteGuard};
use crate::wire::Object;

/// Two threads on keys of their own meet in one look of so many, on average.
const SHARDS: usize = 256;

/// The table, shared by its handles.
pub struct Table {
    shards: [SetOnce<RwLock<Shard>>; SHARDS],
}

impl Default for Table {
    fn default() -> Table {
        Table { shards: [const { SetOnce::new() }; SHARDS] }
    }
}

impl Table {
    /// One without keys.
    pub fn new() -> Table {
        Table::default()
    }

    /// Where the part of a key stands.
    #[inline]
    fn place(&self, hash: u64) -> &SetOnce<RwLock<Shard>> {
        // Other bits than those that find the place in the part (the lowest, and the top seven).
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    /// The part of a key, for a look.
    #[inline]
    fn look(&self, hash: u64) -> Option<ReadGuard<'_, Shard>> {
        self.place(hash).get().map(RwLock::read)
    }

    /// The part of a key, for a change.
    #[inline]
    fn change(&self, hash: u64) -> WriteGuard<'_, Shard> {
        self.place(hash).get_or_init(RwLock::default).write()
    }

    /// The parts that have been made.
    fn parts(&self) -> impl Iterator<Item = &RwLock<Shard>> {
        self.shards.iter().filter_map(SetOnce::get)
    }

    /// What `key` holds.
    #[inline]
    pub fn get(&self, key: KeyRef<'_>) -> Option<Value> {
        let hash = key.hash();
        self.look(hash)?.get(hash, key).map(|e| e.value.clone())
    }

    /// Puts `value` under `key`; `None` removes it.
    #[inline]
    pub fn set(&self, key: KeyRef<'_>, value: Option<Value>) -> Result<()> {
        let hash = key.hash();
        let mut shard = self.change(hash);
        if value.is_some() {
            shard.reserve()?;
        }
        let old = shard.put(hash, key, value);
        // What is dropped may be anything, so not under the lock.
        drop(shard);
        drop_replaced(old)
    }

    /// Puts what `f` makes of the value under `key` in its place. No lock is held while `f` runs: if the key was
    /// written meanwhile, nothing is changed and `f` runs again. An error of `f` changes nothing.
    pub fn update(&self, key: KeyRef<'_>, mut f: impl FnMut(Option<Value>) -> Result<Option<Value>>) -> Result<()> {
        let hash = key.hash();
        loop {
            let (old, version) = match self.look(hash).as_ref().and_then(|shard| shard.get(hash, key)) {
                Some(entry) => (Some(entry.value.clone()), Some(entry.version)),
                None => (None, None),
            };
            let new = f(old)?;
            let mut shard = self.change(hash);
            if new.is_some() {
                shard.reserve()?;
            }
            // A key that came and went meanwhile is as absent as it was.
            if shard.get(hash, key).map(|e| e.version) == version {
                let old = shard.put(hash, key, new);
                drop(shard);
                return drop_replaced(old);
            }
        }
    }

    /// Adds `n` to the number under `key` (none is 0) and returns the sum.
    pub fn add(&self, key: KeyRef<'_>, n: Number) -> Result<Number> {
        let hash = key.hash();
        let mut shard = self.change(hash);
        shard.reserve()?;
        let sum = match shard.get(hash, key).map(|e| &e.value) {
            None => n,
            Some(Value::Number(there)) => there.plus(n),
            Some(other) => {
                let kind = other.kind();
                return Err(err!(Argument, "expected a number under the key {key}, found {kind}"));
            }
        };
        // What was there was a number, or nothing.
        let old = shard.put(hash, key, Some(Value::Number(sum)));
        drop(shard);
        drop_replaced(old).map(|()| sum)
    }

    /// Puts `new` under `key` if it holds `old`, by [`Value::equals`]; `None` is no value. If it does not, what it
    /// holds.
    pub fn cas(
        &self,
        key: KeyRef<'_>,
        old: Option<&Value>,
        new: Option<Value>,
    ) -> Result<std::result::Result<(), Option<Value>>> {
        let hash = key.hash();
        let mut shard = self.change(hash);
        if new.is_some() {
            shard.reserve()?;
        }
        let there = shard.get(hash, key).map(|e| &e.value);
        let equal = match (there, old) {
            (None, None) => true,
            (Some(a), Some(b)) => a.equals(b),
            _ => false,
        };
        if !equal {
            return Ok(Err(there.cloned()));
        }
        let gone = shard.put(hash, key, new);
        drop(shard);
        drop_replaced(gone).map(Ok)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.parts().map(|part| part.read().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes everything out, which takes no memory: `each` is given one key and its value after the other.
    pub fn drain(&mut self, mut each: impl FnMut(Key, &Value)) {
        for shard in self.shards.iter_mut().filter_map(SetOnce::get_mut) {
            for entry in shard.get_mut().take() {
                each(entry.key, &entry.value);
                entry.value.drop_deferred();
            }
        }
    }

    /// Bytes of memory that it takes, without what its values refer to.
    pub fn bytes(&self) -> usize {
        let part = |part: &RwLock<Shard>| size_of::<Shard>().next_multiple_of(128) + part.read().bytes();
        size_of::<Table>() + self.parts().map(part).sum::<usize>()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.drain(|_, _| ());
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

impl fmt::Display for Table {
    /// `ipc.sharedtable: 3 keys`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class(), self.state())
    }
}

impl Object for Table {
    fn class(&self) -> &'static str {
        "ipc.sharedtable"
    }

    fn state(&self) -> String {
        match self.len() {
            1 => "1 key".into(),
            n => format!("{n} keys"),
        }
    }

    fn weight(&self) -> usize {
        self.bytes()
    }
}

/// Drops what a [`Shard::put`] gave back.
fn drop_replaced(put: std::result::Result<Option<Value>, Value>) -> Result<()> {
    match put {
        Ok(old) => {
            if let Some(value) = old {
                value.drop_deferred();
            }
            Ok(())
        }
        Err(value) => {
            value.drop_deferred();
            Err(Error::no_memory())
        }
    }
}

/// A walk over the keys of a table, while others may write to it.
#[derive(Debug, Default)]
pub struct Cursor {
    /// The next part.
    shard: usize,
    /// The keys that the current part had when the walk came to it.
    keys: std::vec::IntoIter<Key>,
}

impl Cursor {
    /// The next key of `table`, which must be the same at every call. It may be gone by now.
    pub fn next_key(&mut self, table: &Table) -> Result<Option<Key>> {
        loop {
            if let Some(key) = self.keys.next() {
                return Ok(Some(key));
            }
            let Some(shard) = table.shards.get(self.shard) else { return Ok(None) };
            self.shard += 1;
            if let Some(shard) = shard.get() {
                self.keys = shard.read().keys()?.into_iter();
            }
        }
    }

    /// The next key that is there, and what it holds now.
    pub fn next(&mut self, table: &Table) -> Result<Option<(Key, Value)>> {
        while let Some(key) = self.next_key(table)? {
            if let Some(value) = table.get(key.borrow()) {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
