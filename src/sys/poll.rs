//! Sleeping on descriptors.

use std::time::Duration;

use crate::error::{Error, Result};

/// Why [`poll`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// So many descriptors have something to say in `revents`.
    Ready(usize),
    /// The time ran out.
    TimedOut,
    /// A signal arrived.
    Interrupted,
}

/// Waits until one of `fds` is ready or `timeout` (`None`: never) is over. No limit on the numbers of descriptors.
pub fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> Result<Polled> {
    match wait(fds, timeout) {
        0 => Ok(Polled::TimedOut),
        n if n > 0 => Ok(Polled::Ready(n as usize)),
        _ => match std::io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EINTR) => Ok(Polled::Interrupted),
            e => Err(Error::io("", "poll", &e)),
        },
    }
}

#[cfg(target_os = "linux")]
fn wait(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> i32 {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let time = timeout.map(|left| {
        let left = left.min(YEAR);
        libc::timespec { tv_sec: left.as_secs() as libc::time_t, tv_nsec: left.subsec_nanos().into() }
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `fds` is a valid slice of its length, what `time` points to lives through the call, the signal mask stays
    // as it is.
    unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, time, std::ptr::null()) }
}

#[cfg(not(target_os = "linux"))]
fn wait(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> i32 {
    // Rounded up: rounding down would spin through the last millisecond.
    let ms = timeout.map_or(-1, |left| left.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32);
    // SAFETY: `fds` is a valid slice of its length.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, ms) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_to_watch_is_a_sleep() {
        assert_eq!(poll(&mut [], Some(Duration::from_millis(1))).unwrap(), Polled::TimedOut);
    }

    #[test]
    fn a_readable_descriptor_is_reported() {
        let event = super::super::Event::new().unwrap();
        let mut fds = [libc::pollfd { fd: event.fd().unwrap(), events: libc::POLLIN, revents: 0 }];
        assert_eq!(poll(&mut fds, Some(Duration::ZERO)).unwrap(), Polled::TimedOut);
        event.set();
        assert_eq!(poll(&mut fds, None).unwrap(), Polled::Ready(1));
        assert_ne!(fds[0].revents & libc::POLLIN, 0);
    }
}
