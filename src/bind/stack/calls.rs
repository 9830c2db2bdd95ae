//! The codec as the binding calls it. Puts its siblings `encode` and `decode` together.

use std::ffi::c_int;

use super::{Route, decode, encode};
use crate::bind::lua::{Kind, Lua};
use crate::err;
use crate::error::Result;
use crate::wire::{Encoder, Message};

impl<'a> Lua<'a> {
    /// Writes the value in slot `i` into `message`, which must be empty.
    ///
    /// Fails with `[unsupported]` and the path to whatever cannot take this route, or `[limit]`; `message` is then to be cleared.
    #[inline]
    pub fn encode(self, i: c_int, message: &mut Message, route: Route) -> Result<()> {
        let mut out = Encoder::new(&mut message.bytes);
        match self.kind(i) {
            Kind::Nil => out.nil(),
            Kind::Boolean => out.boolean(self.truth(i)),
            Kind::Number => encode::number(self.raw(), i, &mut out),
            Kind::String => {
                let bytes = self.to_bytes(i).unwrap_or_default();
                if !out.string(bytes) {
                    return Err(err!(Limit, "value: a string of {} bytes is too long to travel", bytes.len()));
                }
            }
            Kind::None => return Err(self.expected(i, "value")),
            _ => {
                message.bytes.clear();
                return encode::walk(self, self.abs(i), 1, false, message, route);
            }
        }
        Ok(())
    }

    /// Writes the `count` values from slot `first` on as one message: what they share stays shared.
    pub fn encode_values(self, first: c_int, count: c_int, message: &mut Message, route: Route) -> Result<()> {
        encode::walk(self, first, count, true, message, route)
    }

    /// Pushes the value in `message`; its attachments are moved out.
    #[inline]
    pub fn decode(self, message: &mut Message, route: Route) -> Result<()> {
        if let Some(done) = decode::plain(self, &message.bytes) {
            return done;
        }
        let attachments = std::mem::take(&mut message.attachments);
        decode::walk(self, &message.bytes, decode::Attachments::Moved(attachments), route, false).map(|_| ())
    }

    /// Pushes the value in `message`, which stays whole: it can be read again, by other threads too.
    pub fn decode_shared(self, message: &Message, route: Route) -> Result<()> {
        if let Some(done) = decode::plain(self, &message.bytes) {
            return done;
        }
        let attachments = decode::Attachments::Shared(&message.attachments);
        decode::walk(self, &message.bytes, attachments, route, false).map(|_| ())
    }

    /// Pushes all values of a message written by [`Lua::encode_values`] and says how many.
    pub fn decode_values(self, message: &mut Message, route: Route) -> Result<c_int> {
        let attachments = std::mem::take(&mut message.attachments);
        decode::walk(self, &message.bytes, decode::Attachments::Moved(attachments), route, true)
    }

    /// As [`Lua::decode_values`], of a message that stays whole.
    pub fn decode_values_shared(self, message: &Message, route: Route) -> Result<c_int> {
        decode::walk(self, &message.bytes, decode::Attachments::Shared(&message.attachments), route, true)
    }
}
