//! What the standard library's collections do in one call, as a `Result`: for sizes that Lua code, a peer or a file
//! decides.

use std::fmt::{self, Write};

use crate::error::{Error, Result};

/// Appends `item`.
#[inline]
pub fn try_push<T>(to: &mut Vec<T>, item: T) -> Result<()> {
    to.try_reserve(1)?;
    to.push(item);
    Ok(())
}

/// Appends `bytes`.
#[inline]
pub fn try_extend(to: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    to.try_reserve(bytes.len())?;
    to.extend_from_slice(bytes);
    Ok(())
}

/// A copy of `bytes`.
pub fn try_bytes(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// A copy of `text`.
pub fn try_text(text: &str) -> Result<String> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len())?;
    copy.push_str(text);
    Ok(copy)
}

/// All of `items`.
pub fn try_collect<T>(items: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let items = items.into_iter();
    let mut list = Vec::new();
    list.try_reserve(items.size_hint().0)?;
    for item in items {
        try_push(&mut list, item)?;
    }
    Ok(list)
}

/// As `format!`.
pub fn try_format(text: fmt::Arguments<'_>) -> Result<String> {
    let mut out = Text::default();
    let _ = out.write_fmt(text);
    out.finish()
}

/// A text that grows while there is memory for it; whether there was is asked once, at the end.
#[derive(Debug, Default)]
pub struct Text {
    text: String,
    failed: bool,
}

impl Text {
    /// The whole text.
    pub fn finish(self) -> Result<String> {
        if self.failed { Err(Error::no_memory()) } else { Ok(self.text) }
    }

    /// Appends `s`.
    pub fn push_str(&mut self, s: &str) {
        let _ = self.write_str(s);
    }

    /// Appends `c`.
    pub fn push(&mut self, c: char) {
        self.push_str(c.encode_utf8(&mut [0; 4]));
    }
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.failed || self.text.try_reserve(s.len()).is_err() {
            self.failed = true;
            return Err(fmt::Error);
        }
        self.text.push_str(s);
        Ok(())
    }
}
