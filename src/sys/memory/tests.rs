#![allow(clippy::unwrap_used)]

use std::alloc::Layout;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::reserve::{Arena, LARGEST};

fn arena() -> Box<Arena> {
    Box::new(Arena::new())
}

#[test]
fn blocks_are_apart_aligned_and_come_back() {
    let arena = arena();
    for (size, align) in [(1, 1), (64, 64), (65, 8), (500, 512), (513, 1), (2048, 16), (2049, 4096), (LARGEST, 16)] {
        let layout = Layout::from_size_align(size, align).unwrap();
        let mut seen = BTreeSet::new();
        loop {
            let block = arena.take(layout);
            if block.is_null() {
                break;
            }
            assert_eq!(block as usize % align, 0);
            // SAFETY: the block has this size.
            unsafe { block.write_bytes(0xA5, size) };
            let (before, after) = (seen.range(..block as usize).next_back(), seen.range(block as usize..).next());
            assert!(
                before.is_none_or(|b| b + size <= block as usize) && after.is_none_or(|a| block as usize + size <= *a)
            );
            seen.insert(block as usize);
        }
        assert!(seen.len() >= 24);
        // SAFETY: each was taken above.
        seen.into_iter().for_each(|block| unsafe { arena.give_back(block as *mut u8) });
        assert_eq!(arena.bytes_taken(), 0);
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let arena = arena();
    assert!(arena.take(Layout::from_size_align(LARGEST + 1, 1).unwrap()).is_null());
    assert!(arena.take(Layout::from_size_align(8, 8192).unwrap()).is_null());
    assert_eq!(arena.bytes_taken(), 0);
}

#[test]
fn threads_never_share_a_block() {
    let arena = arena();
    std::thread::scope(|scope| {
        for mark in 1..=4u8 {
            let arena = &arena;
            scope.spawn(move || {
                let layout = Layout::from_size_align(60, 8).unwrap();
                for _ in 0..200 {
                    let mine: Vec<_> = (0..300).map(|_| arena.take(layout)).filter(|b| !b.is_null()).collect();
                    // SAFETY: each block has 60 bytes, and nobody else has it.
                    unsafe {
                        mine.iter().for_each(|b| b.write_bytes(mark, 60));
                        assert!(mine.iter().all(|b| (0..60).all(|i| b.add(i).read() == mark)));
                        mine.iter().for_each(|b| arena.give_back(*b));
                    }
                }
            });
        }
    });
    assert_eq!(arena.bytes_taken(), 0);
}

proptest! {
    #[test]
    fn nothing_is_lost_or_given_twice(steps in prop::collection::vec((any::<bool>(), 1usize..20_000), 1..400)) {
        let arena = arena();
        let mut held: Vec<(*mut u8, usize, u8)> = Vec::new();
        for (n, (take, size)) in steps.into_iter().enumerate() {
            if take {
                let block = arena.take(Layout::from_size_align(size, 8).unwrap());
                if !block.is_null() {
                    // SAFETY: the block has this size.
                    unsafe { block.write_bytes(n as u8, size) };
                    held.push((block, size, n as u8));
                }
            } else if !held.is_empty() {
                let (block, size, mark) = held.swap_remove(size % held.len());
                // SAFETY: taken above, with this size.
                unsafe {
                    prop_assert!((0..size).all(|i| block.add(i).read() == mark));
                    arena.give_back(block);
                }
            }
        }
        // SAFETY: as above.
        held.drain(..).for_each(|(block, ..)| unsafe { arena.give_back(block) });
        prop_assert_eq!(arena.bytes_taken(), 0);
    }
}
