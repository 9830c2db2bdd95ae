//! Letting go of what messages hold that nobody will read.
//!
//! An object may hold messages that hold objects, which raises two questions. A long chain of them must not be dropped
//! one inside the other, or the stack runs out: what comes to be dropped while something is dropped waits in a list.
//! And an object may lie in its own messages, or two in each other's: counts of references alone would never let go of
//! them. So when a Lua state lets go of an object that has objects in its messages, or a message with such an object
//! goes unread, we look for circles that nothing holds but themselves, and empty their queues.
//!
//! Imports its siblings `message` and `queue`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::{Attachment, Object};
use crate::sys::Lock;

/// How many Lua states hold an object that messages wait in. They say so by [`Handles::enter`] and [`leave`].
#[derive(Debug, Default)]
pub struct Handles(AtomicUsize);

impl Handles {
    /// One more.
    pub fn enter(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn are_none(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

/// A Lua state that had entered lets go of `object`.
pub fn leave(object: Arc<dyn Object>) {
    if let Some(inside) = object.inside() {
        inside.handles.0.fetch_sub(1, Ordering::SeqCst);
    }
    drop_object(object);
}

/// Drops a reference that may be the last, or the last but those of a circle.
pub(super) fn drop_object(object: Arc<dyn Object>) {
    if object.inside().is_some_and(|inside| inside.queues().any(|queue| queue.holds_objects())) {
        drop_deferred(vec![Attachment::Object(object)]);
    }
}

thread_local! {
    /// What is to be dropped, while something is. Without a destructor, for which the C library would take memory:
    /// [`End`] leaves nothing there.
    static WAITING: RefCell<Option<ManuallyDrop<Vec<Attachment>>>> = const { RefCell::new(None) };
}

/// As [`crate::wait::prepare_thread`], for the thread-locals of this layer.
pub fn prepare_thread() {
    let _ = WAITING.try_with(|_| ());
}

/// Drops what messages held.
pub fn drop_deferred(attachments: Vec<Attachment>) {
    let mut attachments = Some(attachments);
    let first = WAITING.try_with(|waiting| match &mut *waiting.borrow_mut() {
        // Where there is no memory for them they are dropped here and now, one inside the other.
        Some(list) => {
            let more = attachments.as_ref().map_or(0, Vec::len);
            if list.try_reserve(more).is_ok() {
                list.extend(attachments.take().into_iter().flatten());
            }
            false
        }
        none => {
            *none = attachments.take().map(ManuallyDrop::new);
            true
        }
    });
    if first != Ok(true) {
        return;
    }
    let _end = End;
    // The list is not borrowed while something is dropped, which may add to it.
    while let Some(attachment) = WAITING.with(|w| w.borrow_mut().as_mut().and_then(|list| list.pop())) {
        match attachment {
            Attachment::Object(object) if object.inside().is_some() => {
                // Dropped before the next one looks, who would take this reference for somebody's.
                let _searching = searching().lock();
                open_circles(&object);
                drop(object);
            }
            other => drop(other),
        }
    }
}

/// The list goes with the call that began it.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        drop(WAITING.with(|waiting| waiting.borrow_mut().take()).map(ManuallyDrop::into_inner));
    }
}

/// One at a time looks for circles.
fn searching() -> &'static Lock<()> {
    static SEARCHING: AtomicPtr<Lock<()>> = AtomicPtr::new(ptr::null_mut());
    let there = SEARCHING.load(Ordering::Acquire);
    // SAFETY: null, or what was leaked below.
    if let Some(lock) = unsafe { there.as_ref() } {
        return lock;
    }
    let new = Box::into_raw(Box::new(Lock::new(())));
    match SEARCHING.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: just leaked.
        Ok(_) => unsafe { &*new },
        Err(there) => {
            // SAFETY: `new` came from `Box::into_raw` and nobody else has seen it; `there` was leaked by another
            // thread.
            unsafe {
                drop(Box::from_raw(new));
                &*there
            }
        }
    }
}

/// Empties the queues of `object`, which the caller holds once, and of what it leads to, as far as nothing holds them
/// but each other's messages.
fn open_circles(object: &Arc<dyn Object>) {
    let Some(inside) = object.inside() else { return };
    if Arc::strong_count(object) == 1 || !inside.handles.are_none() || !inside.queues().any(|q| q.holds_objects()) {
        return;
    }
    for garbage in unreachable_from(object) {
        garbage.inside().into_iter().flat_map(|inside| inside.queues()).for_each(|queue| queue.clear());
    }
}

/// Larger circles are not looked for: who lets go of the last of a long chain, link by link, would go through all of it
/// each time.
const MOST: usize = 64;

/// What a thread holds besides messages keeps alive what it leads to. The rest of all that `object` leads to.
fn unreachable_from(object: &Arc<dyn Object>) -> Vec<Arc<dyn Object>> {
    let address = |o: &Arc<dyn Object>| Arc::as_ptr(o).cast::<()>();
    let mut found = vec![object.clone()];
    let mut number = HashMap::from([(address(object), 0)]);
    // What a Lua state holds is left out: its references then count as somebody's.
    let mut at = 0;
    while let Some(here) = found.get(at).cloned() {
        for queue in here.inside().into_iter().flat_map(|inside| inside.queues()) {
            queue.hold().look(|attachment| {
                if let Attachment::Object(inner) = attachment
                    && inner.inside().is_some_and(|inside| inside.handles.are_none())
                {
                    number.entry(address(inner)).or_insert_with(|| {
                        found.push(inner.clone());
                        found.len() - 1
                    });
                }
                found.len() <= MOST
            });
        }
        if found.len() > MOST {
            return Vec::new();
        }
        at += 1;
    }
    // All at once now, so that no message changes its place while they are counted. Where the counts say that an object
    // is held from here alone, nobody can come by it later but through these messages.
    let queues: Vec<_> = (0..)
        .zip(&found)
        .flat_map(|(n, o)| {
            o.inside().into_iter().flat_map(|inside| inside.queues()).map(move |queue| (n, queue.hold()))
        })
        .collect();
    // A bit for each object: there are at most MOST.
    let mut leads_to = vec![0u64; found.len()];
    let mut counts = vec![1; found.len()];
    counts[0] += 1; // the caller's
    for (from, queue) in &queues {
        queue.look(|attachment| {
            if let Attachment::Object(inner) = attachment
                && let Some(&to) = number.get(&address(inner))
            {
                counts[to] += 1;
                leads_to[*from] |= 1 << to;
            }
            true
        });
    }
    let held = (0..found.len()).filter(|&n| Arc::strong_count(&found[n]) > counts[n]);
    let (mut alive, mut reached) = (0u64, held.fold(0u64, |set, n| set | 1 << n));
    while reached != alive {
        let n = (reached & !alive).trailing_zeros() as usize;
        alive |= 1 << n;
        reached |= leads_to[n];
    }
    drop(queues);
    let mut n = 0..;
    found.retain(|_| n.next().is_some_and(|n| alive & 1 << n == 0));
    found
}

#[cfg(test)]
mod tests {
    use super::super::{Inside, Message, Push, Queue};
    use super::*;

    /// An object with a queue inside, that counts those alive.
    #[derive(Debug)]
    struct Room {
        queue: Queue,
        handles: Handles,
        alive: Arc<AtomicUsize>,
    }

    impl Room {
        fn new(alive: &Arc<AtomicUsize>) -> Arc<Room> {
            alive.fetch_add(1, Ordering::SeqCst);
            let room = Room { queue: Queue::new(None), handles: Handles::default(), alive: alive.clone() };
            room.handles.enter();
            Arc::new(room)
        }

        fn put(&self, what: &Arc<Room>) {
            let attachments = vec![Attachment::Object(what.clone())];
            assert_eq!(self.queue.push_all(&mut [Message { attachments, ..Message::default() }]), Push::Done);
        }
    }

    impl Drop for Room {
        fn drop(&mut self) {
            self.alive.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Object for Room {
        fn class(&self) -> &'static str {
            "room"
        }
        fn inside(&self) -> Option<Inside<'_>> {
            Some(Inside { handles: &self.handles, queues: [Some(&self.queue), None] })
        }
    }

    fn alive(count: &Arc<AtomicUsize>) -> usize {
        count.load(Ordering::SeqCst)
    }

    #[test]
    fn an_object_in_its_own_messages_goes_with_its_last_holder() {
        let count = Arc::default();
        let room = Room::new(&count);
        room.put(&room);
        room.put(&room);
        let other = room.clone();
        other.handles.enter();
        leave(room);
        assert_eq!(alive(&count), 1, "somebody holds it");
        leave(other);
        assert_eq!(alive(&count), 0);
    }

    #[test]
    fn objects_in_each_others_messages_go_and_what_they_lead_to() {
        let count = Arc::default();
        let rooms: Vec<_> = (0..5).map(|_| Room::new(&count)).collect();
        for (i, room) in rooms.iter().enumerate() {
            room.put(&rooms[(i + 1) % 5]);
            room.put(&rooms[(i + 3) % 5]);
            let leaf = Room::new(&count);
            room.put(&leaf);
            leave(leaf);
        }
        assert_eq!(alive(&count), 10);
        rooms.into_iter().for_each(|room| leave(room));
        assert_eq!(alive(&count), 0);
    }

    #[test]
    fn a_circle_that_a_message_holds_stays_until_that_goes() {
        let count = Arc::default();
        let (outer, circle) = (Room::new(&count), Room::new(&count));
        circle.put(&circle);
        outer.put(&circle);
        leave(circle);
        assert_eq!(alive(&count), 2);
        leave(outer);
        assert_eq!(alive(&count), 0);
    }

    #[test]
    fn what_a_circle_leads_to_stays_where_it_is_held_and_does_not_hold_the_circle() {
        let count = Arc::default();
        let (circle, held) = (Room::new(&count), Room::new(&count));
        circle.put(&circle);
        circle.put(&held);
        held.put(&Room::new(&count));
        leave(circle);
        assert_eq!((alive(&count), Arc::strong_count(&held)), (2, 1));
        // Held by what is no Lua state.
        let (circle, unread) = (Room::new(&count), Attachment::Object(held.clone()));
        circle.put(&circle);
        circle.put(&held);
        leave(held);
        leave(circle);
        assert_eq!(alive(&count), 2);
        drop_deferred(vec![unread]);
        assert_eq!(alive(&count), 0);
    }

    #[test]
    fn threads_that_let_go_of_a_circle_at_once_leave_nothing_behind() {
        let count = Arc::default();
        for _ in 0..300 {
            let rooms: Vec<_> = (0..3).map(|_| Room::new(&count)).collect();
            (0..3).for_each(|i| rooms[i].put(&rooms[(i + 1) % 3]));
            std::thread::scope(|s| {
                rooms.into_iter().for_each(|room| _ = s.spawn(move || leave(room)));
            });
            assert_eq!(alive(&count), 0);
        }
    }

    #[test]
    fn a_long_chain_takes_no_stack() {
        let count = Arc::default();
        let mut last = Room::new(&count);
        for _ in 0..50_000 {
            let next = Room::new(&count);
            next.put(&last);
            let before = std::mem::replace(&mut last, next);
            leave(before);
        }
        leave(last);
        assert_eq!(alive(&count), 0);
    }
}
