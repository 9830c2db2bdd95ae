//! Whether to look again before a sleep: on a machine with free cores that saves two switches of threads, on a busy one
//! it gives the core away for a whole time slice of somebody else.
//!
//! All loops that look ask here, in two ways. Before the first yield of a wait the number of threads that are running
//! on the machine, read at most every [`FRESH`], says whether there are more of them than cores. And each yield is
//! timed: one that came back late stops the whole process from looking for a while, which doubles while yields go on
//! being late and is forgotten after [`FORGIVEN`] prompt ones. Threads that look do not count as load: they would give
//! way to each other. Nor is a yield late where nobody but this process runs: then it was one of its own threads that
//! had the core, and did its work.
//!
//! Imports its siblings `clock` and `critical`.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::clock::{monotonic_ns, spare_core};
use super::critical::Critical;

/// A yield that takes longer has given the core to a thread that computes.
const LATE: u64 = 1_000_000;
/// For how long nobody looks after a late one: at first, and at most.
const PENALTY: (u64, u64) = (10_000_000, 2_000_000_000);
/// So many prompt yields, and the next late one is a first one again.
const FORGIVEN: u32 = 1_000;
/// For how long the number of running threads is taken to be what it was.
const FRESH: u64 = 10_000_000;

/// What the process knows of the machine.
struct Load {
    /// Until when nobody looks.
    quiet_until: AtomicU64,
    /// How long the next time without looks is; 0: the first.
    penalty: AtomicU64,
    /// Prompt yields since the last late one.
    prompt: AtomicU32,
    /// When the running threads were last counted.
    counted: AtomicU64,
    /// Whether there were too many; 1 if so.
    crowded: AtomicU32,
    /// Threads of ours that yield just now.
    looking: AtomicU32,
}

static LOAD: Load = Load::new();

impl Load {
    const fn new() -> Load {
        Load {
            quiet_until: AtomicU64::new(0),
            penalty: AtomicU64::new(0),
            prompt: AtomicU32::new(0),
            counted: AtomicU64::new(0),
            crowded: AtomicU32::new(0),
            looking: AtomicU32::new(0),
        }
    }

    /// Whether looking pays at the moment `now`. `count` gives how many threads run, and how many cores there are.
    fn allows(&self, now: u64, count: impl FnOnce() -> Option<(u32, u32)>) -> bool {
        if now < self.quiet_until.load(Ordering::Relaxed) {
            return false;
        }
        let counted = self.counted.load(Ordering::Relaxed);
        let stale = counted == 0 || now.saturating_sub(counted) >= FRESH;
        // One thread counts; the others go on with what is known.
        if stale && self.counted.compare_exchange(counted, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let crowded = count().is_some_and(|(running, cores)| {
                // The one that counts is running and looks.
                let others = running.saturating_sub(self.looking.load(Ordering::Relaxed).max(1));
                others > cores + 1
            });
            self.crowded.store(crowded.into(), Ordering::Relaxed);
        }
        self.crowded.load(Ordering::Relaxed) == 0
    }

    /// Takes note of a yield that ended at `now`; `is_alone` says whether all threads that run are of this process.
    fn yielded(&self, took: u64, now: u64, is_alone: impl FnOnce() -> bool) {
        if took > LATE {
            if now < self.quiet_until.load(Ordering::Relaxed) {
                // Another thread was late with it, and has said so.
                return;
            }
            if is_alone() {
                return;
            }
            let penalty = self.penalty.load(Ordering::Relaxed).clamp(PENALTY.0, PENALTY.1);
            self.quiet_until.store(now + penalty, Ordering::Relaxed);
            self.penalty.store(penalty * 2, Ordering::Relaxed);
            self.prompt.store(0, Ordering::Relaxed);
        } else if self.penalty.load(Ordering::Relaxed) != 0 {
            // Two threads may count as one: it is a rule of thumb.
            let prompt = self.prompt.load(Ordering::Relaxed) + 1;
            self.prompt.store(prompt, Ordering::Relaxed);
            if prompt >= FORGIVEN {
                self.penalty.store(0, Ordering::Relaxed);
            }
        }
    }
}

/// Whether a thread that pauses leaves a core to the one it waits for, which is likely to run there.
#[inline]
pub fn pausing_pays() -> bool {
    spare_core() && LOAD.allows(monotonic_ns(), running_threads)
}

/// A thread that yields in a wait, until it is dropped. It reads the clock once a yield: on one core that is a good
/// part of what two threads that talk to each other take.
#[derive(Debug)]
pub struct Looking {
    began: u64,
    /// When the last yield ended: the next one follows at once.
    now: Cell<u64>,
}

impl Looking {
    /// About to yield for the first time; `None` where it had better sleep.
    pub fn begin() -> Option<Looking> {
        let began = monotonic_ns();
        LOAD.allows(began, running_threads).then(|| {
            LOAD.looking.fetch_add(1, Ordering::Relaxed);
            Looking { began, now: Cell::new(began) }
        })
    }

    /// Nanoseconds from the beginning to the end of the last yield.
    pub fn elapsed(&self) -> u64 {
        self.now.get() - self.began
    }

    /// Lets others run; whether that was prompt, so that it may be done again.
    pub fn yield_core(&self) -> bool {
        std::thread::yield_now();
        let now = monotonic_ns();
        let took = now - self.now.replace(now);
        LOAD.yielded(took, now, is_alone);
        if took > LATE {
            // To find out whether this process was alone has taken time.
            self.now.set(monotonic_ns());
        }
        now >= LOAD.quiet_until.load(Ordering::Relaxed)
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        // A child of a fork may have one thread that looks less than it counts.
        let less = |n: u32| n.checked_sub(1);
        _ = LOAD.looking.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// How many threads are running or ready to run on the machine, this one included, and how many cores it has.
#[cfg(target_os = "linux")]
fn running_threads() -> Option<(u32, u32)> {
    let mut text = [0u8; 128];
    let n = {
        // Opened, read and closed in a critical section, which a fork waits for: no child gets the descriptor.
        let _section = Critical::enter();
        // SAFETY: a path that ends in NUL; the descriptor is read into a buffer of the stated length, and closed once.
        unsafe {
            let fd = libc::open(c"/proc/loadavg".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            if fd < 0 {
                return None;
            }
            let n = libc::read(fd, text.as_mut_ptr().cast(), text.len());
            libc::close(fd);
            n
        }
    };
    let running = running_of(text.get(..usize::try_from(n).ok()?)?)?;
    Some((running, cores()?))
}

/// How many cores the machine has; found out once, since the C library reads a file for it.
#[cfg(target_os = "linux")]
fn cores() -> Option<u32> {
    static CORES: AtomicU32 = AtomicU32::new(0);
    let known = CORES.load(Ordering::Relaxed);
    if known != 0 {
        return Some(known);
    }
    // SAFETY: takes a number and touches no memory of ours.
    let cores = u32::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).ok()?.max(1);
    CORES.store(cores, Ordering::Relaxed);
    Some(cores)
}

#[cfg(not(target_os = "linux"))]
fn running_threads() -> Option<(u32, u32)> {
    None
}

/// Whether all threads that are running or ready to run on the machine are of this process, as far as two looks can
/// tell. Asked after a late yield only: it takes some microseconds for each thread.
#[cfg(target_os = "linux")]
#[cold]
fn is_alone() -> bool {
    let (Some(before), Some((all, _)), Some(after)) = (own_running_threads(), running_threads(), own_running_threads())
    else {
        return false;
    };
    all <= before.max(after)
}

#[cfg(not(target_os = "linux"))]
fn is_alone() -> bool {
    false
}

/// With more threads than these they are not counted.
const MANY: usize = 64;

/// How many threads of this process are running or ready to run.
#[cfg(target_os = "linux")]
fn own_running_threads() -> Option<u32> {
    // As above.
    let _section = Critical::enter();
    let mut running = 0;
    for (n, thread) in std::fs::read_dir("/proc/self/task").ok()?.flatten().enumerate() {
        if n == MANY {
            return None;
        }
        // One that has ended meanwhile does not run.
        let stat = std::fs::read(thread.path().join("stat")).unwrap_or_default();
        running += u32::from(says_running(&stat));
    }
    Some(running)
}

/// Whether thread `tid` of this process (see [`gettid`](super::gettid)) computes, or would if a core were free: it does
/// not sleep in a system call. False also once it has ended, and where the system does not say.
pub fn thread_computes(tid: u64) -> bool {
    says_running(&std::fs::read(format!("/proc/self/task/{tid}/stat")).unwrap_or_default())
}

/// Whether the state in `12 (name) R …` is that one; any bytes may stand in the name.
fn says_running(stat: &[u8]) -> bool {
    let after = stat.iter().rposition(|b| *b == b')').map_or(&[][..], |at| &stat[at..]);
    after.get(2) == Some(&b'R')
}

/// The count in `0.20 0.18 0.12 3/467 5123`.
fn running_of(loadavg: &[u8]) -> Option<u32> {
    let fourth = loadavg.split(|b| *b == b' ').nth(3)?;
    let running = fourth.split(|b| *b == b'/').next()?;
    std::str::from_utf8(running).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_running_threads_are_the_fourth_of_the_figures() {
        assert_eq!(running_of(b"0.20 0.18 0.12 3/467 5123\n"), Some(3));
        for odd in [&b""[..], b"0.20 0.18 0.12", b"0.20 0.18 0.12 x/467 5123", b"0 0 0 -1/2 3"] {
            assert_eq!(running_of(odd), None);
        }
        #[cfg(target_os = "linux")]
        {
            assert!(running_threads().is_none_or(|(running, cores)| running > 0 && cores > 0));
            assert!(own_running_threads().is_none_or(|running| running > 0));
        }
    }

    #[test]
    fn more_running_threads_than_cores_stop_the_looks_until_there_are_fewer() {
        let load = Load::new();
        assert!(load.allows(1, || Some((1, 2))));
        assert!(load.allows(2, || panic!("asked again too soon")));
        assert!(!load.allows(1 + FRESH, || Some((6, 2))));
        assert!(!load.allows(2 + FRESH, || panic!("asked again too soon")));
        assert!(load.allows(1 + 2 * FRESH, || Some((3, 2))));
        assert!(load.allows(1 + 3 * FRESH, || None), "without /proc only the yields tell");
    }

    #[test]
    fn threads_that_look_are_no_load() {
        let load = Load::new();
        load.looking.store(6, Ordering::Relaxed);
        assert!(load.allows(1, || Some((8, 2))));
        load.looking.store(1, Ordering::Relaxed);
        assert!(!load.allows(1 + FRESH, || Some((8, 2))));
    }

    #[test]
    fn late_yields_stop_the_looks_for_twice_as_long_each_time_and_are_forgotten() {
        let load = Load::new();
        let (none, foreign) = (|| None, || false);
        let mut now = MS;
        for quiet in [10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000] {
            assert!(load.allows(now, none));
            load.yielded(2 * MS, now, foreign);
            // Another thread gave way to the same.
            load.yielded(2 * MS, now + 1, foreign);
            assert!(!load.allows(now + (quiet - 1) * MS, none), "{quiet}");
            now += quiet * MS;
            // Some prompt ones in between are not enough.
            (1..FORGIVEN).for_each(|_| load.yielded(MS / 1000, now, foreign));
        }
        load.yielded(MS / 1000, now, foreign);
        load.yielded(2 * MS, now, foreign);
        assert!(load.allows(now + 10 * MS, none), "after enough prompt ones it is the first again");
    }

    #[test]
    fn what_the_process_does_itself_in_a_late_yield_is_no_reason_to_stop() {
        let load = Load::new();
        for now in 1..100 {
            load.yielded(2 * MS, now * MS, || true);
            assert!(load.allows(now * MS, || None));
        }
        load.yielded(2 * MS, 100 * MS, || false);
        assert!(!load.allows(101 * MS, || None));
    }
}
