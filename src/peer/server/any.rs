//! A server's `recv_any`: which client is asked next, who is watched, and which of the threads that wait here polls.
//! Imports its siblings `client`, `gone` and `lead`.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::gone::Waiting;
use super::lead::Asked;
use super::{ACCEPTOR, Admitted, Arrival, Client, INBOX, MUTED, Server, Tag};
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sys::Guard;
use crate::sys::try_push;
use crate::wait::{Interest, Wait, Watch, poll_fd, poll_many};
use crate::wire::Message;

impl Admitted {
    /// Whether a client is muted that one of the callers of `recv_any` asks for.
    fn has_wanted(&self) -> bool {
        let muted = self.muted.iter().filter_map(|number| self.clients.get(number));
        muted.into_iter().any(|client| self.asked.iter().any(|tag| client.has(tag.as_deref())))
    }
}

/// A call of `recv_any`, through all its tries: what others have to know of it while it waits.
struct Asking {
    server: Arc<Server>,
    tag: Option<Tag>,
    /// That it hears of those that have gone, once it waits for that.
    waiting: OnceCell<Waiting>,
}

impl Asking {
    fn new(server: &Server, tag: Option<&[u8]>) -> Result<Asking> {
        let tag = tag.map(Tag::new).transpose()?;
        let server = server.me.upgrade().ok_or_else(|| server.is_closed())?;
        try_push(&mut server.admitted.lock().asked, tag.clone())?;
        Ok(Asking { server, tag, waiting: OnceCell::new() })
    }

    fn wait_for_gone(&self) -> Result<&Waiting> {
        if self.waiting.get().is_none() {
            let _ = self.waiting.set(self.server.gone.wait_for(self.tag.as_deref())?);
        }
        self.waiting.get().ok_or_else(|| err!(State, "nobody hears of those that have gone"))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut admitted = self.server.admitted.lock();
        if let Some(at) = admitted.asked.iter().position(|tag| *tag == self.tag) {
            admitted.asked.swap_remove(at);
        }
        self.server.follow_wanted(admitted);
    }
}

impl Server {
    /// The next message of any client (of the tag), and whose it is; those who wait to be admitted are, first. Clients
    /// take turns. One that has gone is forgotten, and one is ended that sent what this end does not accept: with
    /// `gone` this is told, once, else it is no news: others may come. `None` when the deadline passes.
    pub fn recv_any(&self, tag: Option<&[u8]>, gone: bool, out: &mut Message, wait: &Wait) -> Result<Option<Arrival>> {
        let asking = match wait.interrupt.non_blocking() {
            Some(non_blocking) => non_blocking.state(|| Asking::new(self, tag))?,
            None => Rc::new(Asking::new(self, tag)?),
        };
        self.unmute(tag)?;
        // Kept until the message is out of the set: who polls then does not find it there once more.
        let mut leading = None;
        loop {
            self.check()?;
            while let Some(connection) = self.acceptor.take() {
                self.let_in(connection)?;
            }
            if let Some((client, reason)) = gone.then(|| self.gone.take(tag)).flatten() {
                return Ok(Some(Arrival::Gone(client, reason)));
            }
            while let Some(client) = self.next_ready(tag) {
                match client.connection.try_recv(out) {
                    Ok(true) => return Ok(Some(Arrival::Message(client))),
                    Ok(false) => {}
                    // This thread is in the middle of a receive from it: no fault of the client.
                    Err(e) if e.code() == Code::State => return Err(e),
                    // Nor is it one where this process has no memory for its own small things; the message stays where
                    // it is.
                    Err(e) if e.is_shortage() && client.connection.is_open() => {
                        self.admitted.lock().ready.push_front(client.number);
                        return Err(e);
                    }
                    // What ended it before, another call may have met.
                    Err(e) => self.end(client.clone(), Some(e).filter(|_| client.connection.is_open())),
                }
                if let Some((client, reason)) = gone.then(|| self.gone.take(tag)).flatten() {
                    return Ok(Some(Arrival::Gone(client, reason)));
                }
            }
            wait.check()?;
            // A call that does not sleep wakes nobody in vain. One that hears of those that have gone polls for that,
            // too.
            let sleeps = !gone && wait.interrupt.non_blocking().is_none() && !wait.deadline.expired();
            if leading.is_none() && sleeps {
                match self.lead.ask(wait, || self.has_muted(tag))? {
                    Asked::Leads(lead) => leading = Some(lead),
                    Asked::LookAgain => {}
                    Asked::OutOfTime => return Ok(None),
                }
                self.unmute(tag)?;
                if leading.is_none() || !self.admitted.lock().ready.is_empty() {
                    continue;
                }
            }
            let waiting = if gone { Some(asking.wait_for_gone()?) } else { None };
            if !self.poll(waiting, wait)? {
                return Ok(None);
            }
            if self.has_wanted.load(Ordering::SeqCst) {
                self.unmute(tag)?;
            }
            let mut admitted = self.admitted.lock();
            let ready = &mut admitted.ready;
            self.watched.ready(128, |number| {
                if !matches!(number, ACCEPTOR | INBOX | MUTED) {
                    ready.push_back(number);
                }
            })?;
        }
    }

    /// For a call that could not pass on what [`Server::recv_any`] told it of a client that has gone: another is told.
    pub fn tell_again(&self, client: &Arc<Client>, reason: Error) {
        self.gone.add(client, reason);
    }

    /// Where memory has run out: ends the client whose unfinished message wants the most of it and does not fill it.
    /// False where that is nobody's.
    pub fn shed(&self) -> bool {
        /// Less than this is not why.
        const LEAST: usize = 64 << 10;
        let admitted = self.admitted.lock();
        let largest = admitted.clients.values().map(|client| (client.connection.unfilled(), client));
        let largest = largest.max_by_key(|(bytes, _)| *bytes).filter(|(bytes, _)| *bytes >= LEAST);
        let Some((bytes, client)) = largest.map(|(bytes, client)| (bytes, client.clone())) else { return false };
        drop(admitted);
        self.reject(
            client,
            &err!(
                Limit,
                "memory has run out, and tensors that were announced and have not come want {bytes} bytes of it"
            ),
        );
        true
    }

    /// Waits for a client, or for news of one that has gone; false when the deadline passes.
    fn poll(&self, waiting: Option<&Waiting>, wait: &Wait) -> Result<bool> {
        let watched = self.watched.fd()?;
        match waiting {
            None => poll_fd(watched, Interest::Read, wait),
            Some(waiting) => {
                let mut both = [Watch::new(watched, Interest::Read), Watch::new(waiting.fd()?, Interest::Read)];
                Ok(poll_many(&mut both, wait)? > 0)
            }
        }
    }
    /// The next client that may have a message, of those with the tag; others are not watched until somebody asks for
    /// theirs.
    fn next_ready(&self, tag: Option<&[u8]>) -> Option<Arc<Client>> {
        let mut muted = false;
        let next = self.next_ready_or_mute(tag, &mut muted);
        if muted {
            // Others that ask for those would not hear of them otherwise: who polls, and who waits behind.
            self.follow_wanted(self.admitted.lock());
            self.lead.tell_all();
        }
        next
    }

    /// After a change of who is muted, or of who asks.
    pub(super) fn follow_wanted(&self, admitted: Guard<'_, Admitted>) {
        let wanted = admitted.has_wanted();
        let before = self.has_wanted.swap(wanted, Ordering::SeqCst);
        drop(admitted);
        if wanted || before {
            self.wanted.notify_one();
            self.wanted.refresh(|| self.has_wanted.load(Ordering::SeqCst));
        }
    }

    fn next_ready_or_mute(&self, tag: Option<&[u8]>, muted: &mut bool) -> Option<Arc<Client>> {
        let mut admitted = self.admitted.lock();
        while let Some(number) = admitted.ready.pop_front().or_else(|| self.inbox.pop()) {
            let Some(client) = admitted.clients.get(&number).cloned() else { continue };
            if client.has(tag) {
                return Some(client);
            }
            *muted = true;
            client.muted.store(true, Ordering::SeqCst);
            if let Ok(Some(socket)) = client.connection.socket() {
                self.watched.remove(socket.fd());
            }
            if !admitted.muted.contains(&number) {
                admitted.muted.push(number);
            }
        }
        None
    }

    /// Whether a client with the tag has a message and is not watched.
    fn has_muted(&self, tag: Option<&[u8]>) -> bool {
        let admitted = self.admitted.lock();
        admitted.muted.iter().any(|number| admitted.clients.get(number).is_some_and(|client| client.has(tag)))
    }

    pub(super) fn unmute(&self, tag: Option<&[u8]>) -> Result<()> {
        let mut admitted = self.admitted.lock();
        for number in std::mem::take(&mut admitted.muted) {
            let Some(client) = admitted.clients.get(&number).cloned() else { continue };
            if !client.has(tag) {
                admitted.muted.push(number);
                continue;
            }
            if let Ok(Some(socket)) = client.connection.socket() {
                self.watched.add(socket.fd(), number)?;
            }
            client.muted.store(false, Ordering::SeqCst);
            // What was read ahead, or came over memory, does not show in the set.
            admitted.ready.push_back(number);
        }
        self.follow_wanted(admitted);
        Ok(())
    }
}
