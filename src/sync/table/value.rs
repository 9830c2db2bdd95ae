//! Values: the small ones as they are, all others as messages. Imports `atomic` for its numbers.

use std::sync::Arc;

use super::super::Number;
use crate::wire::{Attachment, Decoder, Message, Token, drop_deferred, ext};

/// What a key of a table holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// true or false
    Boolean(bool),
    /// A number.
    Number(Number),
    /// A string of a few bytes.
    Short(Short),
    /// Anything else; a string too only if it is not short.
    Message(Arc<Message>),
}

/// A string that needs no memory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    length: u8,
    bytes: [u8; Short::MOST],
}

impl Short {
    /// As many bytes as leave a value at 24.
    const MOST: usize = 22;

    /// `s`, if it is short.
    pub fn new(s: &[u8]) -> Option<Short> {
        let mut bytes = [0; Short::MOST];
        bytes.get_mut(..s.len())?.copy_from_slice(s);
        Some(Short { length: s.len() as u8, bytes })
    }

    /// The string.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length as usize]
    }
}

/// What a message is, as far as messages can be equal.
enum Sole<'m> {
    String(&'m [u8]),
    Attachment(&'m Attachment),
    /// A table, a function: a copy, equal to nothing.
    Copy,
}

fn sole(message: &Message) -> Sole<'_> {
    let Ok(mut bytes) = Decoder::new(&message.bytes) else { return Sole::Copy };
    if let Some(s) = bytes.last_string() {
        return Sole::String(s);
    }
    match (bytes.token(), message.attachments.as_slice()) {
        (Ok(Token::Extension(ext::ATTACHMENT, _)), [only]) => Sole::Attachment(only),
        _ => Sole::Copy,
    }
}

impl Value {
    /// The value that `message` holds.
    pub fn message(message: Message) -> Value {
        Value::Message(Arc::new(message))
    }

    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Boolean(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Short(_) => "a string",
            Value::Message(m) => match sole(m) {
                Sole::String(_) => "a string",
                Sole::Attachment(_) => "an object",
                Sole::Copy => "a table or a function",
            },
        }
    }

    /// Whether it can be equal to anything: what is copied in and out is not.
    pub fn is_comparable(&self) -> bool {
        !matches!(self, Value::Message(m) if matches!(sole(m), Sole::Copy))
    }

    /// Lua's `==`: strings, numbers and booleans by value, tensors and objects by identity.
    pub fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Boolean(a), Value::Boolean(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a.equals(*b),
            (Value::Short(a), Value::Short(b)) => a == b,
            (Value::Message(a), Value::Message(b)) => match (sole(a), sole(b)) {
                (Sole::String(a), Sole::String(b)) => a == b,
                (Sole::Attachment(a), Sole::Attachment(b)) => same(a, b),
                _ => false,
            },
            _ => false,
        }
    }

    /// Drops it. What its message refers to may be the last handle on an object that holds others, and so on: that goes
    /// by [`drop_deferred`], one after the other, however long the chain is.
    pub(super) fn drop_deferred(self) {
        if let Value::Message(message) = self
            && let Some(message) = Arc::into_inner(message)
            && !message.attachments.is_empty()
        {
            drop_deferred(message.attachments);
        }
    }

    /// Bytes of memory beside the value itself; what is attached by reference belongs to itself.
    pub fn heap(&self) -> usize {
        match self {
            Value::Message(m) => {
                let attachments = m.attachments.capacity() * size_of::<Attachment>();
                2 * size_of::<usize>() + size_of::<Message>() + m.bytes.capacity() + attachments
            }
            _ => 0,
        }
    }
}

/// Whether both are handles on one thing.
fn same(a: &Attachment, b: &Attachment) -> bool {
    match (a, b) {
        (Attachment::Tensor(a), Attachment::Tensor(b)) => a.same_view(b),
        (Attachment::Storage(a), Attachment::Storage(b)) => a.same(b),
        (Attachment::Object(a), Attachment::Object(b)) => Arc::as_ptr(a).cast::<()>() == Arc::as_ptr(b).cast::<()>(),
        (Attachment::Foreign(a), Attachment::Foreign(b)) => a.pointer == b.pointer && a.class == b.class,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Atomic;
    use super::*;
    use crate::wire::Encoder;

    fn string(s: &[u8]) -> Value {
        let mut message = Message::default();
        assert!(Encoder::new(&mut message.bytes).string(s));
        Value::message(message)
    }

    fn object(object: Arc<Atomic>) -> Value {
        let mut message = Message::default();
        Encoder::new(&mut message.bytes).numbered(ext::ATTACHMENT, 0);
        message.attachments.push(Attachment::Object(object));
        Value::message(message)
    }

    #[test]
    fn a_value_stays_small() {
        assert_eq!(size_of::<Value>(), 24);
        assert_eq!(Short::new(&[7; 22]).map(|s| s.bytes().to_vec()), Some(vec![7; 22]));
        assert_eq!(Short::new(&[7; 23]), None);
    }

    #[test]
    fn values_are_equal_as_in_lua() {
        let number = |x| Value::Number(Number::Float(x));
        assert!(number(1.0).equals(&Value::Number(Number::Integer(1))));
        assert!(!number(f64::NAN).equals(&number(f64::NAN)));
        assert!(!number(1.0).equals(&Value::Boolean(true)));
        let long = [b'x'; 100];
        assert!(string(&long).equals(&string(&long)) && !string(&long).equals(&string(&long[1..])));
        let (a, b) = (Arc::new(Atomic::new(Number::Integer(1))), Arc::new(Atomic::new(Number::Integer(1))));
        assert!(object(a.clone()).equals(&object(a.clone())) && !object(a).equals(&object(b)));
    }

    #[test]
    fn a_copy_is_equal_to_nothing() {
        let mut message = Message::default();
        let mut out = Encoder::new(&mut message.bytes);
        let table = out.open_table();
        out.close_array(table, 0);
        let table = Value::message(message);
        assert!(!table.is_comparable() && !table.equals(&table.clone()));
        assert_eq!(table.kind(), "a table or a function");
        assert!(string(b"x").is_comparable());
    }
}
