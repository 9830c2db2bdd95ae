//! `ipc.spawn`: another program, with pipes to it.

use std::ffi::{CString, OsString, c_int};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use crate::bind::process::file::file_at;
use crate::bind::vm::{Class, ClassInfo, FD, Holder, Kind, Lua, Method, Options, Pushed};
use crate::err;
use crate::error::{Lossy, Result, words};
use crate::lua_fn;
use crate::sync::{Amount, Command, Environment, KEPT, Pipe, Process, Stdio};
use crate::sys::{check_memory, signal_number, try_bytes, try_push};
use crate::text;
use crate::try_fn;
use crate::wait::{Deadline, Source, Wait, Way, source};
use crate::wire::{Attachment, Object, downcast};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("spawn", lua_fn!("ipc.spawn", spawn))];

/// The class `ipc.spawn`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<Child>("ipc.spawn", METHODS, &[]);

const METHODS: &[Method] = &[
    ("pid", lua_fn!("spawn:pid", pid)),
    ("running", lua_fn!("spawn:running", running)),
    ("wait", lua_fn!("spawn:wait", wait)),
    ("kill", lua_fn!("spawn:kill", kill)),
    ("stdin", lua_fn!("spawn:stdin", stdin)),
    ("stdout", lua_fn!("spawn:stdout", stdout)),
    ("stderr", lua_fn!("spawn:stderr", stderr)),
    ("stdoutFileId", lua_fn!("spawn:stdoutFileId", stdout_file_id)),
    ("stderrFileId", lua_fn!("spawn:stderrFileId", stderr_file_id)),
    FD,
];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] = &[
    ("wait", try_fn!("spawn:wait", wait)),
    ("stdin", try_fn!("spawn:stdin", stdin)),
    ("stdout", try_fn!("spawn:stdout", stdout)),
    ("stderr", try_fn!("spawn:stderr", stderr)),
];

/// A handle on a process; the last one that is collected ends it.
pub(super) struct Child(pub(super) Arc<Process>);

impl Class for Child {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        text!("{}", self.0)
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Object(self.0.clone()))
    }

    /// Ready once it has ended.
    fn source(&self, way: Way) -> Result<Option<Box<dyn Source>>> {
        let process = self.0.clone();
        let ended = |process: &Arc<Process>| Some(!process.running().unwrap_or(false));
        Ok((way == Way::Read).then(|| source(process, ended, |process| process.end_fd())))
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(Child)
    }
}

/// The process in slot 1, held beyond any finalizer that Lua runs meanwhile.
fn this(lua: Lua<'_>) -> Result<Arc<Process>> {
    Ok(lua.object::<Child>(1)?.0.clone())
}

const KNOWN: &[&str] = &["file", "args", "env", "cwd", "stdin", "stdout", "stderr", "group", "keep"];

/// `ipc.spawn{file=, args=, env=, cwd=, stdin=, stdout=, stderr=, group=, keep=}`
fn spawn(lua: Lua<'_>) -> Result<Pushed> {
    lua.check(1, Kind::Table)?;
    let options = lua.options(1, KNOWN)?;
    let Some(file) = options.bytes("file")? else {
        return Err(err!(Argument, "option 'file': expected a string, got nil (the program to start)"));
    };
    if file.is_empty() {
        return Err(err!(Argument, "option 'file': expected the name of a program, got an empty string"));
    }
    let cwd = options.bytes("cwd")?.map(|path| c_string("option 'cwd'", path)).transpose()?;
    let command = Command {
        file: c_string("option 'file'", file)?,
        args: args(lua, options)?,
        env: environment(lua, options)?,
        cwd,
        stdin: stdio(lua, options, "stdin", Stdio::Pipe)?,
        stdout: stdio(lua, options, "stdout", Stdio::Pipe)?,
        stderr: stdio(lua, options, "stderr", Stdio::Inherit)?,
        group: options.boolean("group")?.unwrap_or(false),
        keep: options.integer("keep", 0)?.map_or(KEPT, |n| usize::try_from(n).unwrap_or(usize::MAX)),
    };
    lua.push_object(Child(Arc::new(Process::start(command)?)))?;
    Ok(1)
}

/// What C takes as a string: without a NUL in it.
fn c_string(what: &str, bytes: Vec<u8>) -> Result<CString> {
    // For the NUL at its end, which takes new memory where there is no room.
    let mut bytes = bytes;
    bytes.try_reserve_exact(1)?;
    CString::new(bytes)
        .map_err(|e| err!(Argument, "{what}: no NUL can be passed on, and one is at {}", e.nul_position() + 1))
}

/// The string or number on top, which is popped, as text.
fn text(lua: Lua<'_>, what: impl Fn() -> String) -> Result<Vec<u8>> {
    match lua.kind(-1) {
        Kind::String => {}
        Kind::Number => {
            // As Lua writes it.
            lua.protect(1, 1, |l| {
                // SAFETY: in protect everything may be called; slot 1 is a number of our own.
                unsafe { mlua_sys::lua_tolstring(l, 1, std::ptr::null_mut()) };
                1
            })?;
        }
        _ => return Err(err!(Argument, "{}: expected a string or a number, got {}", what(), lua.describe(-1))),
    }
    let bytes = lua.with_bytes(-1, try_bytes).unwrap_or_else(|| Ok(Vec::new()));
    lua.pop(1);
    bytes
}

/// The list of arguments.
fn args(lua: Lua<'_>, options: Options<'_>) -> Result<Vec<CString>> {
    let mut args = Vec::new();
    match options.push("args")? {
        Kind::Nil => {}
        Kind::Table => args = list(lua, "args")?,
        _ => return Err(err!(Argument, "option 'args': expected a table, got {}", lua.describe(-1))),
    }
    lua.pop(1);
    Ok(args)
}

/// The strings of the list on top.
fn list(lua: Lua<'_>, name: &str) -> Result<Vec<CString>> {
    let table = lua.top();
    let mut strings = Vec::new();
    for n in 1..=lua.raw_len(table) as i64 {
        lua.raw_get_index(table, n);
        let what = || text!("{name}[{n}]");
        check_memory()?;
        try_push(&mut strings, c_string(&what(), text(lua, what)?)?)?;
    }
    Ok(strings)
}

/// The environment: a list of `NAME=value`, or a table of values by name; with neither in it, it changes nothing.
fn environment(lua: Lua<'_>, options: Options<'_>) -> Result<Environment> {
    let mut env = Environment::Same;
    match options.push("env")? {
        Kind::Nil => {}
        Kind::Table if lua.raw_len(lua.top()) > 0 => env = replacing(lua)?,
        Kind::Table => env = changing(lua)?,
        _ => return Err(err!(Argument, "option 'env': expected a table, got {}", lua.describe(-1))),
    }
    lua.pop(1);
    Ok(env)
}

fn replacing(lua: Lua<'_>) -> Result<Environment> {
    let table = lua.top();
    let list = list(lua, "env")?;
    if let Some(n) = list.iter().position(|entry| !entry.as_bytes().contains(&b'=')) {
        let entry = Lossy(list[n].as_bytes());
        return Err(err!(Argument, "env[{}]: expected 'NAME=value', got '{entry}'", n + 1));
    }
    lua.push_nil();
    while lua.next(table)? {
        lua.pop(1);
        if lua.kind(-1) != Kind::Number {
            let wrong = |name: &str| {
                err!(Argument, "option 'env': it has a list, which replaces the environment, and '{name}'")
            };
            return Err(lua.with_str(-1, wrong).unwrap_or_else(|| wrong("another key")));
        }
    }
    Ok(Environment::Only(list))
}

fn changing(lua: Lua<'_>) -> Result<Environment> {
    let table = lua.top();
    let mut changes = Vec::new();
    lua.push_nil();
    while lua.next(table)? {
        let name = lua.with_bytes(-2, |name| match name {
            _ if name.is_empty() || name.contains(&b'=') || name.contains(&0) => {
                let name = Lossy(name);
                Err(err!(Argument, "option 'env': '{name}' cannot be the name of a variable"))
            }
            name => try_bytes(name),
        });
        let Some(name) = name.transpose()? else {
            return Err(err!(Argument, "option 'env': expected names as keys, got a {}", lua.kind(-2).name()));
        };
        // false takes a variable away.
        let value = if lua.kind(-1) == Kind::Boolean && !lua.truth(-1) {
            lua.pop(1);
            None
        } else {
            let what = || words(format_args!("env.{}", Lossy(&name))).into_owned();
            Some(c_string(&what(), text(lua, what)?)?.into_bytes())
        };
        check_memory()?;
        try_push(&mut changes, (name, value))?;
    }
    Ok(Environment::With(changes))
}

/// What a standard stream shall be.
fn stdio(lua: Lua<'_>, options: Options<'_>, name: &'static str, default: Stdio) -> Result<Stdio> {
    let kind = options.push(name)?;
    let slot = lua.top();
    let found = match kind {
        Kind::Nil => Some(default),
        Kind::Number => lua.to_integer(slot).and_then(|n| c_int::try_from(n).ok()).filter(|n| *n >= 0).map(Stdio::Fd),
        Kind::String => {
            let named = lua.with_bytes(slot, |text| match text {
                b"pipe" => Ok(Some(Stdio::Pipe)),
                b"inherit" => Ok(Some(Stdio::Inherit)),
                b"null" => Ok(Some(Stdio::Null)),
                b"stdout" if name == "stderr" => Ok(Some(Stdio::Stdout)),
                path if path.is_empty() || path.contains(&0) => Ok(None),
                path => try_bytes(path).map(|path| Some(Stdio::Path(OsString::from_vec(path).into()))),
            });
            named.transpose()?.flatten()
        }
        _ => file_at(lua, slot)?.map(Stdio::Fd),
    };
    let stdio = found.ok_or_else(|| {
        let got = lua.describe(slot);
        err!(
            Argument,
            "option '{name}': expected 'pipe', 'inherit', 'null', a path, a descriptor or an open file, got {got}"
        )
    })?;
    lua.pop(1);
    Ok(stdio)
}

/// `p:pid()`
fn pid(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(this(lua)?.pid().into());
    Ok(1)
}

/// `p:running()`
fn running(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(this(lua)?.running()?);
    Ok(1)
}

/// The signal in slot `i`: its number, or its name with or without SIG.
fn signal(lua: Lua<'_>, i: c_int) -> Result<i32> {
    match lua.kind(i) {
        Kind::Number => Ok(lua.integer_in(i, 1..=64)? as i32),
        Kind::String => {
            let name = lua.str(i)?;
            signal_number(name).ok_or_else(|| lua.bad_value(i, format_args!("there is no signal '{name}'")))
        }
        _ => Err(lua.expected(i, "a signal (its number or its name)")),
    }
}

/// `p:wait([signal], [timeout])` → exit code, and the signal's name where one ended it that was not ours.
fn wait(lua: Lua<'_>) -> Result<Pushed> {
    let process = this(lua)?;
    let (sent, deadline) = match lua.kind(2) {
        Kind::Table => (None, lua.no_more(3).and_then(|()| lua.timeout(2, None))?),
        _ => (lua.optional(2, signal)?, lua.timeout(3, None)?),
    };
    // Once, however often a call is tried.
    let kill = || sent.map_or(Ok(false), |signal| process.kill(signal));
    match lua.non_blocking() {
        Some(non_blocking) => _ = non_blocking.state(kill)?,
        None => _ = kill()?,
    }
    let exit = process.wait(&lua.wait(deadline));
    lua.recharge::<Child>(1);
    let Some(exit) = exit? else {
        return Err(err!(Timeout, "process {} has not ended in time", process.pid()));
    };
    lua.push_integer(exit.code.into());
    match exit.signal {
        Some(name) => lua.push_string(&name)?,
        None => return Ok(1),
    }
    Ok(2)
}

/// `p:kill([signal])` → whether it still ran.
fn kill(lua: Lua<'_>) -> Result<Pushed> {
    let process = this(lua)?;
    let signal = lua.optional(2, signal)?.unwrap_or(libc::SIGTERM);
    lua.push_boolean(process.kill(signal)?);
    Ok(1)
}

/// `p:stdin([s], [timeout])`: writes all of `s`; nothing: closes.
fn stdin(lua: Lua<'_>) -> Result<Pushed> {
    let process = this(lua)?;
    let deadline = lua.timeout(3, None)?;
    match lua.kind(2) {
        Kind::None | Kind::Nil => process.close_stdin(&lua.wait(deadline))?,
        Kind::String if !lua.is_non_blocking() => {
            process.write(lua.bytes(2)?, &lua.wait(deadline))?;
            lua.recharge::<Child>(1);
        }
        // What a try has written is not to be written again by the next.
        Kind::String | Kind::Number => {
            lua.push_value(2);
            let bytes = text(lua, String::new)?;
            lua.on_own_thread(deadline, || move |wait: &Wait| process.write(&bytes, wait))?;
        }
        _ => return Err(lua.expected(2, "a string or a number")),
    }
    Ok(0)
}

/// How much to read, as io.read takes it; and the deadline after it.
fn amount(lua: Lua<'_>) -> Result<(Amount, Deadline)> {
    let amount = match lua.kind(2) {
        Kind::None | Kind::Nil => Amount::Line { whole: false },
        Kind::Table => {
            lua.no_more(3)?;
            return Ok((Amount::Line { whole: false }, lua.timeout(2, None)?));
        }
        Kind::Number => Amount::UpTo(usize::try_from(lua.integer_in(2, 1..=i64::MAX)?).unwrap_or(usize::MAX)),
        Kind::String => match lua.bytes(2)? {
            b"*line" | b"*l" | b"l" => Amount::Line { whole: false },
            b"*L" | b"L" => Amount::Line { whole: true },
            b"*all" | b"*a" | b"a" => Amount::All,
            other => {
                let other = Lossy(other);
                return Err(
                    lua.bad_value(2, format_args!("expected '*line', '*all' or a number of bytes, got '{other}'"))
                );
            }
        },
        _ => return Err(lua.expected(2, "'*line', '*all' or a number of bytes")),
    };
    Ok((amount, lua.timeout(3, None)?))
}

fn read(lua: Lua<'_>, pipe: Pipe) -> Result<Pushed> {
    let process = this(lua)?;
    let (amount, deadline) = amount(lua)?;
    let mut message = lua.state().take_message();
    let found = process.read(pipe, amount, &mut message.bytes, &lua.wait(deadline))?;
    lua.recharge::<Child>(1);
    if !found {
        lua.state().keep_message(message);
        lua.push_nil();
        return Ok(1);
    }
    let last = &lua.state().last;
    if last.takes(message.bytes.len()) {
        let bytes = &raw const *message.bytes;
        last.leave(bytes, Holder::Message(message));
    } else if let Err(e) = lua.push_bytes(&message.bytes) {
        process.put_back(pipe, message.bytes);
        return Err(e);
    }
    Ok(1)
}

/// `p:stdout(['*line'|'*all'|n], [timeout])` → a string, nil at the end.
fn stdout(lua: Lua<'_>) -> Result<Pushed> {
    read(lua, Pipe::Stdout)
}

/// `p:stderr(['*line'|'*all'|n], [timeout])`
fn stderr(lua: Lua<'_>) -> Result<Pushed> {
    read(lua, Pipe::Stderr)
}

/// `p:stdoutFileId([timeout])` → the descriptor; nil after its end. It waits for a read by another thread to end.
fn stdout_file_id(lua: Lua<'_>) -> Result<Pushed> {
    file_id(lua, Pipe::Stdout)
}

/// `p:stderrFileId([timeout])`
fn stderr_file_id(lua: Lua<'_>) -> Result<Pushed> {
    file_id(lua, Pipe::Stderr)
}

fn file_id(lua: Lua<'_>, pipe: Pipe) -> Result<Pushed> {
    let deadline = lua.timeout(2, None)?;
    match this(lua)?.output_fd(pipe, &lua.wait(deadline))? {
        Some(fd) => lua.push_integer(fd.into()),
        None => lua.push_nil(),
    }
    Ok(1)
}
