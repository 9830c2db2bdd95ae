//! One message to many clients at once: none of them waits for another. The message belongs to the connections while it
//! is on its way; a broadcast that does not stay until it has gone everywhere gives it up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Client;
use crate::err;
use crate::error::{Code, Error, Result};
use crate::transport::{Parcel, Sending, Ticket};
use crate::wait::{Deadline, Interest, Wait, Watch, poll_many, sleep};
use crate::wire::Message;

/// How long to stay away from a connection on which another thread is sending, in seconds.
const PAUSE: f64 = 0.001;

/// A message on its way to many.
#[derive(Debug)]
pub struct Broadcast {
    parcel: Arc<Parcel>,
    /// Those that have not taken it whole.
    going: Vec<Going>,
    /// How many there were to begin with.
    all: usize,
    took: usize,
    /// How many do not accept it, and why the first does not.
    refused: usize,
    refusal: Option<Error>,
}

#[derive(Debug)]
struct Going {
    client: Arc<Client>,
    ticket: Option<Ticket>,
}

impl Broadcast {
    pub(super) fn new(message: Message, clients: Vec<Arc<Client>>) -> Result<Broadcast> {
        // One that takes nothing any more may still have sent something.
        let open = clients.into_iter().filter(|c| !c.deaf.load(Ordering::Relaxed));
        let mut going = Vec::new();
        for client in open {
            going.try_reserve(1)?;
            going.push(Going { client, ticket: None });
        }
        let all = going.len();
        let parcel = Arc::new(Parcel::new(message)?);
        Ok(Broadcast { parcel, going, all, took: 0, refused: 0, refusal: None })
    }

    /// Sends until all have it; returns how many took it. A client that is gone is passed over, and so is one that does
    /// not accept such a message: that is an error only where nobody does. `[timeout]` when some have not taken it in
    /// time; those in the middle of it are closed.
    pub fn drive(&mut self, wait: &Wait) -> Result<usize> {
        let mut ready = Vec::new();
        ready.try_reserve_exact(self.going.len())?;
        ready.resize(self.going.len(), true);
        loop {
            let busy = self.advance(&ready)?;
            if self.going.is_empty() {
                return match &self.refusal {
                    Some(e) if self.refused == self.all => Err(e.clone()),
                    _ => Ok(self.took),
                };
            }
            if busy && wait.deadline.expired() {
                return Err(self.late());
            }
            if busy && wait.interrupt.non_blocking().is_none() {
                // Their sockets may well have room all the time.
                sleep(&wait.sooner(Deadline::after(PAUSE)))?;
            }
            // Open until they were polled: another thread may close a connection meanwhile, and its number be
            // another's.
            let (mut sockets, mut watches) = (Vec::new(), Vec::new());
            sockets.try_reserve_exact(self.going.len())?;
            watches.try_reserve_exact(self.going.len())?;
            for Going { client, .. } in &self.going {
                let connection = &client.connection;
                // Polled after this call, too: a descriptor that lives as long as the connection, and tells of its end.
                let of_its_own = || Ok::<_, Error>(Watch::new(connection.room_fd()?, Interest::Read));
                watches.push(match connection.socket() {
                    _ if wait.interrupt.non_blocking().is_some() => of_its_own()?,
                    Ok(None) => of_its_own()?,
                    Ok(Some(socket)) => {
                        let watch = Watch::new(socket.fd(), Interest::Write);
                        sockets.push(socket);
                        watch
                    }
                    // One that has closed is found so at once.
                    Err(_) => Watch::new(-1, Interest::Write),
                });
            }
            let has_time = !watches.iter().all(|w| w.fd >= 0) || poll_many(&mut watches, wait)? > 0;
            drop(sockets);
            if !has_time {
                return Err(self.late());
            }
            // Fewer than before, or as many.
            ready.clear();
            ready.extend(watches.iter().map(|w| w.ready || w.fd < 0));
        }
    }

    /// One look at each that is ready; whether other threads were sending to all of them.
    fn advance(&mut self, ready: &[bool]) -> Result<bool> {
        let (mut at, mut busy) = (0, true);
        let mut failed = None;
        let (parcel, took, refused, refusal) = (&self.parcel, &mut self.took, &mut self.refused, &mut self.refusal);
        self.going.retain_mut(|going| {
            at += 1;
            if !ready[at - 1] || failed.is_some() {
                return true;
            }
            let client = &going.client;
            match client.connection.try_send(parcel, &mut going.ticket) {
                Ok(Sending::Sent) => {
                    busy = false;
                    *took += 1;
                    return false;
                }
                Ok(state) => {
                    busy &= state == Sending::Busy;
                    return true;
                }
                Err(e) if going.ticket.is_none() && matches!(e.code(), Code::Limit | Code::Unsupported) => {
                    *refused += 1;
                    refusal.get_or_insert(e);
                }
                // This thread is sending to it itself, one call further out; or there is no memory here.
                Err(e) if matches!(e.code(), Code::State | Code::Limit) => {
                    failed = Some(e);
                    return true;
                }
                Err(_) => client.deaf.store(true, Ordering::Relaxed),
            }
            if let Some(ticket) = going.ticket.take() {
                client.connection.give_up(ticket);
            }
            false
        });
        failed.map_or(Ok(busy), Err)
    }

    /// Gives up, since the time is over, and says what that means for whom.
    fn late(&mut self) -> Error {
        let (late, all, took) = (self.going.len(), self.all, self.took);
        let mut closed = 0;
        for Going { client, ticket } in &mut self.going {
            if let Some(ticket) = ticket.take() {
                client.connection.give_up(ticket);
                closed += usize::from(!client.connection.is_open());
            }
        }
        if closed == 0 {
            return err!(
                Timeout,
                "{late} of {all} clients did not take the message in the given time, {took} did; nothing of it has \
                 gone to the others"
            );
        }
        err!(
            Timeout,
            "{late} of {all} clients did not take the whole message in the given time, {took} did; of those {closed} \
             had taken a part of it and are closed"
        )
    }

    /// The message, where nothing of it is on its way any more, for its memory to be used again.
    pub fn into_message(mut self) -> Option<Message> {
        self.give_up();
        let parcel = std::mem::replace(&mut self.parcel, Arc::new(Parcel::new(Message::default()).ok()?));
        Arc::try_unwrap(parcel).ok().map(Parcel::into_message)
    }

    fn give_up(&mut self) {
        for going in self.going.drain(..) {
            if let Some(ticket) = going.ticket {
                going.client.connection.give_up(ticket);
            }
        }
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        self.give_up();
    }
}
