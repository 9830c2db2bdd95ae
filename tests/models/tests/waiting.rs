//! Who waits for a condition is woken when it comes, and by a cancel; and no wake-up is lost on one who does not need
//! it.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use models::error::{Code, Result};
use models::wait::{Cancel, Deadline, EventCount, Interrupt, Wait};

struct Under(Arc<Cancel>);

impl Interrupt for Under {
    fn on_signal(&self) -> Result<()> {
        Ok(())
    }
    fn cancel(&self) -> Option<&Cancel> {
        Some(&self.0)
    }
}

fn take(items: &AtomicU32) -> Option<()> {
    // With the weakest orders: what orders these is the signal.
    items.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).ok().map(|_| ())
}

/// A signal and a number of items, for `Arc`s that loom need not know: nothing is ordered by their counts.
#[derive(Default)]
struct Shop {
    changes: EventCount,
    items: AtomicU32,
}

impl Shop {
    fn offer(&self) {
        self.items.fetch_add(1, Ordering::Relaxed);
        self.changes.notify_one();
    }
}

fn wants_one(shop: &Arc<Shop>) -> thread::JoinHandle<()> {
    let its = shop.clone();
    thread::spawn(move || {
        let wait = Wait::until(Deadline::NEVER);
        let more = || its.items.load(Ordering::Relaxed) > 0;
        its.changes.wait_to_take(&wait, || take(&its.items), more).unwrap().unwrap();
    })
}

fn bounded(threads_preempted: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // LOOM_MAX_PREEMPTIONS says otherwise: the long runs take more, but no more than can be gone through in minutes.
    let most = builder.preemption_bound.map_or(threads_preempted, |n| n.min(threads_preempted * 3 / 2));
    builder.preemption_bound = Some(most);
    builder.check(model);
}

#[test]
fn a_waiter_hears_of_what_comes() {
    bounded(3, || {
        let shop = Arc::new(Shop::default());
        let waiter = wants_one(&shop);
        shop.offer();
        waiter.join().unwrap();
        assert!(!shop.changes.is_awaited());
    });
}

#[test]
fn each_of_two_waiters_gets_one_of_two_items() {
    bounded(2, || {
        let shop = Arc::new(Shop::default());
        let waiters = [(); 2].map(|()| wants_one(&shop));
        (0..2).for_each(|_| shop.offer());
        waiters.into_iter().for_each(|w| w.join().unwrap());
        assert_eq!(shop.items.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn each_of_three_waiters_gets_one_of_three_items() {
    // The call for the first item finds all asleep; for the others nobody is woken.
    bounded(1, || {
        let shop = Arc::new(Shop::default());
        let waiters = [(); 3].map(|()| wants_one(&shop));
        thread::yield_now();
        (0..3).for_each(|_| shop.offer());
        waiters.into_iter().for_each(|w| w.join().unwrap());
        assert_eq!(shop.items.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn who_is_called_in_vain_hears_of_the_next() {
    bounded(3, || {
        let shop = Arc::new(Shop::default());
        let waiter = wants_one(&shop);
        let its = shop.clone();
        let thief = thread::spawn(move || take(&its.items).is_some());
        shop.offer();
        if thief.join().unwrap() {
            shop.offer();
        }
        waiter.join().unwrap();
    });
}

#[test]
fn a_cancel_wakes_who_sleeps_and_who_is_about_to() {
    bounded(3, || {
        let (shop, cancel) = (Arc::new(Shop::default()), Arc::new(Cancel::new()));
        let (its, under) = (shop.clone(), Under(cancel.clone()));
        let waiter = thread::spawn(move || {
            let wait = Wait { deadline: Deadline::NEVER, interrupt: &under };
            its.changes.wait_until(&wait, || take(&its.items)).unwrap_err().code()
        });
        cancel.fire();
        assert_eq!(waiter.join().unwrap(), Code::Cancelled);
    });
}

#[test]
fn who_is_cancelled_passes_its_wake_up_on() {
    bounded(2, || {
        let (shop, cancel) = (Arc::new(Shop::default()), Arc::new(Cancel::new()));
        let (its, under) = (shop.clone(), Under(cancel.clone()));
        let cancelled = thread::spawn(move || {
            let wait = Wait { deadline: Deadline::NEVER, interrupt: &under };
            its.changes.wait_until(&wait, || take(&its.items)).is_ok()
        });
        let other = wants_one(&shop);
        shop.offer();
        cancel.fire();
        if cancelled.join().unwrap() {
            // It had taken the item first: one more for the other.
            shop.offer();
        }
        other.join().unwrap();
    });
}
