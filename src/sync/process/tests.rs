#![allow(clippy::unwrap_used)]
use super::*;
use crate::error::Code;
use crate::wait::Cancel;
use std::ffi::CString;
use std::thread::scope;

fn forever() -> Wait<'static> {
    Wait::until(Deadline::NEVER)
}

fn shell(script: &str) -> Command {
    let args = ["-c", script].map(|s| CString::new(s).unwrap()).to_vec();
    Command { file: c"sh".into(), args, ..Command::default() }
}

fn start(script: &str) -> Process {
    Process::start(shell(script)).unwrap()
}

fn read(child: &Process, pipe: Pipe, amount: Amount) -> Option<String> {
    let mut into = Vec::new();
    child.read(pipe, amount, &mut into, &forever()).unwrap().then(|| String::from_utf8(into).unwrap())
}

fn exit(code: i32, signal: Option<&str>) -> Option<Exit> {
    Some(Exit { code, signal: signal.map(Into::into) })
}

#[test]
fn what_it_writes_is_read_and_its_end_told_again_and_again() {
    let child = start("read a; echo got $a; exit 3");
    child.write(b"x\n", &forever()).unwrap();
    assert_eq!(read(&child, Pipe::Stdout, Amount::Line { whole: false }).unwrap(), "got x");
    assert_eq!(read(&child, Pipe::Stdout, Amount::All), None);
    for _ in 0..2 {
        assert_eq!(child.wait(&forever()).unwrap(), exit(3, None));
    }
    assert!(!child.running().unwrap() && !child.kill(libc::SIGTERM).unwrap());
    assert_eq!(child.to_string(), format!("ipc.spawn: sh, process {}, ended with 3", child.pid()));
}

#[test]
fn a_signal_of_ours_is_code_0_and_another_one_is_named() {
    let ours = start("exec sleep 100");
    assert!(ours.kill(libc::SIGKILL).unwrap());
    assert_eq!(ours.wait(&forever()).unwrap(), exit(0, None));
    let another = start("kill -9 $$");
    assert_eq!(another.wait(&forever()).unwrap(), exit(137, Some("SIGKILL")));
    let handled = start("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done");
    read(&handled, Pipe::Stdout, Amount::Line { whole: false }).unwrap();
    assert!(handled.kill(libc::SIGTERM).unwrap());
    assert_eq!(handled.wait(&forever()).unwrap(), exit(5, None));
}

#[test]
fn no_pipe_that_fills_up_holds_up_another() {
    let mut command = shell("head -c 300000 /dev/zero >&2; cat; head -c 300000 /dev/zero >&2; echo; echo end");
    command.stderr = Stdio::Pipe;
    let child = Process::start(command).unwrap();
    let text = vec![b'x'; 300_000];
    child.write(&text, &forever()).unwrap();
    child.close_stdin(&forever()).unwrap();
    assert_eq!(read(&child, Pipe::Stdout, Amount::Line { whole: false }).unwrap().len(), text.len());
    assert_eq!(child.wait(&forever()).unwrap(), exit(0, None));
    assert_eq!(read(&child, Pipe::Stderr, Amount::All).unwrap().len(), 600_000);
    assert_eq!(read(&child, Pipe::Stdout, Amount::All).unwrap(), "end\n");
}

#[test]
fn time_runs_out_and_the_next_call_goes_on() {
    let child = start("printf ab; cat; printf cd");
    let late = || Wait::until(Deadline::after(0.02));
    let line = Amount::Line { whole: false };
    assert_eq!(child.read(Pipe::Stdout, line, &mut Vec::new(), &late()).unwrap_err().code(), Code::Timeout);
    child.write(b"-", &forever()).unwrap();
    assert!(child.running().unwrap());
    child.close_stdin(&forever()).unwrap();
    assert_eq!(read(&child, Pipe::Stdout, line).unwrap(), "ab-cd");
    let silent = start("exec sleep 100");
    assert_eq!(silent.wait(&late()).unwrap(), None);
    assert_eq!(silent.write(b"x", &forever()).unwrap_err().code(), Code::Closed);
    let deaf = start("exec sleep 100");
    let e = deaf.write(&vec![0; 1 << 20], &late()).unwrap_err();
    assert_eq!(e.code(), Code::Timeout, "{e}");
}

#[test]
fn a_reader_and_a_waiter_do_not_take_from_each_other() {
    let child = start("i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); done");
    scope(|s| {
        s.spawn(|| assert_eq!(child.wait(&forever()).unwrap(), exit(0, None)));
        let lines = std::iter::from_fn(|| read(&child, Pipe::Stdout, Amount::Line { whole: false }));
        assert!(lines.eq((0..300).map(|n| n.to_string())));
    });
}

#[test]
fn a_cancel_ends_a_wait() {
    let (child, who) = (start("exec sleep 100"), Cancel::new());
    scope(|s| {
        s.spawn(|| {
            let e = child.wait(&Wait { deadline: Deadline::NEVER, interrupt: &who }).unwrap_err();
            assert_eq!(e.code(), Code::Cancelled);
        });
        who.fire();
    });
}

#[test]
fn one_that_is_dropped_is_ended_and_leaves_no_zombie() {
    let pids: Vec<i32> = (0..20).map(|_| start("exec sleep 100").pid()).collect();
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    for pid in pids {
        // SAFETY: signal 0 only asks; a zombie still counts as there.
        while unsafe { libc::kill(pid, 0) } == 0 {
            assert!(std::time::Instant::now() < give_up, "process {pid} is still there");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

#[test]
fn in_a_forked_child_it_is_the_parents_and_goes_on() {
    let child = start("cat");
    let code = crate::sys::fork_for_tests(|| {
        let state = |e: Error| e.code() == Code::State;
        state(child.wait(&forever()).unwrap_err())
            && state(child.kill(9).unwrap_err())
            && state(child.write(b"x", &forever()).unwrap_err())
    });
    assert_eq!(code, 0);
    child.write(b"still here", &forever()).unwrap();
    assert_eq!(child.wait(&forever()).unwrap(), exit(0, None));
    assert_eq!(read(&child, Pipe::Stdout, Amount::All).unwrap(), "still here");
}

#[test]
fn its_end_can_be_polled_for() {
    let readable = |child: &Process, deadline| {
        let fd = child.end_fd().unwrap();
        crate::wait::poll_fd(fd, Interest::Read, &Wait::until(deadline)).unwrap()
    };
    let child = start("cat");
    assert!(!readable(&child, Deadline::now()));
    child.close_stdin(&forever()).unwrap();
    assert!(readable(&child, Deadline::NEVER));
    child.wait(&forever()).unwrap();
    assert!(readable(&child, Deadline::now()));
    let ended = start("exit 0");
    ended.wait(&forever()).unwrap();
    assert!(readable(&ended, Deadline::now()));
}

#[test]
fn one_that_has_ended_holds_no_descriptor() {
    let child = start("sleep 0.01");
    child.wait(&forever()).unwrap();
    assert!(child.life.lock().fd.is_none());
    assert!(child.stdin.try_lock().unwrap().is_none());
    assert!(child.outputs.iter().all(|output| output.try_lock().unwrap().fd().is_none()));
}

#[test]
fn what_cannot_be_started_says_why() {
    let text = |command| Process::start(command).unwrap_err().to_string();
    let missing = || Command { file: c"no-such-program".into(), ..Command::default() };
    assert!(text(missing()).contains("cannot start 'no-such-program': there is no such program in PATH"));
    let there = Command { cwd: Some(c"/no/such/folder".into()), ..shell("exit") };
    assert!(text(there).contains("'/no/such/folder' (cwd)"));
    let unreadable = Command { stdin: Stdio::Path("/no/such/file".into()), ..shell("exit") };
    assert!(text(unreadable).contains("stdin: cannot open '/no/such/file'"));
    let closed = Command { stderr: Stdio::Fd(999_999), ..shell("exit") };
    assert!(text(closed).contains("stderr: descriptor 999999 cannot be used"));
}

#[test]
fn who_waits_while_another_writes_has_stdin_closed_after_that() {
    let child = start("sleep 0.1; exec cat >/dev/null");
    scope(|s| {
        // More than a pipe holds.
        s.spawn(|| child.write(&vec![0; 1 << 20], &forever()).unwrap());
        while child.stdin.try_lock().is_some() {
            std::thread::yield_now();
        }
        assert_eq!(child.wait(&forever()).unwrap(), exit(0, None));
    });
    assert_eq!(child.write(b"x", &forever()).unwrap_err().code(), Code::Closed);
}
