//! `ipc.map`: a function in n threads, each with a Lua state of its own.

use std::ffi::c_int;
use std::rc::Rc;
use std::sync::Arc;

use mlua_sys as ffi;

use crate::bind::codec::{RESULTS_OF_MAP, Route};
use crate::bind::threads::worker::{self, Setup, call_init, said};
use crate::bind::vm::{Class, ClassInfo, FD, Kind, Lua, Method, Options, Pushed};
use crate::err;
use crate::error::{Code, Error, Result, words};
use crate::lua_fn;
use crate::sync::{Failure, NextEnd, ThreadGroup, WorkerContext};
use crate::sys::cpus;
use crate::text;
use crate::try_fn;
use crate::wait::{Source, Way, source};
use crate::wire::{Entry, Ledger, Message, Object, drop_deferred};

/// What the Lua module has of this file.
pub(in crate::bind) const FUNCTIONS: &[Method] =
    &[("map", lua_fn!("ipc.map", map)), ("map_extended", lua_fn!("ipc.map_extended", map_extended))];

/// `ipc.map`, the class.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<Map>("ipc.map", METHODS, &[]);

const METHODS: &[Method] = &[
    ("join", lua_fn!("map:join", join)),
    ("results", lua_fn!("map:results", results)),
    ("checkErrors", lua_fn!("map:checkErrors", check_errors)),
    ("poll", lua_fn!("map:poll", poll)),
    ("cancel", lua_fn!("map:cancel", cancel)),
    FD,
];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] =
    &[("join", try_fn!("map:join", join)), ("results", try_fn!("map:results", next_of))];

/// A handle on running threads. Collected, it cancels them.
struct Map {
    group: Rc<ThreadGroup<Results>>,
    route: Route,
}

impl Class for Map {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        let group = &self.group;
        let mut text = text!("ipc.map: {}{} threads, {} running", named(group.name()), group.count(), group.running());
        if group.failed() > 0 {
            text += &text!(", {} failed", group.failed());
        }
        text
    }

    fn source(&self, way: Way) -> Result<Option<Box<dyn Source>>> {
        let group = self.group.clone();
        Ok((way == Way::Read).then(|| source(group, |group| Some(group.has_ended()), |group| group.fd())))
    }

    fn object(&self) -> Option<Arc<dyn Object>> {
        Some(self.group.object())
    }
}

/// What a thread returned, as it is entered in the ledger of the state that started it.
#[derive(Debug)]
struct Results {
    message: Message,
    _entry: Entry,
}

/// The name of threads that were given none.
const NAMELESS: &str = "ipc.map";

fn named(name: &str) -> String {
    if name == NAMELESS { String::new() } else { text!("'{name}', ") }
}

/// `ipc.map(n, fn, ...)`, `ipc.map{threads=, fn=, args=, upvalues=, init=, name=}`.
fn map(lua: Lua<'_>) -> Result<Pushed> {
    if lua.kind(1) == Kind::Table {
        return map_table(lua);
    }
    let count = threads(lua)?;
    lua.check(2, Kind::Function)?;
    // No init: nil in its place.
    lua.push_nil();
    lua.insert(2);
    Start::listed(count, 0).start(lua)
}

/// `ipc.map_extended(n, init, fn, ...)`.
fn map_extended(lua: Lua<'_>) -> Result<Pushed> {
    let count = threads(lua)?;
    if !matches!(lua.kind(2), Kind::Nil | Kind::Function | Kind::String) {
        return Err(lua.expected(2, "a function, a string of Lua or nil"));
    }
    lua.check(3, Kind::Function)?;
    Start::listed(count, 1).start(lua)
}

/// The number of threads in slot 1.
fn threads(lua: Lua<'_>) -> Result<usize> {
    Ok(lua.whole_in(1, 0..=i64::from(u32::MAX))? as usize)
}

/// The form with a table of options.
fn map_table(lua: Lua<'_>) -> Result<Pushed> {
    let options = lua.options(1, &["threads", "fn", "args", "upvalues", "init", "name", "cancel"])?;
    let count = options.integer("threads", 0)?.map_or_else(cpus, |n| n as usize);
    let upvalues = options.boolean("upvalues")?.unwrap_or(false);
    let name = options.bytes("name")?.unwrap_or_else(|| NAMELESS.into());
    let cancel_code = cancel_code(options)?;
    let first = lua.top() + 1;
    push_init(lua, options)?;
    if options.push("fn")? != Kind::Function {
        return Err(err!(Argument, "option 'fn': expected a function, got {}", lua.describe(-1)));
    }
    push_args(lua, options)?;
    let route = if upvalues { Route::THREAD_UPVALUES } else { Route::THREAD };
    Start { count, route, name, cancel_code, first, arguments: "args[", shift: 0 }.start(lua)
}

/// Option `cancel`: whether a cancel shall end Lua code that calls nothing also where that costs speed.
pub(super) fn cancel_code(options: Options<'_>) -> Result<bool> {
    match options.string("cancel")?.as_deref() {
        None | Some("calls") => Ok(false),
        Some("code") => Ok(true),
        Some(other) => Err(err!(Argument, "option 'cancel': expected 'calls' or 'code', got '{other}'")),
    }
}

/// Pushes option `init`.
pub(super) fn push_init(lua: Lua<'_>, options: Options<'_>) -> Result<()> {
    if matches!(options.push("init")?, Kind::Nil | Kind::Function | Kind::String) {
        return Ok(());
    }
    let got = lua.describe(-1);
    Err(err!(Argument, "option 'init': expected a function or a string of Lua, got {got}"))
}

/// Pushes what `args` lists: `args.n` values, or as many as `#args` says.
fn push_args(lua: Lua<'_>, options: Options<'_>) -> Result<()> {
    match options.push("args")? {
        Kind::Nil => {
            lua.pop(1);
            return Ok(());
        }
        Kind::Table => {}
        _ => return Err(err!(Argument, "option 'args': expected a table, got {}", lua.describe(-1))),
    }
    let args = lua.top();
    lua.raw_get_field(args, "n")?;
    let count = lua.to_integer(-1).unwrap_or(lua.raw_len(args) as i64);
    lua.pop(1);
    let Some(count) = i32::try_from(count).ok().filter(|n| *n >= 0) else {
        return Err(err!(Argument, "option 'args': its n is {count}"));
    };
    lua.reserve(count.saturating_add(4))?;
    for n in 1..=count {
        lua.raw_get_index(args, n.into());
    }
    lua.remove(args);
    Ok(())
}

/// Everything that the threads of a map need, with init, function and arguments in the slots from `first` on.
struct Start {
    count: usize,
    route: Route,
    name: Vec<u8>,
    cancel_code: bool,
    first: c_int,
    /// How the arguments are called in errors.
    arguments: &'static str,
    /// How far their numbers are ahead of the codec's.
    shift: usize,
}

impl Start {
    /// For the forms that list everything in the call, from slot 2 on.
    fn listed(count: usize, shift: usize) -> Start {
        Start {
            count,
            route: Route::THREAD,
            name: NAMELESS.into(),
            cancel_code: false,
            first: 2,
            arguments: "argument #",
            shift,
        }
    }

    fn start(self, lua: Lua<'_>) -> Result<Pushed> {
        let mut init = None;
        if !lua.is_nil(self.first) {
            let message = init.insert(Message::default());
            lua.encode_values(self.first, 1, message, self.route).map_err(|e| self.renamed(e, 0))?;
        }
        let mut message = Message::default();
        lua.encode_top(lua.top() - self.first, &mut message, self.route).map_err(|e| self.renamed(e, 1))?;
        let plan = Plan {
            init,
            message,
            route: self.route,
            setup: Setup::new(lua, self.cancel_code)?,
            ledger: lua.state().account.ledger(),
        };
        let group = ThreadGroup::start_for(
            lua.state().owner().number(),
            &self.name,
            self.count,
            worker::STACK,
            move |context| plan.run(context),
        )?;
        lua.push_object(Map { group: Rc::new(group), route: self.route })?;
        Ok(1)
    }

    /// The codec counts values, of which there were `before` in another message; its user knows init, function and
    /// arguments.
    fn renamed(&self, e: Error, before: usize) -> Error {
        let Some((number, rest)) = e.what().strip_prefix("value ").map(split_number) else { return e };
        let name = match number + before {
            1 => "init".into(),
            2 => "the function".into(),
            n if self.arguments.ends_with('[') => text!("{}{}]", self.arguments, n - 2),
            n => text!("{}{}", self.arguments, n + self.shift),
        };
        Error::new(e.code(), "", words(format_args!("{name}{rest}")))
    }
}

/// What every thread of a map gets.
#[derive(Debug)]
struct Plan {
    /// A function or a string: a message of its own, since it may load what the other needs.
    init: Option<Message>,
    /// The function and its arguments: one message, so that what they share stays shared.
    message: Message,
    route: Route,
    setup: Setup,
    ledger: Arc<Ledger>,
}

impl Drop for Plan {
    fn drop(&mut self) {
        drop_deferred(std::mem::take(&mut self.message.attachments));
        if let Some(init) = &mut self.init {
            drop_deferred(std::mem::take(&mut init.attachments));
        }
    }
}

impl Plan {
    /// A thread's job.
    fn run(&self, context: &WorkerContext) -> std::result::Result<Results, Failure> {
        let mut message = Message::default();
        worker::run(&self.setup, &context.cancel, &mut |lua, handler| {
            self.perform(lua, handler, context.id, &mut message)
        })?;
        let entry = Entry::new(&self.ledger, message.weight());
        Ok(Results { message, _entry: entry })
    }

    /// Decodes, calls, encodes.
    fn perform(&self, lua: Lua<'_>, handler: c_int, id: usize, results: &mut Message) -> Result<()> {
        if let Some(init) = &self.init {
            lua.decode_values_shared(init, self.route).map_err(|e| said("cannot read its init:", e))?;
            call_init(lua, handler + 1, handler)?;
            lua.set_top(handler);
        }
        let values = lua
            .decode_values_shared(&self.message, self.route)
            .map_err(|e| said("cannot read its function and arguments:", e))?;
        lua.reserve(8)?;
        lua.push_integer(id as i64);
        // The arguments are all values but the function, and the id.
        lua.call_traced(values as c_int, ffi::LUA_MULTRET, handler)?;
        lua.at(RESULTS_OF_MAP)
            .encode_top(lua.top() - handler, results, self.route)
            .map_err(|e| said("cannot return its results:", e))
    }
}

/// The number that `text` begins with, and what follows it.
pub(super) fn split_number(text: &str) -> (usize, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].parse().unwrap_or(0), &text[end..])
}

/// `m:join([timeout])`: all results of thread 1, then of thread 2, …
fn join(lua: Lua<'_>) -> Result<Pushed> {
    let (group, route) = this(lua)?;
    let deadline = lua.timeout(2, None)?;
    if !group.wait(&lua.wait(deadline))? {
        return Err(out_of_time(&group));
    }
    raise_failure(lua, &group)?;
    let base = lua.top();
    let mut results = group.take_results();
    for at in 0..results.len() {
        let (id, result) = &results[at];
        if let Err((e, lost)) = read(lua, *id, &result.message, route) {
            // The others' results stay for the next join.
            if lost {
                results.remove(at);
            }
            group.put_back(results);
            return Err(e);
        }
    }
    Ok((lua.top() - base) as Pushed)
}

/// Pushes what thread `id` returned. An error says whether that is lost: it is not where another try may find memory,
/// or room on the Lua stack.
fn read(lua: Lua<'_>, id: usize, message: &Message, route: Route) -> std::result::Result<Pushed, (Error, bool)> {
    lua.reserve(20).and_then(|()| lua.decode_values_shared(message, route)).map_err(|e| {
        let lost = !lua.lacks_memory(&e);
        if e.code() == Code::Raised {
            return (e, lost);
        }
        let what = words(format_args!("the results of thread {id} cannot be read here: {}", e.what()));
        (Error::new(e.code(), "", what), lost)
    })
}

/// `for id, ... in m:results([timeout]) do`: what the threads return, as they end.
fn results(lua: Lua<'_>) -> Result<Pushed> {
    this(lua)?;
    lua.timeout(2, None)?;
    lua.push_iterator(lua_fn!("map:results", next))?;
    Ok(1)
}

/// One step of the iteration: the id and the results of a thread that has ended; nothing once all were given out.
fn next(lua: Lua<'_>) -> Result<Pushed> {
    lua.given();
    next_of(lua)
}

/// One step of the iteration over the map in slot 1, with the time-out in slot 2.
fn next_of(lua: Lua<'_>) -> Result<Pushed> {
    let (group, route) = this(lua)?;
    let deadline = lua.timeout(2, None)?;
    match group.next(&lua.wait(deadline))? {
        NextEnd::Nothing => Ok(0),
        NextEnd::OutOfTime => Err(out_of_time(&group)),
        NextEnd::Ended(id, Err(failure)) => Err(failed(lua, &group, id, &failure)),
        NextEnd::Ended(id, Ok(results)) => {
            lua.push_integer(id as i64);
            match read(lua, id, &results.message, route) {
                Ok(count) => Ok(1 + count),
                Err((e, lost)) => {
                    if !lost {
                        group.put_back([(id, results)]);
                    }
                    Err(e)
                }
            }
        }
    }
}

fn out_of_time(group: &ThreadGroup<Results>) -> Error {
    err!(Timeout, "{} of {} threads still run", group.running(), group.count())
}

/// `m:checkErrors()`: raises the error of a thread that has failed, without waiting.
fn check_errors(lua: Lua<'_>) -> Result<Pushed> {
    let (group, _) = this(lua)?;
    group.check()?;
    raise_failure(lua, &group)?;
    Ok(0)
}

/// `m:poll()`: how many threads still run.
fn poll(lua: Lua<'_>) -> Result<Pushed> {
    let (group, _) = this(lua)?;
    group.check()?;
    lua.push_integer(group.running() as i64);
    Ok(1)
}

/// `m:cancel()`.
fn cancel(lua: Lua<'_>) -> Result<Pushed> {
    let (group, _) = this(lua)?;
    group.check()?;
    group.cancel();
    Ok(0)
}

/// The map in slot 1, held beyond any finalizer that Lua runs meanwhile.
fn this(lua: Lua<'_>) -> Result<(Rc<ThreadGroup<Results>>, Route)> {
    let map = lua.object::<Map>(1)?;
    Ok((map.group.clone(), map.route))
}

/// The error of the first thread whose failure nobody was told yet.
fn raise_failure(lua: Lua<'_>, group: &ThreadGroup<Results>) -> Result<()> {
    group.take_failure().map_or(Ok(()), |(id, failure)| Err(failed(lua, group, id, &failure)))
}

/// The error that thread `id` has failed.
fn failed(lua: Lua<'_>, group: &ThreadGroup<Results>, id: usize, failure: &[u8]) -> Error {
    let head = match group.failed() {
        0 => text!("thread {id} of {}{} failed: ", named(group.name()), group.count()),
        n => {
            text!(
                "thread {id} of {}{} failed ({n} more did; call again for them): ",
                named(group.name()),
                group.count()
            )
        }
    };
    lua.failure(Code::Worker, &head, failure)
}
