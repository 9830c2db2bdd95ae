//! Whom to tell that there is something to receive which no socket shows.

use std::fmt;

use crate::sys::SetOnce;

type Listener = Box<dyn Fn() + Send + Sync>;

/// Nobody, until there is one.
#[derive(Default)]
pub(super) struct Told(SetOnce<Listener>);

impl Told {
    /// Has `listener` told from now on; only the first one is.
    pub fn set(&self, listener: Listener) {
        let _ = self.0.set(listener);
    }

    /// Tells it.
    #[inline]
    pub fn tell(&self) {
        if let Some(listener) = self.0.get() {
            listener();
        }
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}
