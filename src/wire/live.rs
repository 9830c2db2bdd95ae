//! What is alive: the objects that Lua states hold or that lie in messages, for a report of them.
//!
//! An object is entered when the first handle of it is made, at the price of one entry in a table; it leaves by itself,
//! since the table keeps nothing alive. Plain data, messages and tensors are not in it. Imports its sibling
//! `deferred_drop`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::Object;
use super::deferred_drop::drop_object;
use crate::error::{Error, Result};
use crate::sys::{Lock, SetOnce};

/// Parts of the table, each with a lock of its own: handles are made by many threads.
const SHARDS: usize = 16;

/// Entries of what is gone are swept out when there are this many, or twice as many as were alive after the last sweep.
const FEW: usize = 64;

#[derive(Default)]
struct Shard {
    /// By address: an entry keeps the address taken, if not the object alive.
    entries: HashMap<usize, Entry>,
    sweep_at: usize,
}

struct Entry {
    number: u64,
    object: Weak<dyn Object>,
}

fn shards() -> &'static [Lock<Shard>; SHARDS] {
    static TABLE: SetOnce<[Lock<Shard>; SHARDS]> = SetOnce::new();
    TABLE.get_or_init(Default::default)
}

/// What tells an object from all others while it lives.
pub fn identity(object: &Arc<dyn Object>) -> usize {
    Arc::as_ptr(object).cast::<()>().addr()
}

/// Enters `object`, if it is not entered yet. `[limit]` where there is no memory for the entry.
pub fn remember(object: &Arc<dyn Object>) -> Result<()> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let key = identity(object);
    // The low bits are the same for all.
    let mut shard = shards()[(key >> 6) % SHARDS].lock();
    if shard.entries.contains_key(&key) {
        return Ok(());
    }
    // A table that cannot grow may be full of what is gone.
    if shard.entries.len() >= shard.sweep_at || shard.entries.try_reserve(1).is_err() {
        shard.entries.retain(|_, entry| entry.object.strong_count() > 0);
        shard.sweep_at = FEW.max(2 * shard.entries.len());
    }
    shard.entries.try_reserve(1).map_err(|_| Error::no_memory())?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    shard.entries.insert(key, Entry { number, object: Arc::downgrade(object) });
    Ok(())
}

/// Calls `look` with each object that is alive, and its number: objects have theirs in the order in which they were
/// made. `[limit]` where there is no memory for a list of them.
pub fn each_live(mut look: impl FnMut(u64, &Arc<dyn Object>)) -> Result<()> {
    let mut found = Vec::new();
    for shard in shards() {
        let shard = shard.lock();
        let alive = || shard.entries.values().filter(|entry| entry.object.strong_count() > 0);
        found.try_reserve(alive().count()).map_err(|_| Error::no_memory())?;
        found.extend(alive().map(|entry| (entry.number, entry.object.clone())));
    }
    found.sort_unstable_by_key(|(number, _)| *number);
    for (number, object) in found {
        // One at a time, and no lock held: this may be what keeps it alive last.
        if let Some(object) = object.upgrade() {
            look(number, &object);
            drop_object(object);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug)]
    struct Thing(#[allow(dead_code)] u64);

    impl Object for Thing {
        fn class(&self) -> &'static str {
            "ipc.thing"
        }
    }

    fn things() -> Vec<u64> {
        let mut found = Vec::new();
        each_live(|number, object| {
            if object.class() == "ipc.thing" {
                found.push(number);
            }
        })
        .unwrap();
        found
    }

    #[test]
    fn what_is_entered_is_there_once_and_as_long_as_it_lives() {
        let thing = |n| -> Arc<dyn Object> { Arc::new(Thing(n)) };
        let (a, b) = (thing(1), thing(2));
        for object in [&a, &b, &a, &b, &a] {
            remember(object).unwrap();
        }
        let both = things();
        assert_eq!(both.len(), 2);
        assert!(both[0] < both[1]);
        drop(a);
        assert_eq!(things(), both[1..]);
        // Many come and go, in several threads: the table does not grow with them.
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..10_000).for_each(|n| remember(&thing(n)).unwrap()));
            }
        });
        assert!(shards().iter().map(|shard| shard.lock().entries.len()).sum::<usize>() <= 2 * SHARDS * FEW);
        assert_eq!(things(), both[1..]);
        drop(b);
        assert!(things().is_empty());
    }
}
