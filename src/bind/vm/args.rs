//! Arguments: what a bound function may be given, and the error when it is given something else.
//!
//! Slots are the C API's; messages count arguments as the user does, after `self` for methods (places with a colon).

use std::ffi::c_int;
use std::fmt;

use mlua_sys as ffi;

use crate::bind::vm::lua::{Kind, Lua};
use crate::err;
use crate::error::{Error, Result};
use crate::sys::{try_bytes, try_text};
use crate::wait::Deadline;

impl<'a> Lua<'a> {
    /// Refuses what follows a time-out that stands in the place of another argument: it would be taken for nothing.
    pub fn no_more(self, i: c_int) -> Result<()> {
        if matches!(self.kind(i), Kind::None | Kind::Nil) {
            return Ok(());
        }
        let n = i - c_int::from(self.place().contains(':'));
        Err(err!(Argument, "argument #{n}: expected nothing after the time-out, got {}", self.describe(i)))
    }

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
        match self.class_name(i) {
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
        if let Some(n) = self.to_integer(i) {
            return Ok(n);
        }
        Err(match self.to_number(i) {
            Some(n) => self.bad_value(i, format_args!("expected an integer, got {}", Shown(n))),
            None => self.expected(i, "integer"),
        })
    }

    /// The number in slot `i` as Lua's own functions take it: a string that holds one counts.
    fn lenient_number(self, i: c_int) -> Option<f64> {
        match self.kind(i) {
            // SAFETY: converts a copy of the number or string, whatever it is: takes no memory and raises nothing.
            Kind::Number | Kind::String => unsafe {
                (ffi::lua_isnumber(self.raw(), i) != 0).then(|| ffi::lua_tonumber(self.raw(), i))
            },
            _ => None,
        }
    }

    /// The integer in slot `i` as Lua's own functions have always taken it, for arguments that old scripts give: a
    /// string that holds a number counts, a fraction is cut off.
    pub fn whole(self, i: c_int) -> Result<i64> {
        if let Some(n) = self.to_integer(i) {
            return Ok(n);
        }
        let n = self.lenient_number(i).ok_or_else(|| self.expected(i, "integer"))?.trunc();
        if (-9223372036854775808.0..9223372036854775808.0).contains(&n) {
            return Ok(n as i64);
        }
        Err(self.bad_value(i, format_args!("expected an integer, got {}", Shown(n))))
    }

    /// The integer in slot `i`, which must lie in `range`.
    pub fn integer_in(self, i: c_int, range: std::ops::RangeInclusive<i64>) -> Result<i64> {
        if self.kind(i) == Kind::Number && self.to_integer(i).is_none() {
            return Err(self.out_of_range(i, &range, self.to_number(i).unwrap_or_default()));
        }
        if self.kind(i) == Kind::String {
            return Err(self.expected(i, "integer"));
        }
        self.whole_in(i, range)
    }

    /// As [`Lua::whole`], and it must lie in `range`.
    pub fn whole_in(self, i: c_int, range: std::ops::RangeInclusive<i64>) -> Result<i64> {
        let got = match self.whole(i) {
            Ok(n) if range.contains(&n) => return Ok(n),
            Ok(n) => n as f64,
            Err(e) => self.lenient_number(i).ok_or(e)?,
        };
        Err(self.out_of_range(i, &range, got))
    }

    #[cold]
    fn out_of_range(self, i: c_int, range: &std::ops::RangeInclusive<i64>, got: f64) -> Error {
        let (least, most) = (range.start(), range.end());
        let shown = Shown(got);
        match *most {
            i64::MAX => self.bad_value(i, format_args!("expected an integer of at least {least}, got {shown}")),
            _ => self.bad_value(i, format_args!("expected an integer from {least} to {most}, got {shown}")),
        }
    }

    /// The string in slot `i` as Lua's own functions take it: a number counts, and is written in its slot as Lua writes
    /// it.
    pub fn name_bytes(self, i: c_int) -> Result<&'a [u8]> {
        if self.kind(i) == Kind::Number {
            self.push_value(i);
            self.protect(1, 1, |l| {
                // SAFETY: in protect everything may be called; slot 1 is a copy of the number.
                unsafe { ffi::lua_tolstring(l, 1, std::ptr::null_mut()) };
                1
            })?;
            self.replace(i);
        }
        self.bytes(i)
    }

    /// The bytes of the string that is argument `i`.
    pub fn bytes(self, i: c_int) -> Result<&'a [u8]> {
        self.argument_bytes(i).ok_or_else(|| self.expected(i, "string"))
    }

    /// The string that is argument `i`, which must be UTF-8 (a name, a host).
    pub fn str(self, i: c_int) -> Result<&'a str> {
        let bytes = self.bytes(i)?;
        std::str::from_utf8(bytes).map_err(|_| self.bad_value(i, "expected a string of UTF-8, got other bytes"))
    }

    /// Slot `i` must hold a value of kind `kind`.
    pub fn check(self, i: c_int, kind: Kind) -> Result<()> {
        if self.kind(i) == kind { Ok(()) } else { Err(self.expected(i, kind.name())) }
    }

    /// The error for option `name`, which is on top and is not `what`: a number is shown, of anything else its type.
    #[cold]
    pub fn wrong_option(self, name: &str, what: &str) -> Error {
        match self.to_number(-1) {
            Some(n) => err!(Argument, "option '{name}': expected {what}, got {}", Shown(n)),
            None => err!(Argument, "option '{name}': expected {what}, got {}", self.describe(-1)),
        }
    }

    /// `read` of slot `i`, or `None` when it holds nil or nothing: `lua.optional(2, Lua::number)?`.
    pub fn optional<T>(self, i: c_int, read: impl FnOnce(Self, c_int) -> Result<T>) -> Result<Option<T>> {
        if self.is_nil(i) { Ok(None) } else { read(self, i).map(Some) }
    }

    /// The time-out in slot `i`: seconds, a boolean or `{timeout = seconds}`. `true` is 0; false is for ever, whatever
    /// the `default`, which counts where nothing was given: so many seconds, or for ever.
    pub fn timeout(self, i: c_int, default: Option<f64>) -> Result<Deadline> {
        let given = match self.kind(i) {
            Kind::None | Kind::Nil => default,
            Kind::Table => self.options(i, &["timeout"])?.timeout("timeout", default)?,
            _ => match self.seconds(i) {
                Some(seconds) => Some(seconds),
                None => return Err(self.wrong_timeout(i)),
            },
        };
        Ok(Deadline::within(given))
    }

    #[cold]
    fn wrong_timeout(self, i: c_int) -> Error {
        match self.to_number(i) {
            Some(n) => self.bad_value(i, format_args!("expected a time-out of 0 or more seconds, got {}", Shown(n))),
            None => self.expected(i, "a number of seconds, a boolean or {timeout = seconds}"),
        }
    }

    /// The number or boolean in slot `i` as seconds, infinitely many for ever; `None` where it is no time-out.
    fn seconds(self, i: c_int) -> Option<f64> {
        match self.kind(i) {
            Kind::Boolean => Some(if self.truth(i) { 0.0 } else { f64::INFINITY }),
            Kind::Number => self.to_number(i).filter(|seconds| *seconds >= 0.0),
            _ => None,
        }
    }

    /// The number in slot `i` of seconds to wait, in any case.
    pub fn wait_seconds(self, i: c_int) -> Result<f64> {
        let seconds = self.lenient_number(i).ok_or_else(|| self.expected(i, "number"))?;
        if seconds >= 0.0 {
            return Ok(seconds);
        }
        Err(self.bad_value(i, format_args!("expected 0 or more seconds, got {}", Shown(seconds))))
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
            let wrong = self.with_str(-1, |key| {
                let known = (!known.contains(&key)).then(|| known.join(", "));
                known.map(|known| self.bad_value(i, format_args!("unknown option '{key}'; known are {known}")))
            });
            let wrong = wrong.unwrap_or_else(|| {
                let (kind, known) = (self.kind(-1).name(), known.join(", "));
                Some(self.bad_value(i, format_args!("unknown option: a key that is a {kind}; known are {known}")))
            });
            if let Some(e) = wrong {
                self.pop(1);
                return Err(e);
            }
        }
        Ok(Options { lua: self, slot })
    }
}

/// A number as Lua writes it, near enough: no long rows of zeros.
#[derive(Clone, Copy, Debug)]
pub struct Shown(pub f64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(n) = *self;
        if n.is_finite() && n != 0.0 && !(1e-5..1e16).contains(&n.abs()) {
            write!(f, "{n:e}")
        } else {
            write!(f, "{n}")
        }
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
    /// `read` of option `name` (given the slot it was pushed to), or `None` when it is absent. Nothing stays on the
    /// stack.
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
                None => Err(lua.wrong_option(name, what)),
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
        self.with(name, "a string", |lua, i| lua.with_str(i, try_text))?.transpose()
    }

    /// An option of any bytes.
    pub fn bytes(self, name: &str) -> Result<Option<Vec<u8>>> {
        self.with(name, "a string", |lua, i| lua.with_bytes(i, try_bytes))?.transpose()
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

    /// A time-out option: seconds or a boolean, as [`Lua::timeout`] has it; `default` where it is absent. Infinitely
    /// many, or `None`: for ever.
    pub fn timeout(self, name: &str, default: Option<f64>) -> Result<Option<f64>> {
        Ok(self.with(name, "a number of seconds, 0 or more, or a boolean", Lua::seconds)?.or(default))
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
