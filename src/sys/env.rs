//! The environment, read as C reads it.
//!
//! `std::env` holds a lock while it reads, which the child of a fork might find held. That lock would help nothing
//! either: what changes the environment of a Lua program is C code, which does not know of it. As everywhere, it is not
//! to be changed while threads run.

use std::ffi::{CStr, CString, OsString, c_char};
use std::os::unix::ffi::OsStringExt;

/// The variable `name`; `None` where there is none.
pub fn env_var(name: &str) -> Option<OsString> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string with its NUL goes in, and null or one comes out, which is copied at once.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| OsString::from_vec(CStr::from_ptr(value).to_bytes().to_vec()))
    }
}

/// All variables, as `NAME=value` each.
pub fn environment() -> Vec<Vec<u8>> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    let mut all = Vec::new();
    // SAFETY: null, or a list of strings that ends with a null.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            all.push(CStr::from_ptr(*at).to_bytes().to_vec());
            at = at.add(1);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_there_and_others_are_not() {
        let path = env_var("PATH").unwrap_or_default();
        assert!(!path.is_empty());
        assert!(environment().contains(&[b"PATH=", path.as_encoded_bytes()].concat()));
        assert_eq!(env_var("LIBIPC_NO_SUCH_VARIABLE"), None);
        assert_eq!(env_var("a\0b"), None);
    }
}
