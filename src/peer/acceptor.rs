//! The background half of a server: takes connections and shakes hands, in bounded time and number, so that a slow or
//! hostile peer holds up nobody. A connection that has shaken hands leaves tokio for good and waits to be admitted.
//! Imports its siblings `hello`, `log`, `options` and `runtime`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::hello::{Agreed, Answering, Ends, Incoming, No, Packet};
use super::log;
use super::options::Options;
use super::runtime;
use crate::err;
use crate::error::{Error, Result};
use crate::sys::socket::{self, Address, Empty, Moved, Region};
use crate::sys::{Fd, Lock};
use crate::transport::Connection;
use crate::wait::{EventCount, Wait};

/// How long a peer may take to shake hands.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How many may be shaking hands at a time, and no more than half of those that may be here; past it one of them has to
/// go. Which one is left to chance, so that a peer that sends many silent ones cannot see to it that it is always
/// somebody else's.
const HANDSHAKES: usize = 1024;
/// How many connections there may be that are not admitted; past it nobody is accepted, and the system keeps them
/// waiting.
const UNADMITTED: usize = 8192;
/// How many connections are accepted in a row before their handshakes get a turn.
const AT_ONCE: u32 = 32;
/// How often it is looked, while nobody is accepted, which of them have gone.
const GONE: Duration = Duration::from_secs(1);
/// After the system had no descriptor for a new connection.
const SHORT_OF_DESCRIPTORS: Duration = Duration::from_millis(20);

/// The connections that wait to be admitted, in order of arrival, and who takes them.
#[derive(Debug)]
pub(super) struct Acceptor {
    options: Options,
    /// How many connections may be here at a time.
    most: usize,
    /// How many are shaking hands.
    handshakes: AtomicUsize,
    /// Nobody is accepted until there is room.
    full: AtomicBool,
    room: Notify,
    pending: Lock<VecDeque<Arc<dyn Connection>>>,
    count: AtomicUsize,
    /// Somebody has come, or the acceptor is closed.
    pub changed: EventCount,
    closed: AtomicBool,
    /// Why the last of those who were sent away was.
    refused: Lock<(usize, Option<Error>)>,
    listener: Lock<Option<AbortHandle>>,
}

impl Acceptor {
    /// Starts it: from now on `listener`'s connections are taken in the background.
    pub fn start(listener: Fd, options: Options) -> Result<Arc<Acceptor>> {
        Acceptor::of(listener, options, UNADMITTED.min(socket::descriptor_limit() / 4).max(1))
    }

    /// One that takes `most` connections at a time.
    pub fn of(listener: Fd, options: Options, most: usize) -> Result<Arc<Acceptor>> {
        let acceptor = Arc::new(Acceptor {
            options,
            most,
            handshakes: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            room: Notify::new(),
            pending: Lock::default(),
            count: AtomicUsize::new(0),
            changed: EventCount::new(),
            closed: AtomicBool::new(false),
            refused: Lock::default(),
            listener: Lock::default(),
        });
        let listening = runtime::handle()?.spawn(listen(acceptor.clone(), listener));
        *acceptor.listener.lock() = Some(listening.abort_handle());
        Ok(acceptor)
    }

    /// The next one in order of arrival, if there is one.
    pub fn take(&self) -> Option<Arc<dyn Connection>> {
        if !self.has_someone() {
            return None;
        }
        let next = self.pending.lock().pop_front()?;
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.made_room();
        self.changed.refresh(|| self.is_ready());
        Some(next)
    }

    /// How many may be shaking hands at a time: who only does that cannot fill the room of those who have.
    fn handshakes_at_once(&self) -> usize {
        HANDSHAKES.min(self.most / 2).max(1)
    }

    fn is_full(&self) -> bool {
        self.count.load(Ordering::SeqCst) + self.handshakes.load(Ordering::SeqCst) >= self.most
    }

    fn made_room(&self) {
        if self.full.load(Ordering::SeqCst) {
            self.room.notify_one();
        }
    }

    async fn wait_for_room(&self) {
        if !self.is_full() {
            return;
        }
        log::debug(format_args!("server accepts nobody: {} connections wait to be admitted", self.most));
        // A thread that makes room after this looks at it afterwards, and one that did before is seen by the look
        // below.
        self.full.store(true, Ordering::SeqCst);
        while self.is_full() {
            // Those that have come and gone make room, too; nobody tells of them.
            if tokio::time::timeout(GONE, self.room.notified()).await.is_err() {
                self.forget_gone();
            }
        }
        self.full.store(false, Ordering::SeqCst);
    }

    /// Forgets those that have gone and left nothing to be received.
    fn forget_gone(&self) {
        let all = Vec::from_iter(self.pending.lock().iter().cloned());
        let address = |one: &Arc<dyn Connection>| Arc::as_ptr(one).addr();
        let mut gone = Vec::from_iter(all.iter().filter(|one| one.has_gone()).map(address));
        gone.sort_unstable();
        // They are dropped with `all`, after the lock.
        self.pending.lock().retain(|one| {
            let stays = gone.binary_search(&address(one)).is_err();
            if !stays {
                self.count.fetch_sub(1, Ordering::SeqCst);
            }
            stays
        });
        self.changed.refresh(|| self.is_ready());
    }

    /// Waits for the next one; `None` when time runs out, it is closed, or `enough` says so: a thread that
    /// changes what that looks at notifies `changed`.
    pub fn wait(&self, wait: &Wait, enough: impl Fn() -> bool) -> Result<Option<Arc<dyn Connection>>> {
        let next = self.changed.wait_until(wait, || {
            if enough() {
                return Some(None);
            }
            match self.take() {
                Some(next) => Some(Some(next)),
                None => self.closed.load(Ordering::SeqCst).then_some(None),
            }
        })?;
        Ok(next.flatten())
    }

    /// Whether somebody waits.
    pub fn has_someone(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Whether there is something to see here: somebody, or that it is closed.
    pub fn is_ready(&self) -> bool {
        self.has_someone() || self.closed.load(Ordering::SeqCst)
    }

    /// Takes nobody any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let listening = self.listener.lock().take();
        if let Some(listening) = listening {
            listening.abort();
        }
        let pending = std::mem::take(&mut *self.pending.lock());
        drop(pending);
        self.count.store(0, Ordering::SeqCst);
        self.changed.notify_all();
        self.changed.refresh(|| self.is_ready());
    }

    /// For errors: who was sent away, and why the last one.
    pub fn note(&self) -> String {
        match &*self.refused.lock() {
            (_, None) => String::new(),
            (n, Some(e)) => format!("; {n} sent away, the last because {}", e.what()),
        }
    }

    fn add(&self, connection: Arc<dyn Connection>) {
        {
            // Looked at under the lock: a thread that closes it afterwards finds the connection.
            let mut pending = self.pending.lock();
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            pending.push_back(connection);
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        self.changed.notify_all();
        self.changed.refresh(|| self.is_ready());
    }

    fn sent_away(&self, why: Error) {
        log::debug(format_args!("server sent away: {}", why.what()));
        let mut refused = self.refused.lock();
        refused.0 += 1;
        refused.1 = Some(why);
    }
}

/// A connection whose peer is shaking hands.
struct Handshake(Arc<Acceptor>);

impl Handshake {
    fn new(acceptor: &Arc<Acceptor>) -> Handshake {
        acceptor.handshakes.fetch_add(1, Ordering::SeqCst);
        Handshake(acceptor.clone())
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::SeqCst);
        self.0.made_room();
    }
}

async fn listen(acceptor: Arc<Acceptor>, listener: Fd) {
    let Ok(listener) = drive(listener) else { return };
    let mut handshakes: Vec<AbortHandle> = Vec::new();
    let mut taken = 0u32;
    loop {
        acceptor.wait_for_room().await;
        let Ok(mut ready) = listener.readable().await else { return };
        match socket::accept(listener.get_ref()) {
            Ok(Some((fd, from))) => {
                if handshakes.len() >= acceptor.handshakes_at_once() {
                    handshakes.retain(|h| !h.is_finished());
                }
                if handshakes.len() >= acceptor.handshakes_at_once() {
                    handshakes.swap_remove(any_of(handshakes.len())).abort();
                }
                handshakes.push(tokio::spawn(shake_hands(Handshake::new(&acceptor), fd, from)).abort_handle());
                taken = taken.wrapping_add(1);
                if taken.is_multiple_of(AT_ONCE) {
                    // This task does not pause while connections keep coming, and no handshake would run.
                    drop(ready);
                    tokio::task::yield_now().await;
                }
            }
            Ok(None) => {
                ready.clear_ready();
                // A listener that was shut down stays "ready", and one of Unix sockets then never has anybody.
                if acceptor.closed.load(Ordering::SeqCst) {
                    return;
                }
                tokio::task::yield_now().await;
            }
            Err(e) => {
                // Out of descriptors, or of memory: those who are in may leave some.
                acceptor.sent_away(e);
                drop(ready);
                tokio::time::sleep(SHORT_OF_DESCRIPTORS).await;
            }
        }
    }
}

/// A number below `n`, by chance.
fn any_of(n: usize) -> usize {
    let mut bytes = [0; 8];
    // Without random numbers it is the first one: one has to go in any case.
    let _ = getrandom::fill(&mut bytes);
    (u64::from_ne_bytes(bytes) % n.max(1) as u64) as usize
}

async fn shake_hands(handshake: Handshake, fd: Fd, from: Address) {
    let acceptor = &handshake.0;
    let name = name(&from);
    let shaken = async {
        let ends = Ends::of(&fd, socket::local_address(&fd)?, from.clone())?;
        let mut link = Link(drive(fd).map_err(|e| Error::io("", "epoll_ctl", &e))?);
        let agreed = link.hello(&acceptor.options, &ends).await?;
        log::linked(format_args!("server with client {name}"), &from, &agreed);
        agreed.chosen.connection(link.0.into_inner(), &from, name.clone(), agreed.policy, agreed.keys)
    };
    match tokio::time::timeout(HANDSHAKE_TIME, shaken).await {
        Ok(Ok(connection)) => acceptor.add(connection),
        Ok(Err(e)) => acceptor.sent_away(Error::new(e.code(), "", format!("{} (from {name})", e.what()))),
        Err(_) => acceptor.sent_away(err!(Timeout, "{name} did not say hello within {} s", HANDSHAKE_TIME.as_secs())),
    }
}

fn name(from: &Address) -> String {
    match from {
        // A client's end of a Unix socket has no name.
        Address::Unix(_) => "unix:".into(),
        tcp => tcp.to_string(),
    }
}

/// Hands a descriptor to tokio for a while.
fn drive(fd: Fd) -> io::Result<AsyncFd<Fd>> {
    // SAFETY: an `Fd` is open and the same for as long as it lives, and what is registered here owns it; a forked
    // child, where it is closed, forgets this runtime.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

/// The socket of a connection that shakes hands.
struct Link(AsyncFd<Fd>);

impl Link {
    async fn hello(&mut self, options: &Options, ends: &Ends) -> Result<Agreed> {
        match self.shake_hands(options, ends).await {
            Ok(agreed) => Ok(agreed),
            Err(No { tell, why }) => {
                if !tell.is_empty() {
                    self.write(&tell).await?;
                    // Let the client read it: closing on what it may have sent meanwhile would reset the connection.
                    let mut sink = [0; 512];
                    let linger = async { while matches!(self.some(&mut sink).await, Ok(n) if n > 0) {} };
                    let _ = tokio::time::timeout(Duration::from_secs(1), linger).await;
                }
                Err(why)
            }
        }
    }

    async fn shake_hands(&mut self, options: &Options, ends: &Ends) -> std::result::Result<Agreed, No> {
        let (welcome, answering) = Answering::begin(&self.packet(Incoming::new()).await?, options, ends)?;
        self.write(&welcome).await.map_err(No::silent)?;
        // The first message may follow it at once.
        let confirmation = self.packet(Incoming::of(answering.least())).await?;
        answering.confirmed(&confirmation)
    }

    async fn packet(&mut self, mut incoming: Incoming) -> std::result::Result<Packet, No> {
        loop {
            match self.some(incoming.space()).await {
                Ok(0) => return Err(No::silent(err!(Closed, "it closed the connection in the middle of the hello"))),
                Ok(n) => {
                    if let Some(packet) = incoming.came(n)? {
                        return Ok(packet);
                    }
                }
                Err(e) => return Err(No::silent(err!(Closed, "the connection broke: {e}"))),
            }
        }
    }

    async fn some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let region = Region::new(into.as_mut_ptr(), into.len());
            // SAFETY: a buffer that is borrowed mutably. This thread takes no signals, so Blocked means just that.
            match unsafe { socket::receive(self.0.as_raw_fd(), &[region], Empty::Return) }? {
                Moved::Bytes(n) => return Ok(n),
                Moved::End => return Ok(0),
                Moved::Blocked => ready.clear_ready(),
            }
        }
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await.map_err(|e| Error::io("", "epoll", &e))?;
            // SAFETY: a slice.
            match unsafe { socket::send(self.0.as_raw_fd(), &[Region::of(bytes)], false) } {
                Ok(Moved::Bytes(n)) => bytes = &bytes[n..],
                Ok(_) => ready.clear_ready(),
                Err(e) => return Err(err!(Closed, "the connection broke: {e}")),
            }
        }
        Ok(())
    }
}
