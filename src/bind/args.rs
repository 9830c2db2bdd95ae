//! Arguments: what a bound function may be given, and the error when it is given something else.
//!
//! Slots are the C API's; messages count arguments as the user does, after `self` for methods (places with a colon).

use std::ffi::c_int;

use crate::bind::lua::{Kind, Lua};
use crate::err;
use crate::error::{Error, Result};
use crate::sys::{try_bytes, try_text};
use crate::wait::Deadline;

impl<'a> Lua<'a> {
    /// The error for slot `i` that does not hold `what` (`a table`): names position, expected type and what came.
    pub fn expected(self, i: c_int, what: &str) -> Error {
        let got = self.describe(i);
        let article = if what.starts_with("a ") || what.starts_with("an ") {
            ""
        } else if what.starts_with(['a', 'e', 'i', 'o', 'u']) {
            "an "
        } else {
            "a "
        };
        let method = self.place().contains(':');
        match i - c_int::from(method) {
            0 => err!(Argument, "expected {article}{what} as self, got {got} (call it with a colon)"),
            n => err!(Argument, "argument #{n}: expected {article}{what}, got {got}"),
        }
    }

    /// An error about the value of slot `i`, which has the right type.
    pub fn bad_value(self, i: c_int, what: impl std::fmt::Display) -> Error {
        err!(Argument, "argument #{}: {what}", i - c_int::from(self.place().contains(':')))
    }

    /// Slot `i` in words: its type, or the class of an object.
    pub fn describe(self, i: c_int) -> String {
        match crate::bind::module::class_of(self, i) {
            Some(name) => name.to_string(),
            None => self.kind(i).name().to_string(),
        }
    }

    /// The number in slot `i`.
    pub fn number(self, i: c_int) -> Result<f64> {
        self.to_number(i).ok_or_else(|| self.expected(i, "number"))
    }

    /// The integer in slot `i`.
    pub fn integer(self, i: c_int) -> Result<i64> {
        match (self.to_integer(i), self.to_number(i)) {
            (Some(n), _) => Ok(n),
            (None, Some(n)) => Err(self.bad_value(i, format_args!("expected an integer, got {n}"))),
            (None, None) => Err(self.expected(i, "integer")),
        }
    }

    /// The integer in slot `i`, which must lie in `range`.
    pub fn integer_in(self, i: c_int, range: std::ops::RangeInclusive<i64>) -> Result<i64> {
        let n = self.integer(i)?;
        if range.contains(&n) {
            return Ok(n);
        }
        Err(self.bad_value(i, format_args!("expected an integer from {} to {}, got {n}", range.start(), range.end())))
    }

    /// The bytes of the string in slot `i`.
    pub fn bytes(self, i: c_int) -> Result<&'a [u8]> {
        self.to_bytes(i).ok_or_else(|| self.expected(i, "string"))
    }

    /// The string in slot `i`, which must be UTF-8 (a name, a host).
    pub fn str(self, i: c_int) -> Result<&'a str> {
        let bytes = self.bytes(i)?;
        std::str::from_utf8(bytes).map_err(|_| self.bad_value(i, "expected a string of UTF-8, got other bytes"))
    }

    /// The boolean in slot `i`.
    pub fn boolean(self, i: c_int) -> Result<bool> {
        match self.kind(i) {
            Kind::Boolean => Ok(self.truth(i)),
            _ => Err(self.expected(i, "boolean")),
        }
    }

    /// Slot `i` must hold a value of kind `kind`.
    pub fn check(self, i: c_int, kind: Kind) -> Result<()> {
        if self.kind(i) == kind { Ok(()) } else { Err(self.expected(i, kind.name())) }
    }

    /// `read` of slot `i`, or `None` when it holds nil or nothing: `lua.optional(2, Lua::number)?`.
    pub fn optional<T>(self, i: c_int, read: impl FnOnce(Self, c_int) -> Result<T>) -> Result<Option<T>> {
        if self.is_nil(i) { Ok(None) } else { read(self, i).map(Some) }
    }

    /// The time-out in slot `i`: seconds; `true` is 0, nil, false or nothing for ever.
    pub fn timeout(self, i: c_int) -> Result<Deadline> {
        Ok(self.timeout_or_none(i)?.unwrap_or(Deadline::NEVER))
    }

    /// As [`Lua::timeout`], `None` where nothing was given.
    pub fn timeout_or_none(self, i: c_int) -> Result<Option<Deadline>> {
        match self.kind(i) {
            Kind::None | Kind::Nil => Ok(None),
            Kind::Boolean => Ok(self.truth(i).then(Deadline::now)),
            Kind::Number => {
                let seconds = self.number(i)?;
                if seconds.is_nan() || seconds < 0.0 {
                    return Err(
                        self.bad_value(i, format_args!("expected a time-out of 0 or more seconds, got {seconds}"))
                    );
                }
                Ok(Some(Deadline::after(seconds)))
            }
            _ => Err(self.expected(i, "number of seconds or a boolean")),
        }
    }

    /// Slot `i` is a table of options (or nil): every key must be one of `known`.
    pub fn options(self, i: c_int, known: &'static [&'static str]) -> Result<Options<'a>> {
        if self.is_nil(i) {
            return Ok(Options { lua: self, slot: 0 });
        }
        self.check(i, Kind::Table)?;
        let slot = self.abs(i);
        self.push_nil();
        while self.next(slot)? {
            self.pop(1);
            let key = self.to_str(-1);
            if !key.is_some_and(|k| known.contains(&k)) {
                let known = known.join(", ");
                let e = match key {
                    Some(key) => self.bad_value(i, format_args!("unknown option '{key}'; known are {known}")),
                    None => {
                        let kind = self.kind(-1).name();
                        self.bad_value(i, format_args!("unknown option a {kind} key; known are {known}"))
                    }
                };
                self.pop(1);
                return Err(e);
            }
        }
        Ok(Options { lua: self, slot })
    }
}

/// A table of options, its keys known to be good.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    lua: Lua<'a>,
    /// 0: none were given.
    slot: c_int,
}

impl<'a> Options<'a> {
    /// `read` of option `name` (given the slot it was pushed to), or `None` when it is absent. Nothing stays on the stack.
    fn with<T>(self, name: &str, what: &str, read: impl FnOnce(Lua<'a>, c_int) -> Option<T>) -> Result<Option<T>> {
        if self.slot == 0 {
            return Ok(None);
        }
        let lua = self.lua;
        let kind = lua.raw_get_field(self.slot, name)?;
        let read = if kind == Kind::Nil {
            Ok(None)
        } else {
            match read(lua, -1) {
                Some(value) => Ok(Some(value)),
                None => Err(err!(Argument, "option '{name}': expected {what}, got {}", lua.describe(-1))),
            }
        };
        lua.pop(1);
        read
    }

    /// Whether a table of options was given at all.
    pub fn given(self) -> bool {
        self.slot != 0
    }

    /// A string option.
    pub fn string(self, name: &str) -> Result<Option<String>> {
        self.with(name, "a string", |lua, i| lua.to_str(i).map(try_text))?.transpose()
    }

    /// An option of any bytes.
    pub fn bytes(self, name: &str) -> Result<Option<Vec<u8>>> {
        self.with(name, "a string", |lua, i| lua.to_bytes(i).map(try_bytes))?.transpose()
    }

    /// A number option.
    pub fn number(self, name: &str) -> Result<Option<f64>> {
        self.with(name, "a number", Lua::to_number)
    }

    /// A whole number option that is at least `least`.
    pub fn integer(self, name: &str, least: i64) -> Result<Option<i64>> {
        self.with(name, &format!("an integer of at least {least}"), |lua, i| lua.to_integer(i).filter(|n| *n >= least))
    }

    /// A boolean option.
    pub fn boolean(self, name: &str) -> Result<Option<bool>> {
        self.with(name, "a boolean", |lua, i| (lua.kind(i) == Kind::Boolean).then(|| lua.truth(i)))
    }

    /// A time-out option, in seconds.
    pub fn timeout(self, name: &str) -> Result<Option<f64>> {
        self.with(name, "a number of seconds, 0 or more", |lua, i| lua.to_number(i).filter(|n| *n >= 0.0))
    }

    /// Pushes the option, nil when absent, and says its kind.
    pub fn push(self, name: &str) -> Result<Kind> {
        if self.slot == 0 {
            self.lua.push_nil();
            return Ok(Kind::Nil);
        }
        self.lua.raw_get_field(self.slot, name)
    }
}
