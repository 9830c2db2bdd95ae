//! What is alive and who waits for what: the first thing to look at when something seems stuck.
//!
//! Made from any thread, at any time: it takes no lock but those that are held for moments, and waits for nobody.

use std::fmt;

use crate::error::Result;
use crate::sys::{check_memory, getpid, monotonic_ns, try_push};
use crate::tensor::live_bytes;
use crate::text;
use crate::wait::{ThreadState, show_thread, threads};
use crate::wire::{each_live, identity};

/// What there is at one moment, more or less: nothing is stopped to take it.
#[derive(Debug)]
pub struct Report {
    /// When it was made, on the clock of [`monotonic_ns`].
    pub at: u64,
    /// The process.
    pub process: i32,
    /// All objects, oldest first.
    pub objects: Vec<ObjectState>,
    /// All threads that take part.
    pub threads: Vec<ThreadState>,
    /// Bytes that tensors hold.
    pub tensor_bytes: usize,
}

/// An object, as a report shows it.
#[derive(Debug)]
pub struct ObjectState {
    /// A number that no other object of the process has.
    pub number: u64,
    /// `ipc.workqueue`.
    pub class: &'static str,
    /// Its state in words.
    pub state: String,
    identity: usize,
}

impl Report {
    /// As it is now.
    pub fn now() -> Result<Report> {
        show_thread();
        let threads = threads();
        let (mut objects, mut done) = (Vec::new(), Ok(()));
        each_live(|number, object| {
            if done.is_ok() {
                let (class, state) = (object.class(), object.state());
                let object = ObjectState { number, class, state, identity: identity(object) };
                done = check_memory().and_then(|()| try_push(&mut objects, object));
            }
        })?;
        done?;
        Ok(Report { at: monotonic_ns(), process: getpid(), objects, threads, tensor_bytes: live_bytes() })
    }

    /// The object that a thread waits for.
    pub fn awaited(&self, thread: &ThreadState) -> Option<&ObjectState> {
        let wanted = thread.waits?.purpose.object;
        self.objects.iter().find(|object| object.identity == wanted)
    }
}

fn count(n: usize, what: &str) -> String {
    text!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl fmt::Display for ObjectState {
    /// `#3 ipc.workqueue: 'jobs', open, 0 questions, 0 answers`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {}", self.number, self.class)?;
        if self.state.is_empty() { Ok(()) } else { write!(f, ": {}", self.state) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (objects, threads) = (count(self.objects.len(), "object"), count(self.threads.len(), "thread"));
        write!(f, "process {}: {objects}, {threads}, tensors of {} bytes", self.process, self.tensor_bytes)?;
        for object in &self.objects {
            write!(f, "\n  {object}")?;
        }
        for thread in &self.threads {
            write!(f, "\n  {} ({}) ", thread.name, thread.id)?;
            let Some(waits) = thread.waits else {
                f.write_str(if thread.background { "serves in the background" } else { "runs" })?;
                continue;
            };
            write!(f, "waits in {}", waits.purpose.place)?;
            if let Some(object) = self.awaited(thread) {
                write!(f, " on #{}", object.number)?;
            }
            write!(f, ", for {:.3} s", self.at.saturating_sub(waits.since) as f64 / 1e9)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Limits, WorkQueue};
    use super::*;
    use crate::wait::{Owner, Purpose, Waits};
    use crate::wire::{Object, remember};
    use std::sync::Arc;

    #[test]
    fn a_report_says_who_waits_for_which_object() {
        let handle = WorkQueue::nameless(Limits::default(), Owner::new());
        let object: Arc<dyn Object> = handle.queue().unwrap().clone();
        remember(&object).unwrap();
        let mut report = Report::now().unwrap();
        let at = report.objects.iter().find(|o| o.identity == identity(&object)).unwrap();
        let shown = format!("#{} ipc.workqueue: open, 0 questions, 0 answers", at.number);
        assert_eq!(at.to_string(), shown);
        let purpose = Purpose { place: "workqueue:read", object: identity(&object) };
        let waits = Some(Waits { purpose, since: report.at - 1_500_000_000, for_ever: false });
        let line = format!("loader 3 (77) waits in workqueue:read on #{}, for 1.500 s", at.number);
        report.threads = vec![
            ThreadState { name: "main".into(), id: 5, waits: None, background: false },
            ThreadState { name: "loader 3".into(), id: 77, waits, background: false },
        ];
        let text = report.to_string();
        assert!(text.contains("\n  main (5) runs\n"), "{text}");
        assert!(text.contains(&shown) && text.ends_with(&line), "{text}");
    }
}
