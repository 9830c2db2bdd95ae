//! What to start, and how: turned into the system's terms, with pipes and files opened. Imports its sibling `output`
//! for a default.

use std::ffi::{CString, OsStr};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::output::KEPT;
use crate::err;
use crate::error::{Error, Lossy, Result};
use crate::sys::{Fd, Program, copy_fd, env_var, environment, pipe, set_nonblocking, spawn, try_push};

/// What a standard stream of a child is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// A pipe to this process.
    Pipe,
    /// The same stream of this process.
    Inherit,
    /// `/dev/null`.
    Null,
    /// A descriptor of this process.
    Fd(RawFd),
    /// A file: read from its beginning as stdin; else made, or emptied.
    Path(PathBuf),
    /// Only for stderr: where stdout goes.
    Stdout,
}

/// The environment of a child.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Environment {
    /// This process's.
    #[default]
    Same,
    /// `NAME=value` each, and nothing else.
    Only(Vec<CString>),
    /// This process's with these values; `None` takes a name away.
    With(Vec<(Vec<u8>, Option<Vec<u8>>)>),
}

/// A program to start.
#[derive(Clone, Debug)]
pub struct Command {
    /// A path, or a name that is looked for along `PATH`.
    pub file: CString,
    /// Its arguments, without its name.
    pub args: Vec<CString>,
    /// Its environment.
    pub env: Environment,
    /// The folder that it starts in; this process's where there is none.
    pub cwd: Option<CString>,
    /// Where it reads from.
    pub stdin: Stdio,
    /// Where it writes to.
    pub stdout: Stdio,
    /// Where it writes errors to.
    pub stderr: Stdio,
    /// Whether it leads a process group, which signals then go to.
    pub group: bool,
    /// How many bytes of an output are kept while calls wait for something else and nobody reads it.
    pub keep: usize,
}

impl Default for Command {
    fn default() -> Self {
        Command {
            file: CString::default(),
            args: Vec::new(),
            env: Environment::Same,
            cwd: None,
            stdin: Stdio::Pipe,
            stdout: Stdio::Pipe,
            stderr: Stdio::Inherit,
            group: false,
            keep: KEPT,
        }
    }
}

/// A child that runs, and our ends of its pipes.
pub(super) struct Started {
    pub pid: i32,
    pub stdin: Option<Fd>,
    pub stdout: Option<Fd>,
    pub stderr: Option<Fd>,
}

/// Whatever the child's end of a stream is; closed here once the child has it.
enum Theirs {
    Same,
    Fd(Fd),
    File(File),
}

impl Theirs {
    fn raw(&self) -> Option<RawFd> {
        match self {
            Theirs::Same => None,
            Theirs::Fd(fd) => Some(fd.as_raw_fd()),
            Theirs::File(file) => Some(file.as_raw_fd()),
        }
    }
}

impl Command {
    pub(super) fn start(&self) -> Result<Started> {
        let (theirs_in, stdin) = open(&self.stdin, 0)?;
        let (theirs_out, stdout) = open(&self.stdout, 1)?;
        let (theirs_err, stderr) = match (&self.stderr, theirs_out.raw()) {
            (Stdio::Stdout, fd) => (Theirs::Fd(copy_fd(fd.unwrap_or(1))?), None),
            (other, _) => open(other, 2)?,
        };
        let made = self.env.list()?;
        let env = match &self.env {
            Environment::Only(list) => Some(&list[..]),
            _ => made.as_deref(),
        };
        let program = Program {
            file: &self.file,
            args: &self.args,
            env,
            cwd: self.cwd.as_deref(),
            stdio: [theirs_in.raw(), theirs_out.raw(), theirs_err.raw()],
            group: self.group,
        };
        let pid = spawn(&program).map_err(|e| self.not_started(&e))?;
        Ok(Started { pid, stdin, stdout, stderr })
    }

    fn not_started(&self, e: &std::io::Error) -> Error {
        let file = Lossy(self.file.as_bytes());
        if let Some(cwd) = &self.cwd
            && let Err(e) = std::fs::read_dir(OsStr::from_bytes(cwd.as_bytes()))
            && e.kind() != ErrorKind::PermissionDenied
        {
            return err!(Io, "cannot start '{file}' in the folder '{}' (cwd): {e}", Lossy(cwd.as_bytes()));
        }
        match e.kind() {
            ErrorKind::OutOfMemory => Error::no_memory(),
            ErrorKind::NotFound if !self.file.as_bytes().contains(&b'/') => {
                let path = env_var("PATH").unwrap_or_default();
                err!(Io, "cannot start '{file}': there is no such program in PATH ({})", Lossy(path.as_bytes()))
            }
            _ => err!(Io, "cannot start '{file}': {e}").caused_by(e),
        }
    }
}

impl Environment {
    /// `NAME=value` each, where this changes some of this process's own.
    fn list(&self) -> Result<Option<Vec<CString>>> {
        let Environment::With(changes) = self else { return Ok(None) };
        let mut list = Vec::new();
        let changed = |entry: &[u8]| {
            changes.iter().any(|(name, _)| entry.strip_prefix(&**name).is_some_and(|rest| rest.starts_with(b"=")))
        };
        for entry in environment() {
            if !changed(&entry)
                && let Ok(entry) = CString::new(entry)
            {
                try_push(&mut list, entry)?;
            }
        }
        for (name, value) in changes {
            let Some(value) = value else { continue };
            let mut pair = Vec::new();
            pair.try_reserve_exact(name.len() + value.len() + 2)?;
            for part in [name, &b"="[..], value] {
                pair.extend_from_slice(part);
            }
            // What has a NUL in it was refused before.
            if let Ok(pair) = CString::new(pair) {
                try_push(&mut list, pair)?;
            }
        }
        Ok(Some(list))
    }
}

/// Opens what stream `number` of the child shall be: its end, and ours of a pipe.
fn open(stdio: &Stdio, number: RawFd) -> Result<(Theirs, Option<Fd>)> {
    let name = ["stdin", "stdout", "stderr"][number as usize];
    let file = |path: &PathBuf, write: bool| {
        let opened = OpenOptions::new().read(!write).write(write).create(write).truncate(write).open(path);
        let file = opened.map_err(|e| err!(Io, "{name}: cannot open '{}': {e}", path.display()))?;
        // In a process that has closed its standard streams a file may take their numbers.
        let theirs = if file.as_raw_fd() > 2 { Theirs::File(file) } else { Theirs::Fd(copy_fd(file.as_raw_fd())?) };
        Ok((theirs, None))
    };
    match stdio {
        Stdio::Inherit => Ok((Theirs::Same, None)),
        Stdio::Null => file(&PathBuf::from("/dev/null"), number > 0),
        Stdio::Path(path) => file(path, number > 0),
        Stdio::Stdout => Err(err!(Argument, "{name}: only stderr can go where stdout goes")),
        Stdio::Fd(fd) => match copy_fd(*fd) {
            Ok(copy) => Ok((Theirs::Fd(copy), None)),
            Err(e) => Err(err!(Argument, "{name}: descriptor {fd} cannot be used ({})", e.what())),
        },
        Stdio::Pipe => {
            let (read, write) = pipe()?;
            if number > 0 {
                return Ok((Theirs::Fd(write), Some(read)));
            }
            set_nonblocking(&write)?;
            Ok((Theirs::Fd(read), Some(write)))
        }
    }
}
