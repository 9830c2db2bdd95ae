//! A part of a table: the keys that one lock guards. Imports its siblings `key` and `value`.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;

use super::key::{Key, KeyRef};
use super::value::Value;
use crate::err;
use crate::error::Result;

/// A key and what it holds.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: Key,
    pub value: Value,
    /// Differs after every write to this key.
    pub version: u64,
}

/// The keys of one part. Hashes are the caller's, who needs them to find the part.
#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: HashTable<Entry>,
    /// How many writes there were: the version of the last one.
    writes: u64,
    /// Bytes that keys and values take beside the table of entries.
    heap: usize,
}

fn hash(entry: &Entry) -> u64 {
    entry.key.borrow().hash()
}

impl Shard {
    #[inline]
    pub fn get(&self, hash: u64, key: KeyRef<'_>) -> Option<&Entry> {
        self.entries.find(hash, |e| e.key.borrow() == key)
    }

    /// Room for one more entry, so that `put` finds it; `[limit]` when there is no memory.
    #[inline]
    pub fn reserve(&mut self) -> Result<()> {
        if self.entries.len() < self.entries.capacity() {
            return Ok(());
        }
        let keys = self.entries.len();
        self.entries.try_reserve(1, hash).map_err(|_| err!(Limit, "not enough memory for more than {keys} keys"))
    }

    /// Puts `value` in the place of what is there, which it returns; `None` removes the key. Call `reserve` first.
    /// Where there is no memory for the key nothing changes, and `value` comes back as the error.
    #[inline]
    pub fn put(&mut self, at: u64, key: KeyRef<'_>, value: Option<Value>) -> std::result::Result<Option<Value>, Value> {
        self.writes += 1;
        let version = self.writes;
        let Some(value) = value else {
            let Ok(there) = self.entries.find_entry(at, |e| e.key.borrow() == key) else { return Ok(None) };
            let (gone, _) = there.remove();
            self.heap -= gone.key.heap() + gone.value.heap();
            return Ok(Some(gone.value));
        };
        let bytes = value.heap();
        match self.entries.entry(at, |e| e.key.borrow() == key, hash) {
            Place::Occupied(mut there) => {
                let entry = there.get_mut();
                entry.version = version;
                let old = std::mem::replace(&mut entry.value, value);
                self.heap += bytes;
                self.heap -= old.heap();
                Ok(Some(old))
            }
            Place::Vacant(free) => {
                let Ok(key) = key.keep() else { return Err(value) };
                self.heap += key.heap() + bytes;
                free.insert(Entry { key, value, version });
                Ok(None)
            }
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of memory that it takes beside itself.
    pub fn bytes(&self) -> usize {
        self.entries.allocation_size() + self.heap
    }

    /// All keys, as they are now; `[limit]` when there is no memory for the list.
    pub fn keys(&self) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        let count = self.entries.len();
        keys.try_reserve_exact(count).map_err(|_| err!(Limit, "not enough memory for a list of {count} keys"))?;
        keys.extend(self.entries.iter().map(|e| e.key.clone()));
        Ok(keys)
    }

    /// Takes everything out.
    pub fn take(&mut self) -> HashTable<Entry> {
        self.heap = 0;
        std::mem::take(&mut self.entries)
    }
}
