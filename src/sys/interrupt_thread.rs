//! Running something in a thread that computes: by a signal to that thread, whose handler runs there.
//!
//! The signal is SIGURG, which a process without a handler ignores: so the handler can come and go, and nothing is
//! harmed by a signal that comes late. (The runtime of Go stops its threads by the same.)
//!
//! Takes numbers and clocks of threads from `clock`, and imports its siblings `fork` and `load`.

use std::mem::zeroed;
use std::ptr;

use libc::{SIGPROF, SIGURG, c_int, c_void, itimerval, pthread_t, sigaction, siginfo_t};

use super::load::thread_computes;
use super::{ForkHook, SetOnce, at_fork, gettid, thread_cpu_ns};

/// A running thread.
#[derive(Clone, Copy, Debug)]
pub struct ThreadHandle {
    handle: pthread_t,
    tid: u64,
}

impl ThreadHandle {
    /// The calling thread.
    pub fn current() -> ThreadHandle {
        // SAFETY: takes nothing, cannot fail.
        ThreadHandle { handle: unsafe { libc::pthread_self() }, tid: gettid() }
    }

    /// Whether it computes: see [`thread_computes`].
    pub fn computes(self) -> bool {
        thread_computes(self.tid)
    }

    /// For how many nanoseconds it has computed so far.
    pub fn cpu_ns(self) -> u64 {
        thread_cpu_ns(self.tid).unwrap_or(u64::MAX)
    }

    /// Runs what [`ThreadInterrupts::begin`] was given in that thread, soon.
    ///
    /// # Safety
    /// The thread has not ended.
    pub unsafe fn interrupt(self) {
        // SAFETY: as promised by the caller.
        unsafe { libc::pthread_kill(self.handle, SIGURG) };
    }
}

/// Threads can be interrupted, until this is dropped. One at a time in a process.
#[derive(Debug)]
pub struct ThreadInterrupts(());

/// What an interrupted thread runs.
static HANDLER: SetOnce<fn()> = SetOnce::new();

impl ThreadInterrupts {
    /// From now on an interrupted thread runs `handler`, the same each time, which does no more than a signal's handler
    /// may. `None` where the program uses the signal itself.
    pub fn begin(handler: fn()) -> Option<ThreadInterrupts> {
        static HOOK: ForkHook = ForkHook { prepare: || (), parent: || (), child: take_handler_away };
        at_fork(&HOOK);
        HANDLER.get_or_init(|| handler);
        // SAFETY: all zeros is a valid sigaction: the default action. The handler keeps to what the caller promised.
        unsafe {
            let (mut now, mut new): (sigaction, sigaction) = (zeroed(), zeroed());
            libc::sigaction(SIGURG, ptr::null(), &mut now);
            if now.sa_sigaction != libc::SIG_DFL {
                return None;
            }
            new.sa_sigaction = interrupted as *const () as usize;
            new.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
            (libc::sigaction(SIGURG, &new, ptr::null_mut()) == 0).then_some(ThreadInterrupts(()))
        }
    }
}

impl Drop for ThreadInterrupts {
    fn drop(&mut self) {
        take_handler_away();
    }
}

/// Also in the child of a fork, which has no thread that interrupts; the handler would count as another's there.
fn take_handler_away() {
    // SAFETY: all zeros is a valid sigaction: the default action.
    unsafe {
        let mut now: sigaction = zeroed();
        libc::sigaction(SIGURG, ptr::null(), &mut now);
        // Another's handler that came meanwhile stays.
        if now.sa_sigaction == interrupted as *const () as usize {
            libc::sigaction(SIGURG, &zeroed::<sigaction>(), ptr::null_mut());
        }
    }
}

extern "C" fn interrupted(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // Other signals of the kind tell of sockets.
    // SAFETY: the kernel gives a valid siginfo_t.
    if unsafe { (*info).si_code } == libc::SI_TKILL
        && let Some(handler) = HANDLER.get()
    {
        handler();
    }
}

/// What handles SIGPROF.
#[derive(Clone, Copy, Debug)]
pub enum Sigprof {
    /// Nothing.
    Free,
    /// A profiler with this handler, or a timer that runs without one.
    Taken(usize),
}

/// Whether a profiler is at work. May be asked in a signal's handler.
pub fn sigprof() -> Sigprof {
    // SAFETY: both calls only fill in what they are given; all zeros is valid in either.
    let (action, timer) = unsafe {
        let (mut action, mut timer): (sigaction, itimerval) = (zeroed(), zeroed());
        libc::sigaction(SIGPROF, ptr::null(), &mut action);
        libc::getitimer(libc::ITIMER_PROF, &mut timer);
        (action, timer)
    };
    match action.sa_sigaction {
        libc::SIG_DFL if timer.it_value.tv_sec == 0 && timer.it_value.tv_usec == 0 => Sigprof::Free,
        handler => Sigprof::Taken(handler),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    static INTERRUPTED_TIMES: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn a_thread_computes_or_sleeps() {
        assert!(ThreadHandle::current().computes());
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(ThreadHandle::current()).unwrap();
            assert!(ended.recv().is_err());
        });
        let other = told.recv().unwrap();
        while other.computes() {
            std::thread::yield_now();
        }
        drop(end);
        thread.join().unwrap();
        while other.computes() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_thread_that_computes_is_interrupted() {
        let interrupts = ThreadInterrupts::begin(|| _ = INTERRUPTED_TIMES.fetch_add(1, Ordering::SeqCst));
        assert!(interrupts.is_some() && ThreadInterrupts::begin(|| ()).is_none());
        let me = ThreadHandle::current();
        std::thread::scope(|s| {
            // SAFETY: the thread of this test outlives the scope.
            s.spawn(move || unsafe { me.interrupt() });
            while INTERRUPTED_TIMES.load(Ordering::SeqCst) == 0 {}
        });
        drop(interrupts);
        // SAFETY: this thread lives; nobody listens.
        unsafe { me.interrupt() };
        assert_eq!(INTERRUPTED_TIMES.load(Ordering::SeqCst), 1);
        assert!(matches!(sigprof(), Sigprof::Free));
    }
}
