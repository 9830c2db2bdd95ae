//! A server: its listener, and the clients that it has admitted. Imports its siblings `cookie`, `dial`,
//! `acceptor`, `options` and `socket_file`.

mod any;
mod broadcast;
mod client;
mod gone;
mod inbox;
mod lead;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use self::gone::Gone;
use self::inbox::Inbox;
use self::lead::Lead;
use super::acceptor::Acceptor;
use super::cookie::Cookies;
use super::dial::resolve;
use super::log;
use super::options::{Options, ServerAddress};
use super::runtime;
use super::socket_file::SocketFile;
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sys::socket::{self, Address};
use crate::sys::{Lock, WatchSet, close_later, fork_generation, try_collect};
use crate::transport::{Connection, Traffic};
use crate::wait::{EventCount, Wait};
use crate::wire::Message;

pub use self::broadcast::Broadcast;
pub use self::client::{Client, Tag};

/// The number of the acceptor in the set that is watched; clients have theirs from 1.
const ACCEPTOR: u64 = 0;
/// That of the inbox.
const INBOX: u64 = u64::MAX;
/// That of what tells of muted clients.
const MUTED: u64 = u64::MAX - 1;

/// A listener and its clients. Threads share it.
#[derive(Debug)]
pub struct Server {
    /// Itself, for its clients to tell it of a new tag.
    me: Weak<Server>,
    address: Address,
    listener: RawFd,
    acceptor: Arc<Acceptor>,
    watched: Arc<WatchSet>,
    inbox: Arc<Inbox>,
    gone: Arc<Gone>,
    /// How many were ended for what they sent.
    rejected: AtomicU64,
    lead: Lead,
    admitted: Lock<Admitted>,
    /// Readable while a client is muted that somebody in `recv_any` asks for, as `has_wanted` says.
    wanted: EventCount,
    has_wanted: AtomicBool,
    closed: AtomicBool,
    generation: u32,
    /// The socket's file, to be removed at the end.
    file: Option<SocketFile>,
}

#[derive(Debug, Default)]
struct Admitted {
    clients: BTreeMap<u64, Arc<Client>>,
    arrived: u64,
    /// Clients that may have a message, in the order in which they will be asked.
    ready: VecDeque<u64>,
    /// Clients that have a message nobody asked for (of another tag), so that they are not watched now.
    muted: Vec<u64>,
    /// The tags that the callers of `recv_any` have asked for, one each.
    asked: Vec<Option<Tag>>,
    gone: (Traffic, Traffic),
}

/// What [`Server::recv_any`] has found.
#[derive(Debug)]
pub enum Arrival {
    /// The client whose message it is.
    Message(Arc<Client>),
    /// A client that has gone or was ended for what it sent, and why.
    Gone(Arc<Client>, Error),
}

/// What a server's clients have carried together, those that are gone included.
#[derive(Clone, Debug, Default)]
pub struct ServerStats {
    /// Sent.
    pub tx: Traffic,
    /// Received.
    pub rx: Traffic,
    /// How many clients are connected over which kind of link.
    pub transports: Vec<(&'static str, usize)>,
    /// How many clients were ended for what they sent.
    pub rejected: u64,
}

impl Server {
    /// Listens at `place` and begins to take connections in the background.
    pub fn listen(place: &ServerAddress, options: Options, wait: &Wait) -> Result<Arc<Server>> {
        options.check_place(place)?;
        // Thousands of clients need as many descriptors; the soft limit is for programs that use select().
        socket::raise_descriptor_limit();
        if options.secret.is_none() {
            // So that a client that sees fewer folders than this process finds one. Not to have one is for the
            // handshake to say.
            let _ = Cookies::read();
        }
        // What may fail comes before the listener, so that no socket and no file of it is left behind.
        runtime::handle()?;
        let watched = Arc::new(WatchSet::new()?);
        let (listener, file) = match place {
            ServerAddress::Unix(path) => SocketFile::listen(path).map(|(fd, file)| (fd, Some(file)))?,
            ServerAddress::Host(host, port) => {
                let mut last = err!(Io, "the host '{host}' has no address");
                let found = resolve(host, *port, wait)?
                    .into_iter()
                    .find_map(|a| socket::listen(&Address::Tcp(a)).map_err(|e| last = e).ok());
                (found.ok_or(last)?, None)
            }
        };
        let (address, raw) = (socket::local_address(&listener)?, listener.as_raw_fd());
        let acceptor = Acceptor::start(listener, options)?;
        // And whatever fails from here on, the server's end removes the file and lets go of the listener.
        let server = Arc::new_cyclic(|me| Server {
            me: me.clone(),
            address,
            listener: raw,
            watched,
            acceptor,
            inbox: Arc::default(),
            gone: Arc::default(),
            rejected: AtomicU64::new(0),
            lead: Lead::default(),
            admitted: Lock::default(),
            wanted: EventCount::new(),
            has_wanted: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            generation: fork_generation(),
            file,
        });
        let acceptor = &server.acceptor;
        server.watched.add(acceptor.changed.fd(|| acceptor.is_ready())?, ACCEPTOR)?;
        server.watched.add(server.inbox.fd()?, INBOX)?;
        server.watched.add(server.wanted.fd(|| false)?, MUTED)?;
        Ok(server)
    }

    fn check(&self) -> Result<()> {
        if self.generation != fork_generation() {
            return Err(err!(
                State,
                "the server at {} was opened before the fork and belongs to the parent process; listen anew here",
                self.address
            ));
        }
        if self.closed.load(Ordering::SeqCst) {
            return Err(self.is_closed());
        }
        Ok(())
    }

    fn is_closed(&self) -> Error {
        err!(Closed, "the server at {} is closed", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it has not been closed.
    pub fn is_open(&self) -> bool {
        self.check().is_ok()
    }

    /// How many clients are admitted and connected.
    pub fn count(&self) -> usize {
        if self.generation != fork_generation() {
            return 0;
        }
        self.admitted.lock().clients.values().filter(|c| c.connection.is_open()).count()
    }

    /// Admits those who wait, in order of arrival, until `n` are in. `[timeout]` when the deadline passes; those who
    /// are in then stay in.
    pub fn admit(&self, n: usize, wait: &Wait) -> Result<()> {
        loop {
            self.check()?;
            let have = self.prune();
            if have >= n {
                return Ok(());
            }
            // Another thread may let them in meanwhile, as it receives.
            match self.acceptor.wait(wait, || self.count() >= n)? {
                Some(connection) => self.let_in(connection)?,
                None => {
                    self.check()?;
                    let have = self.prune();
                    if have >= n {
                        return Ok(());
                    }
                    return Err(err!(
                        Timeout,
                        "{have} of {n} clients came to {} in the given time{}",
                        self.address,
                        self.acceptor.note()
                    ));
                }
            }
        }
    }

    fn let_in(&self, connection: Arc<dyn Connection>) -> Result<()> {
        let mut admitted = self.admitted.lock();
        if self.closed.load(Ordering::SeqCst) {
            return Err(self.is_closed());
        }
        admitted.arrived += 1;
        let number = admitted.arrived;
        // One that has gone again meanwhile is not in.
        let Ok(socket) = connection.socket() else { return Ok(()) };
        if let Some(socket) = &socket {
            self.watched.add(socket.fd(), number)?;
        }
        connection.watched_by(Arc::downgrade(&self.watched));
        drop(socket);
        let me = self.me.clone();
        let told = move || me.upgrade().into_iter().for_each(|server| server.has_new_tag());
        let client = Arc::new(Client::new(connection, number, Box::new(told)));
        self.inbox.hear(&client);
        admitted.clients.insert(number, client);
        drop(admitted);
        self.acceptor.changed.notify_all();
        Ok(())
    }

    /// Forgets those that are closed; returns how many are left.
    fn prune(&self) -> usize {
        let mut ended = Vec::new();
        let mut admitted = self.admitted.lock();
        let Admitted { clients, gone, .. } = &mut *admitted;
        clients.retain(|_, client| {
            let open = client.connection.is_open();
            if !open {
                let stats = client.connection.stats();
                gone.0.add(&stats.tx);
                gone.1.add(&stats.rx);
                ended.push(client.clone());
            }
            open
        });
        let left = clients.len();
        drop(admitted);
        for client in ended {
            self.note_end(client, None);
        }
        left
    }

    /// The admitted clients, those with `tag` if one is given, by ascending id (descending with `invert`), equal ids in
    /// order of arrival.
    pub fn clients(&self, tag: Option<&[u8]>, invert: bool) -> Result<Vec<Arc<Client>>> {
        self.check()?;
        self.prune();
        let mut list = try_collect(self.admitted.lock().clients.values().filter(|c| c.has(tag)).cloned())?;
        // By arrival already, and the sort is stable.
        list.sort_by_key(|c| if invert { c.id().saturating_neg() } else { c.id() });
        Ok(list)
    }

    /// Begins to send `message` to the admitted clients (those of the tag), to all at once.
    pub fn broadcast(&self, message: Message, tag: Option<&[u8]>) -> Result<Broadcast> {
        let mut clients = self.clients(tag, false)?;
        clients.retain(|client| !client.deaf.load(Ordering::Relaxed) || !self.forget_if_gone(client));
        Broadcast::new(message, clients)
    }

    /// Forgets a client that an earlier broadcast found gone, unless something of it is still to be received: a server
    /// that does nothing but broadcast would keep its descriptor for good. Whether it has.
    fn forget_if_gone(&self, client: &Arc<Client>) -> bool {
        let connection = &client.connection;
        let gone = connection.has_gone();
        if gone {
            let reason = err!(Closed, "{} is gone", connection.peer());
            self.end(client.clone(), Some(reason));
        }
        gone
    }

    /// Ends the connection of an admitted client for a message that this end does not accept.
    pub fn reject(&self, client: Arc<Client>, reason: &Error) {
        let what = format!("{}; the connection to {} is closed", reason.what(), client.connection.peer());
        self.end(client, Some(Error::new(reason.code(), "", what)));
    }

    /// Forgets a client; with a reason, its connection is ended for that.
    fn end(&self, client: Arc<Client>, reason: Option<Error>) {
        if let Some(reason) = &reason {
            client.connection.end(reason.clone());
        }
        let mut admitted = self.admitted.lock();
        if admitted.clients.remove(&client.number).is_none() {
            return;
        }
        let stats = client.connection.stats();
        admitted.gone.0.add(&stats.tx);
        admitted.gone.1.add(&stats.rx);
        drop(admitted);
        self.note_end(client, reason);
    }

    /// A client is no longer among the admitted: counts, logs and remembers that, unless it was closed here.
    fn note_end(&self, client: Arc<Client>, reason: Option<Error>) {
        let Some(cause) = client.connection.ending() else { return };
        let reason = reason.unwrap_or(cause);
        if reason.code() != Code::Closed {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            log::rejected(client.connection.peer(), &reason);
        }
        self.gone.add(&client, reason);
    }

    /// A client has another tag: a call that waits for that may want what it sent before, or to hear that it has gone.
    fn has_new_tag(&self) {
        if self.generation == fork_generation() {
            self.follow_wanted(self.admitted.lock());
            self.lead.tell_all();
            self.gone.has_new_tag();
        }
    }

    /// What all its clients have carried.
    pub fn stats(&self) -> Result<ServerStats> {
        self.check()?;
        self.prune();
        let admitted = self.admitted.lock();
        let mut all = ServerStats { tx: admitted.gone.0, rx: admitted.gone.1, ..ServerStats::default() };
        all.rejected = self.rejected.load(Ordering::Relaxed);
        for client in admitted.clients.values() {
            let stats = client.connection.stats();
            all.tx.add(&stats.tx);
            all.rx.add(&stats.rx);
            match all.transports.iter_mut().find(|(kind, _)| *kind == stats.transport) {
                Some((_, n)) => *n += 1,
                None => all.transports.push((stats.transport, 1)),
            }
        }
        Ok(all)
    }

    /// Whether [`Server::recv_any`] may find something, as far as can be told without asking the system.
    pub fn is_ready(&self) -> bool {
        if self.check().is_err() || self.acceptor.is_ready() {
            return true;
        }
        let admitted = self.admitted.lock();
        let ahead = |number| admitted.clients.get(&number).is_some_and(|c| c.connection.is_ready());
        self.inbox.any(ahead) || admitted.ready.iter().any(|number| ahead(*number))
    }

    /// A descriptor that polls readable while somebody waits to be admitted or a client has sent something.
    pub fn fd(&self) -> Result<RawFd> {
        self.check()?;
        // It tells of clients of every tag.
        self.unmute(None)?;
        self.watched.fd()
    }

    /// Closes the listener and every client's connection. Twice is fine.
    pub fn close(&self) {
        if self.generation != fork_generation() || self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        self.stop();
        for client in self.admitted.lock().clients.values() {
            client.connection.close();
        }
    }

    /// Listens no more.
    fn stop(&self) {
        if let Some(file) = &self.file {
            file.remove();
        }
        // The port is free from here on, whenever the background thread lets go of the descriptor: it still has it,
        // since only `close` ends its listening.
        socket::shutdown(self.listener);
        close_later();
        self.acceptor.close();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Handles of clients that somebody still has stay good.
        if self.generation == fork_generation() && !self.closed.load(Ordering::SeqCst) {
            self.stop();
        }
    }
}
