//! Which of the threads in one `recv_any` sleep on the server's descriptors; the others sleep behind them.
//!
//! A descriptor that becomes ready wakes everybody who polls it, of whom one can use the message. So two threads poll
//! at most, and another one does when both have left with a message. With two, who has dealt with its message finds its
//! place again, and none is woken to take it meanwhile, which would cost as much as the message.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Result;
use crate::wait::{EventCount, Wait};

/// How many may poll at a time.
const MOST: u32 = 2;

/// The right to poll for all.
#[derive(Debug, Default)]
pub(super) struct Lead {
    polling: AtomicU32,
    moved: EventCount,
}

/// What came of asking for the lead.
#[derive(Debug)]
pub(super) enum Asked<'a> {
    /// This thread polls until it drops this.
    Leads(Leading<'a>),
    /// There is something else to look at.
    LookAgain,
    /// Time ran out.
    OutOfTime,
}

impl Lead {
    /// Waits for the lead, or until `else_look` says that there is something for this caller.
    pub fn ask(&self, wait: &Wait, mut else_look: impl FnMut() -> bool) -> Result<Asked<'_>> {
        let asked = self.moved.wait_until(wait, || {
            let more = |polling| (polling < MOST).then_some(polling + 1);
            if self.polling.fetch_update(Ordering::SeqCst, Ordering::Relaxed, more).is_ok() {
                return Some(Asked::Leads(Leading(self)));
            }
            else_look().then_some(Asked::LookAgain)
        })?;
        Ok(asked.unwrap_or(Asked::OutOfTime))
    }

    /// Has all who wait for the lead look again.
    pub fn tell_all(&self) {
        self.moved.notify_all();
    }
}

/// A place among those that poll, until it is dropped.
#[derive(Debug)]
pub(super) struct Leading<'a>(&'a Lead);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if self.0.polling.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.moved.notify_one();
        }
    }
}
