//! Paths to what is inside a value, in the words of Lua: `value.layers[3].state`.

use std::fmt::{self, Write};

use super::{Decoder, Token, ext};
use crate::error::Name;
use crate::text;

/// A name as a part of a path: `.name`, `["a b"]`.
pub fn field_path(name: &[u8]) -> String {
    let plain = name.first().is_some_and(|c| !c.is_ascii_digit())
        && name.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_');
    if plain { text!(".{}", Name(name)) } else { text!("[\"{}\"]", Name(name)) }
}

/// The parts of a path, which were found from the inside out, in their order. Of a long one the middle is left out.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a>(pub &'a [String]);

/// How many parts of a long path are shown before its last.
const SHOWN: usize = 8;

impl fmt::Display for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.iter().rev().enumerate() {
            match i {
                _ if i < SHOWN || i + 2 > self.0.len() => f.write_str(part)?,
                SHOWN => f.write_char('…')?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where in the value that `bytes` hold attachment `number` stands first; `value` alone if nowhere.
pub fn path_to(bytes: &[u8], number: u32) -> String {
    text!("value{}", Parts(&parts_to(bytes, number)))
}

/// The parts of that path, from the inside out.
fn parts_to(bytes: &[u8], number: u32) -> Vec<String> {
    let mut path = Vec::new();
    if let Ok(mut bytes) = Decoder::new(bytes) {
        Search { bytes: &mut bytes, number, path: &mut path, depth: 0 }.value();
    }
    path
}

struct Search<'s, 'b> {
    bytes: &'s mut Decoder<'b>,
    number: u32,
    /// The way, from the inside out.
    path: &'s mut Vec<String>,
    depth: usize,
}

impl<'b> Search<'_, 'b> {
    /// Adds a part to the way; where there is no memory for it, the path is shorter.
    fn under(&mut self, part: String) {
        if self.path.try_reserve(1).is_ok() {
            self.path.push(part);
        }
    }

    /// Reads the next value; whether the attachment is in it. `None`: the bytes make no sense.
    fn value(&mut self) -> Option<bool> {
        self.depth += 1;
        if self.depth > ext::MAX_DEPTH + 1 {
            return None;
        }
        let found = match self.bytes.token().ok()? {
            Token::Array(n) => self.items(n),
            Token::Map(n) => self.pairs(n),
            Token::Extension(ext::ATTACHMENT, n) => self.bytes.numbered(n).ok().map(|n| n == self.number),
            Token::Extension(ext::MIXED, _) => self.mixed(),
            // A table and its class are one level, as for those who write and read the message.
            Token::Extension(ext::CLASS, _) => {
                self.bytes.token().ok()?;
                self.depth -= 1;
                let found = self.value();
                self.depth += 1;
                found
            }
            Token::Extension(ext::OF_FOUND, _) => {
                self.depth -= 1;
                let found = self.value()? || self.value()?;
                self.depth += 1;
                Some(found)
            }
            Token::Extension(ext::FUNCTION, _) => self.function(),
            Token::Extension(_, n) => self.bytes.payload(n).ok().map(|_| false),
            _ => Some(false),
        };
        self.depth -= 1;
        found
    }

    fn items(&mut self, n: u32) -> Option<bool> {
        for i in 1..=n {
            if self.value()? {
                self.under(text!("[{i}]"));
                return Some(true);
            }
        }
        Some(false)
    }

    fn pairs(&mut self, n: u32) -> Option<bool> {
        for _ in 0..n {
            let name = key(self.bytes.clone());
            if self.value()? {
                self.under(text!("[key {name}]"));
                return Some(true);
            }
            if self.value()? {
                self.under(name);
                return Some(true);
            }
        }
        Some(false)
    }

    fn mixed(&mut self) -> Option<bool> {
        let Ok(Token::Array(items)) = self.bytes.token() else { return None };
        if self.items(items)? {
            return Some(true);
        }
        let Ok(Token::Map(pairs)) = self.bytes.token() else { return None };
        self.pairs(pairs)
    }

    fn function(&mut self) -> Option<bool> {
        self.bytes.token().ok()?;
        self.bytes.token().ok()?;
        let Ok(Token::Array(upvalues)) = self.bytes.token() else { return None };
        for i in 1..=upvalues {
            if self.value()? {
                self.under(text!(" upvalue {i}"));
                return Some(true);
            }
        }
        Some(false)
    }
}

/// The key that comes next, as a part of a path.
fn key(mut bytes: Decoder<'_>) -> String {
    match bytes.token() {
        Ok(Token::String(s)) => field_path(s),
        Ok(Token::Integer(n)) => text!("[{n}]"),
        Ok(Token::Float(n)) => text!("[{n}]"),
        Ok(Token::Boolean(b)) => text!("[{b}]"),
        Ok(Token::Extension(ext::ATTACHMENT, _)) => "[an object]".into(),
        _ => "[a table]".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Encoder;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_attachment_is_found_wherever_it_stands() {
        // { 'x', list = { true, ATTACHMENT 0 }, [2.5] = CLASS 'P' { ['a b'] = ATTACHMENT 1 }, [ATTACHMENT 2] = 0 }
        let mut bytes = Vec::new();
        let mut out = Encoder::new(&mut bytes);
        let table = out.open_table();
        assert!(out.string(b"x"));
        let marks = out.begin_mixed(table, 1);
        assert!(out.string(b"list"));
        let list = out.open_table();
        out.boolean(true);
        out.numbered(ext::ATTACHMENT, 0);
        out.close_array(list, 2);
        out.float(2.5);
        let class = out.open_ext(ext::CLASS);
        assert!(out.string(b"P"));
        let fields = out.open_table();
        out.begin_map(fields);
        assert!(out.string(b"a b"));
        out.numbered(ext::ATTACHMENT, 1);
        out.close_map(fields, 1);
        assert!(out.close_ext(class));
        out.numbered(ext::ATTACHMENT, 2);
        out.integer(0);
        assert!(out.close_mixed(marks, 3));
        let paths: Vec<_> = (0..4).map(|n| path_to(&bytes, n)).collect();
        assert_eq!(paths, ["value.list[2]", "value[2.5][\"a b\"]", "value[key [an object]]", "value"]);
    }

    #[test]
    fn a_path_leads_through_as_many_classes_as_travel() {
        let mut bytes = Vec::new();
        let mut out = Encoder::new(&mut bytes);
        let marks: Vec<_> = (1..ext::MAX_DEPTH)
            .map(|n| {
                let class = out.open_ext(if n % 2 == 0 { ext::CLASS } else { ext::OF_FOUND });
                if n % 2 == 0 {
                    assert!(out.string(b"P"));
                }
                let table = out.open_table();
                (n, class, table)
            })
            .collect();
        out.numbered(ext::ATTACHMENT, 0);
        for (n, class, table) in marks.into_iter().rev() {
            out.close_array(table, 1);
            if n % 2 == 1 {
                out.numbered(ext::REF, 0);
            }
            assert!(out.close_ext(class));
        }
        assert_eq!(parts_to(&bytes, 0), vec!["[1]"; ext::MAX_DEPTH - 1]);
        assert_eq!(path_to(&bytes, 0), format!("value{}…[1]", "[1]".repeat(SHOWN)));
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_path(bytes in prop::collection::vec(any::<u8>(), 0..200), number in 0u32..3) {
            prop_assert!(path_to(&bytes, number).starts_with("value"));
        }
    }
}
