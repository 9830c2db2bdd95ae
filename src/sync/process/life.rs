//! What is known of a child's end.

use std::sync::Arc;

use crate::sys::{Event, Exit, Fd, reap};

/// What is known of its end.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub exit: Option<Exit>,
    /// Somebody else was told of it.
    pub lost: bool,
    /// Bit n: signal n was sent by us while it lived.
    sent: u128,
    /// Polls readable once it has ended; given back then, since nobody knows when this is collected.
    pub fd: Option<Arc<Fd>>,
    /// The descriptor was given out, and so stays.
    pub shown: bool,
    /// The same, made after the end.
    pub event: Option<Event>,
}

impl Life {
    /// Asks the system for the end, unless it is known. False while the child runs.
    pub fn look(&mut self, pid: i32) -> bool {
        if self.exit.is_none() && !self.lost {
            match reap(pid) {
                Ok(exit) => self.exit = exit,
                Err(_) => self.lost = true,
            }
        }
        let ended = self.exit.is_some() || self.lost;
        if ended && !self.shown {
            self.fd = None;
        }
        ended
    }

    /// Notes that we have sent `signal` while it lived.
    pub fn signalled(&mut self, signal: i32) {
        if let Ok(n) = u32::try_from(signal) {
            self.sent |= 1u128.checked_shl(n).unwrap_or(0);
        }
    }

    /// Its end as its starter counts it: one by a signal of ours is code 0.
    pub fn told(&self) -> Option<Exit> {
        self.exit.clone().map(|exit| match &exit.signal {
            Some(_) if self.sent >> (exit.code - 128) & 1 == 1 => Exit { code: 0, signal: None },
            _ => exit,
        })
    }

    /// In words.
    pub fn state(&self) -> String {
        match &self.exit {
            Some(Exit { signal: Some(name), .. }) => format!("ended by {name}"),
            Some(Exit { code, .. }) => format!("ended with {code}"),
            None if self.lost => "ended".to_owned(),
            None => "running".to_owned(),
        }
    }
}
