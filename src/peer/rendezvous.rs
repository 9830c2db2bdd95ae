//! Where two threads of this process find each other that have met on a socket: the server's puts a token into the
//! table and says it in its welcome, the client's looks it up. Whoever knows it and is not here finds nothing.

use std::collections::BTreeMap;

use crate::err;
use crate::error::Result;
use crate::sys::Lock;
use crate::transport::InProcessEnd;

/// What is drawn for each handshake.
pub(super) type Token = [u8; 16];

/// The tokens that are out, and the server's end of each connection that a client has taken the other end of.
static WAITING: Lock<BTreeMap<Token, Option<InProcessEnd>>> = Lock::new(BTreeMap::new());

/// A server that waits for its client; it does so until this is dropped.
#[derive(Debug)]
pub(super) struct Expected(Token);

impl Expected {
    /// With a token of its own.
    pub fn new() -> Result<Expected> {
        let mut token = Token::default();
        getrandom::fill(&mut token).map_err(|e| err!(Io, "the system's random numbers: {e}"))?;
        WAITING.lock().insert(token, None);
        Ok(Expected(token))
    }

    /// What to say in the welcome.
    pub fn token(&self) -> Token {
        self.0
    }

    /// The server's end, if the client has been here.
    pub fn end(self) -> Option<InProcessEnd> {
        self.remove()
    }

    fn remove(&self) -> Option<InProcessEnd> {
        let removed = WAITING.lock().remove(&self.0);
        removed.flatten()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        // Dropped behind the lock.
        let _ = self.remove();
    }
}

/// The client's end of a new connection, whose other end is left for the server of `token`; `None` where that is not of
/// this process, or has been met.
pub(super) fn meet(token: &Token) -> Option<InProcessEnd> {
    let (mine, other) = InProcessEnd::pair();
    let mut waiting = WAITING.lock();
    match waiting.get_mut(token) {
        Some(place @ None) => {
            *place = Some(other);
            Some(mine)
        }
        _ => {
            drop(waiting);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn two_meet_once_by_a_token_that_lives_as_long_as_the_server_waits() {
        let expected = Expected::new().unwrap();
        let token = expected.token();
        assert!(meet(&[0; 16]).is_none());
        let mine = meet(&token).unwrap();
        assert!(meet(&token).is_none());
        assert!(expected.end().is_some());
        assert!(meet(&token).is_none());
        drop(mine);
        let token = Expected::new().unwrap().token();
        assert!(meet(&token).is_none() && Expected::new().unwrap().end().is_none());
    }
}
