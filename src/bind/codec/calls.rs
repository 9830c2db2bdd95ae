//! The codec as the binding calls it. Puts its siblings `encode` and `decode` together.

use std::any::Any;
use std::ffi::c_int;
use std::sync::Arc;

use super::decode::Plain;
use super::{Route, decode, encode, is_too_deep};
use crate::bind::vm::{Holder, Kind, Lua, Pushed, collect};
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sys::settle_shortage;
use crate::wire::{Encoder, Message};

impl<'a> Lua<'a> {
    /// Writes the value in slot `i` into `message`, which must be empty.
    ///
    /// Fails with `[unsupported]` and the path to whatever cannot take this route, or `[limit]`; `message` is then to
    /// be cleared.
    #[inline]
    pub fn encode(self, i: c_int, message: &mut Message, route: Route) -> Result<()> {
        let mut out = Encoder::new(&mut message.bytes);
        match self.kind(i) {
            Kind::Nil => out.nil(),
            Kind::Boolean => out.boolean(self.truth(i)),
            Kind::Number => encode::number(self.raw(), i, &mut out),
            Kind::String => {
                // SAFETY: the slot holds a string.
                let bytes = unsafe { encode::known_string(self.raw(), i) };
                if !out.string(bytes) && !out.out_of_memory() {
                    return Err(err!(Limit, "value: a string of {} bytes is too long to travel", bytes.len()));
                }
            }
            Kind::None => return Err(self.expected(i, "value")),
            _ => {
                message.bytes.clear();
                return encode::walk(self, self.abs(i), 1, false, message, route);
            }
        }
        if out.out_of_memory() { Err(Error::no_memory()) } else { Ok(()) }
    }

    /// Writes the `count` values from slot `first` on as one message: what they share stays shared.
    pub fn encode_values(self, first: c_int, count: c_int, message: &mut Message, route: Route) -> Result<()> {
        encode::walk(self, first, count, true, message, route)
    }

    /// As [`Lua::encode_values`], of the topmost `count` values, which it takes off the stack: there may be as many as
    /// that holds.
    pub fn encode_top(self, count: c_int, message: &mut Message, route: Route) -> Result<()> {
        if count > encode::FREE_SLOTS {
            self.reserve(encode::FREE_SLOTS)?;
        }
        encode::walk_top(self, count, true, message, route)
    }

    /// Pushes the value in `message`, which may be read again where that failed, if it is
    /// [whole](Message::is_whole).
    #[inline]
    pub fn decode(self, message: &mut Message, route: Route) -> Result<()> {
        match decode::plain(self, &message.bytes) {
            Plain::Pushed => return Ok(()),
            Plain::String(s) => return self.push_bytes(s),
            Plain::Other => {}
        }
        let Message { bytes, attachments, .. } = message;
        decode::walk(self, bytes, decode::Attachments::Moved(attachments), route, false).map(|_| ())
    }

    /// As [`Lua::decode`]; where Lua has no memory for the value, once more after a collection.
    pub fn decode_or_collect(self, message: &mut Message, route: Route) -> Result<()> {
        let base = self.top();
        match self.decode(message, route) {
            Err(e) if self.lacks_memory(&e) && message.is_whole() => {
                // Half a value is garbage, too. Lua 5.2 and later have collected before they raise; and a finalizer
                // that finds no memory for its call is never called again.
                let collected = e.code() == Code::Raised && !cfg!(any(feature = "lua51", feature = "luajit"));
                self.set_top(base);
                if !collected {
                    collect(self);
                }
                settle_shortage();
                self.decode(message, route)
            }
            done => done,
        }
    }

    /// Makes the value in `message` the last result of the running function, whose body must end with this; the
    /// message, which came from the State, goes back to it. As [`Lua::decode_or_collect`], but faster for strings.
    /// Where there is no memory for the value, or no room on the Lua stack, `put_back` gets the message.
    #[inline]
    pub fn decode_last(self, mut message: Box<Message>, route: Route, put_back: impl FnOnce(Message)) -> Result<()> {
        match decode::plain(self, &message.bytes) {
            Plain::Pushed => {}
            Plain::String(s) if self.state().last.takes(s.len()) => {
                let bytes = &raw const *s;
                self.state().last.leave(bytes, Holder::Message(message));
                return Ok(());
            }
            Plain::String(_) | Plain::Other => {
                if let Err(e) = self.decode_or_collect(&mut message, route) {
                    if self.lacks_memory(&e) && message.is_whole() {
                        put_back(*message);
                    }
                    return Err(e);
                }
            }
        }
        self.state().keep_message(message);
        Ok(())
    }

    /// Whether `e`, which a decoding has just ended with, says that there was no memory, or no room on a stack.
    pub fn lacks_memory(self, e: &Error) -> bool {
        match e.code() {
            Code::Raised => self.with_bytes(-1, |text| text == b"not enough memory") == Some(true),
            Code::Limit => !is_too_deep(e),
            _ => false,
        }
    }

    /// As [`Lua::decode_last`], of a message that stays whole, since others read it too; `holder` is what holds it.
    #[inline]
    pub fn decode_last_shared(self, message: &Message, holder: Arc<dyn Any + Send + Sync>, route: Route) -> Result<()> {
        match decode::plain(self, &message.bytes) {
            Plain::Pushed => Ok(()),
            Plain::String(s) if self.state().last.is_free() => {
                self.state().last.leave(s, Holder::Shared(holder));
                Ok(())
            }
            Plain::String(_) | Plain::Other => self.decode_shared(message, route),
        }
    }

    /// Pushes the value in `message`, which stays whole, since others read it too.
    pub fn decode_shared(self, message: &Message, route: Route) -> Result<()> {
        match decode::plain(self, &message.bytes) {
            Plain::Pushed => Ok(()),
            Plain::String(s) => self.push_bytes(s),
            Plain::Other => {
                let attachments = decode::Attachments::Shared(&message.attachments);
                decode::walk(self, &message.bytes, attachments, route, false).map(|_| ())
            }
        }
    }

    /// Pushes all values of a message written by [`Lua::encode_values`] and says how many.
    pub fn decode_values(self, message: &mut Message, route: Route) -> Result<Pushed> {
        let Message { bytes, attachments, .. } = message;
        decode::walk(self, bytes, decode::Attachments::Moved(attachments), route, true)
    }

    /// As [`Lua::decode_values`], of a message that stays whole.
    pub fn decode_values_shared(self, message: &Message, route: Route) -> Result<Pushed> {
        decode::walk(self, &message.bytes, decode::Attachments::Shared(&message.attachments), route, true)
    }
}
