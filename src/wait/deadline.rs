//! When a call has to be over.

use std::time::{Duration, Instant};

/// The moment at which a blocking call gives up; `NEVER` for calls that wait for ever.
///
/// Cheap to copy. Durations past what the clock can hold count as for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Wait for ever.
    pub const NEVER: Deadline = Deadline(None);

    /// Do not wait at all.
    pub fn now() -> Self {
        Deadline(Some(Instant::now()))
    }

    /// `seconds` from now; negative counts as 0, NaN and +inf as for ever.
    pub fn after(seconds: f64) -> Self {
        if seconds <= 0.0 {
            return Deadline::now();
        }
        match Duration::try_from_secs_f64(seconds) {
            Ok(d) => Deadline(Instant::now().checked_add(d)),
            Err(_) => Deadline::NEVER,
        }
    }

    /// As [`Deadline::after`], for ever where there are no seconds.
    pub fn within(seconds: Option<f64>) -> Self {
        seconds.map_or(Deadline::NEVER, Deadline::after)
    }

    /// What is left: `None` for ever, zero when it is past.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether the moment has come.
    pub fn expired(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }

    /// The earlier of the two.
    pub fn min(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Deadline(Some(a.min(b))),
            (a, b) => Deadline(a.or(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_numbers_are_for_ever_or_now() {
        assert_eq!(Deadline::after(f64::INFINITY), Deadline::NEVER);
        assert_eq!(Deadline::after(f64::NAN), Deadline::NEVER);
        assert_eq!(Deadline::after(1e300), Deadline::NEVER);
        assert_eq!(Deadline::within(None), Deadline::NEVER);
        assert!(Deadline::within(Some(0.0)).expired());
        assert!(Deadline::after(-1.0).expired());
        assert!(!Deadline::after(1e6).expired());
    }

    #[test]
    fn the_earlier_of_two_wins() {
        let soon = Deadline::after(1.0);
        assert_eq!(soon.min(Deadline::NEVER), soon);
        assert_eq!(Deadline::NEVER.min(soon), soon);
        assert_eq!(soon.min(Deadline::after(9.0)), soon);
    }
}
