//! A server's handle of one client.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use crate::sys::{Lock, SharedBytes};
use crate::transport::Connection;

/// A server's handle of one client.
#[derive(Debug)]
pub struct Client {
    pub(super) connection: Arc<dyn Connection>,
    pub(super) number: u64,
    /// A broadcast has found it gone; what it sent before can still be received.
    pub(super) deaf: AtomicBool,
    /// It has a message that nobody asks for: more of them are no news.
    pub(super) muted: Arc<AtomicBool>,
    label: Arc<Label>,
    on_tag: Listener,
}

/// What hears of a new tag.
struct Listener(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// What a client is called by: it stays when the handle has gone.
#[derive(Debug)]
pub(super) struct Label {
    serial: u32,
    id: AtomicI64,
    tag: Lock<Option<Tag>>,
    /// It was closed here, so that its end is no news.
    pub closed_here: AtomicBool,
}

impl Label {
    pub fn has(&self, tag: Option<&[u8]>) -> bool {
        tag.is_none_or(|tag| self.tag.lock().as_deref() == Some(tag))
    }
}

/// The tag by which calls choose clients; any bytes.
pub type Tag = SharedBytes;

impl Client {
    /// The client behind `connection`, the `number`th that came to its server; `on_tag` hears of each new tag.
    pub(super) fn new(connection: Arc<dyn Connection>, number: u64, on_tag: Box<dyn Fn() + Send + Sync>) -> Client {
        static SERIAL: AtomicU32 = AtomicU32::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff;
        let label = Label { serial, id: AtomicI64::new(0), tag: Lock::default(), closed_here: AtomicBool::new(false) };
        Client {
            connection,
            number,
            deaf: AtomicBool::new(false),
            muted: Arc::default(),
            label: Arc::new(label),
            on_tag: Listener(on_tag),
        }
    }

    /// A handle anew of one that has gone, behind what is left of its `connection`.
    pub(super) fn again(connection: Arc<dyn Connection>, number: u64, label: Arc<Label>) -> Client {
        let on_tag = Listener(Box::new(|| ()));
        Client { connection, number, deaf: AtomicBool::new(true), muted: Arc::default(), label, on_tag }
    }

    pub(super) fn label(&self) -> &Arc<Label> {
        &self.label
    }

    /// The link to it.
    pub fn connection(&self) -> &Arc<dyn Connection> {
        &self.connection
    }

    /// A number that no other client of this process has.
    pub fn serial(&self) -> i64 {
        self.label.serial.into()
    }

    /// The number by which clients are visited; 0 unless set.
    pub fn id(&self) -> i64 {
        self.label.id.load(Ordering::Relaxed)
    }

    /// Sets the number by which clients are visited.
    pub fn set_id(&self, id: i64) {
        self.label.id.store(id, Ordering::Relaxed);
    }

    /// The tag, if it has one.
    pub fn tag(&self) -> Option<Tag> {
        self.label.tag.lock().clone()
    }

    /// Sets the tag.
    pub fn set_tag(&self, tag: Option<Tag>) {
        *self.label.tag.lock() = tag;
        (self.on_tag.0)();
    }

    pub(super) fn has(&self, tag: Option<&[u8]>) -> bool {
        self.label.has(tag)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.connection.is_open() && self.connection.ending().is_none() {
            self.label.closed_here.store(true, Ordering::SeqCst);
        }
    }
}
