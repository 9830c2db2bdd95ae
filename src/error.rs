//! The one error type of the crate: a code, the place where it was noticed, and what happened.
//!
//! Every layer returns [`Error`]; the binding turns it into the Lua string `libipc [CODE] WHERE: what` in one place.
//! The text says what happened with the values involved and what to do about it.

use std::borrow::Cow;
use std::collections::TryReserveError;
use std::fmt::{self, Write};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it was: what a program can branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The time given for the call ran out.
    Timeout,
    /// The other end, or this one, is closed.
    Closed,
    /// The other end does not want us, or nobody listens.
    Refused,
    /// The other end sent something that is not of the protocol.
    Protocol,
    /// Both ends are well but do not fit: other sizes, types, operations.
    Mismatch,
    /// A value that cannot travel.
    Unsupported,
    /// A depth or a size past its limit.
    Limit,
    /// A secret is missing or wrong.
    Auth,
    /// The call or its thread was cancelled.
    Cancelled,
    /// The object is not in a state that allows this.
    State,
    /// A wrong parameter.
    Argument,
    /// The operating system said no.
    Io,
    /// The CUDA driver said no, or there is none.
    Cuda,
    /// A worker thread or process failed.
    Worker,
    /// Not for users: a call of a coroutine would sleep here, and is to be tried again.
    WouldBlock,
    /// Not for users: an error value already lies on top of the Lua stack; the binding raises that value.
    Raised,
}

impl Code {
    /// Every code that a user can meet.
    pub const ALL: [Code; 14] = [
        Code::Timeout,
        Code::Closed,
        Code::Refused,
        Code::Protocol,
        Code::Mismatch,
        Code::Unsupported,
        Code::Limit,
        Code::Auth,
        Code::Cancelled,
        Code::State,
        Code::Argument,
        Code::Io,
        Code::Cuda,
        Code::Worker,
    ];

    /// The word that stands in brackets in the message.
    pub fn name(self) -> &'static str {
        match self {
            Code::Timeout => "timeout",
            Code::Closed => "closed",
            Code::Refused => "refused",
            Code::Protocol => "protocol",
            Code::Mismatch => "mismatch",
            Code::Unsupported => "unsupported",
            Code::Limit => "limit",
            Code::Auth => "auth",
            Code::Cancelled => "cancelled",
            Code::State => "state",
            Code::Argument => "argument",
            Code::Io => "io",
            Code::Cuda => "cuda",
            Code::Worker => "worker",
            Code::WouldBlock => "would_block",
            Code::Raised => "raised",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failure: `libipc [code] place: what`.
///
/// One pointer, so that a `Result` of something small comes back in registers: a successful call pays nothing for the
/// errors that it might have had.
#[derive(Clone, Debug, thiserror::Error)]
#[error("libipc [{}] {}{}{}", .0.code, .0.place, if .0.place.is_empty() { "" } else { ": " }, .0.what)]
pub struct Error(Box<Failure>);

#[derive(Clone, Debug)]
struct Failure {
    code: Code,
    place: Cow<'static, str>,
    what: Cow<'static, str>,
    shortage: bool,
}

impl Error {
    /// An error of `code`, noticed at `place` (the call as its user knows it, `client:recv`; empty when only the
    /// binding knows), saying `what` happened.
    pub fn new(code: Code, place: impl Into<Cow<'static, str>>, what: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(Failure { code, place: place.into(), what: what.into(), shortage: false }))
    }

    /// The system call `call` failed with the current `errno`.
    pub fn os(place: impl Into<Cow<'static, str>>, call: &str) -> Self {
        Error::io(place, call, &std::io::Error::last_os_error())
    }

    /// `call` failed with `cause`; `[limit]` where that is a want of memory.
    pub fn io(place: impl Into<Cow<'static, str>>, call: &str, cause: &std::io::Error) -> Self {
        if cause.kind() == std::io::ErrorKind::OutOfMemory {
            return Error::new(Code::Limit, place, words(format_args!("{call}: not enough memory"))).shortage();
        }
        Error::new(Code::Io, place, words(format_args!("{call}: {cause}"))).caused_by(cause)
    }

    /// `[limit]`: the system has no memory for what is asked.
    #[cold]
    pub fn no_memory() -> Self {
        // Made of as little memory as possible.
        Error::new(Code::Limit, "", "not enough memory; let go of something, collect garbage, try again").shortage()
    }

    /// The same error, which says that memory or descriptors ran out and that nothing was changed: garbage may hold
    /// some, so the call is worth another try after a collection.
    pub fn shortage(mut self) -> Self {
        self.0.shortage = true;
        self
    }

    /// The same error, a [shortage](Error::shortage) if `cause` is one.
    pub fn caused_by(self, cause: &std::io::Error) -> Self {
        match cause.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => self.shortage(),
            _ => self,
        }
    }

    /// Whether memory or descriptors ran out before anything was changed.
    pub fn is_shortage(&self) -> bool {
        self.0.shortage
    }

    /// What kind of failure this is.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What happened, without code and place.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// Where it was noticed; empty when it is left to the binding.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// The same error, noticed at `place` unless it already names one.
    pub fn at(mut self, place: impl Into<Cow<'static, str>>) -> Self {
        if self.0.place.is_empty() {
            self.0.place = place.into();
        }
        self
    }
}

impl From<TryReserveError> for Error {
    fn from(_: TryReserveError) -> Self {
        Error::no_memory()
    }
}

/// The text of an error, as much of it as there is memory for: values in it may be of any length.
pub fn words(text: fmt::Arguments<'_>) -> Cow<'static, str> {
    struct Cut(String);
    impl Write for Cut {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            self.0.try_reserve(s.len()).map_err(|_| fmt::Error)?;
            self.0.push_str(s);
            Ok(())
        }
    }
    if let Some(text) = text.as_str() {
        return Cow::Borrowed(text);
    }
    let mut cut = Cut(String::new());
    let _ = cut.write_fmt(text);
    Cow::Owned(cut.0)
}

/// Bytes as text, with the replacement character for what is not UTF-8; takes no memory.
#[derive(Clone, Copy)]
pub struct Lossy<'a>(pub &'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

/// A name that another program may have chosen, as a word of a text: the beginning of a long one, control characters
/// as escapes.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a>(pub &'a [u8]);

impl Name<'_> {
    /// So many bytes are shown.
    const SHOWN: usize = 200;
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.0.len();
        for chunk in self.0[..length.min(Name::SHOWN)].utf8_chunks() {
            write!(f, "{}", OneLine(chunk.valid()))?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        if length > Name::SHOWN { write!(f, "… ({length} bytes)") } else { Ok(()) }
    }
}

/// Text with its control characters as escapes: it ends no line of a log, and moves nobody's cursor.
#[derive(Clone, Copy, Debug)]
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(char::is_control) {
            let mut chars = part.chars();
            match chars.next_back() {
                Some(last) if last.is_control() => write!(f, "{}{}", chars.as_str(), last.escape_default())?,
                _ => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Lossy<'_> {
    /// As of a string: in quotes, with escapes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            write!(f, "{}", chunk.valid().escape_debug())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        f.write_char('"')
    }
}

/// As `format!`, cut where there is no memory for more: for texts with names and values of any length in them.
#[macro_export]
macro_rules! text {
    ($($fmt:tt)+) => {
        $crate::error::words(format_args!($($fmt)+)).into_owned()
    };
}

/// Shorthand for errors whose place the binding fills in: `err!(Argument, "expected {} got {}", a, b)`.
#[macro_export]
macro_rules! err {
    ($code:ident, $($fmt:tt)+) => {
        $crate::error::Error::new($crate::error::Code::$code, "", $crate::error::words(format_args!($($fmt)+)))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_code_place_and_cause() {
        let e = Error::new(Code::Timeout, "client:recv", "nothing came in 2 s");
        assert_eq!(e.to_string(), "libipc [timeout] client:recv: nothing came in 2 s");
    }

    #[test]
    fn names_of_others_are_short_and_harmless() {
        assert_eq!(Name(b"torch.Tensor").to_string(), "torch.Tensor");
        assert_eq!(
            Name(b"\x1b[31mX\nlibipc 1: \xffforged\0").to_string(),
            "\\u{1b}[31mX\\nlibipc 1: \u{fffd}forged\\u{0}"
        );
        let long = Name(&[b'y'; 5000]).to_string();
        assert_eq!(long, format!("{}… (5000 bytes)", "y".repeat(200)));
        // Cut in the middle of a character.
        let odd = Name(&"é".repeat(300).as_bytes()[1..]).to_string();
        assert!(odd.starts_with('\u{fffd}') && odd.ends_with("… (599 bytes)"), "{odd}");
        assert_eq!(OneLine("a\tb\r\n").to_string(), "a\\tb\\r\\n");
        assert_eq!(OneLine("").to_string(), "");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_rust_shows_them() {
        for bytes in [&b""[..], b"plain", b"a\xffb", b"\xe2\x82", "d\u{e9}j\u{e0}".as_bytes(), b"\xf0\x9f\x92x"] {
            assert_eq!(Lossy(bytes).to_string(), String::from_utf8_lossy(bytes));
            assert_eq!(format!("{:?}", Lossy(bytes)), format!("{:?}", String::from_utf8_lossy(bytes)));
        }
    }

    #[test]
    fn a_result_fits_two_registers() {
        assert_eq!(size_of::<Result<isize>>(), 2 * size_of::<usize>());
    }

    #[test]
    fn a_place_is_filled_in_once() {
        let e = err!(Limit, "depth {}", 3).at("marshal").at("elsewhere");
        assert_eq!(e.to_string(), "libipc [limit] marshal: depth 3");
    }
}
