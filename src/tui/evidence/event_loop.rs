//! Event loops that do not come to ask for events.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    FEWEST, Finding, Window, finding::Share, heaviest, is_function, label, place, threads,
};
use crate::{
    task::{State, Syscall},
    tui::population::{Function, Path, Population},
};

/// System calls in which events are asked for.
const POLLS: [&str; 8] = [
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "io_uring_enter",
];

/// Functions that run an event loop, by name and by the end of the file's: as
/// of gevent 1 to 26, asyncio of Python 3.4 to 3.15, eventlet 0.20 to 0.40 and
/// trio 0.20 to 0.30. Whether what the loop runs has a stack of its own, on
/// which these are not.
const LOOPS: [(&str, &str, bool); 5] = [
    ("run", "gevent/hub.py", true),
    ("run", "eventlet/hubs/hub.py", true),
    ("run_forever", "asyncio/base_events.py", false),
    ("_run_once", "asyncio/base_events.py", false),
    ("unrolled_run", "trio/_core/_run.py", false),
];

/// The same in machine code: libuv, libev, libevent, GLib. In a program with a
/// language runtime they stand outside of its frames, where they are not shown.
const NATIVE_LOOPS: [&str; 4] = ["uv_run", "ev_run", "event_base_loop", "g_main_loop_run"];

/// Files of which a function is on a stack of its own only where a loop runs.
const BASES: [&str; 4] =
    ["workers/ggevent.py", "workers/geventlet.py", "gevent/pywsgi.py", "gevent/baseserver.py"];

/// Files of what belongs to a loop: what runs there takes turns.
const MACHINERY: [&str; 8] = [
    "/gevent/",
    "/greenlet/",
    "/eventlet/",
    "/asyncio/",
    "/uvloop/",
    "/trio/_core/",
    "/selectors.py",
    "<frozen selectors>",
];

/// What a function has to do with event loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It runs one. What the loop runs may be on stacks of its own.
    Loop { apart: bool },
    /// It belongs to one.
    Machinery { base: bool },
    /// None of that.
    Other,
}

impl Role {
    fn of(function: &Function) -> Self {
        let name = function.name.rsplit('.').next().unwrap_or_default();
        let Some(file) = function.file.as_deref().filter(|_| !function.native) else {
            return Self::of_code(function);
        };
        let runs = LOOPS.iter().find(|(known, end, _)| *known == name && file.ends_with(end));
        if let Some(&(_, _, apart)) = runs {
            return Self::Loop { apart };
        }
        let base = BASES.iter().any(|end| file.ends_with(end));
        if base || MACHINERY.iter().any(|part| file.contains(part)) {
            return Self::Machinery { base };
        }
        Self::of_code(function)
    }

    fn of_code(function: &Function) -> Self {
        if NATIVE_LOOPS.contains(&function.name.as_str()) {
            return Self::Loop { apart: function.native };
        }
        let belongs =
            ["uv_", "ev_", "epoll_"].iter().any(|start| bare(function).starts_with(start));
        if belongs || is_poll(function) { Self::Machinery { base: false } } else { Self::Other }
    }
}

/// A function's name without the underscores that C libraries begin some with.
fn bare(function: &Function) -> &str {
    function.name.trim_start_matches('_')
}

/// Whether a function is the C library's of a call in which events are asked
/// for.
pub(super) fn is_poll(function: &Function) -> bool {
    POLLS.contains(&bare(function)) || ["pselect", "pselect64"].contains(&bare(function))
}

fn polls(call: Syscall) -> bool {
    call.name().is_some_and(|name| POLLS.contains(&name))
}

/// What each function of a population has to do with event loops.
pub(super) struct Roles<'a> {
    population: &'a Population,
    roles: Vec<Role>,
}

/// What a loop's thread was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It asked for events, and waited for them.
    Polls,
    /// It ran its own code.
    Turns,
    /// Something else ran, and the loop did not.
    Kept,
    /// It is not known.
    Unknown,
}

impl<'a> Roles<'a> {
    pub(super) fn new(population: &'a Population) -> Self {
        Self { population, roles: population.functions.iter().map(Role::of).collect() }
    }

    fn of(&self, frame: (usize, Option<u32>)) -> Role {
        self.roles.get(frame.0).copied().unwrap_or(Role::Other)
    }

    fn function(&self, frame: (usize, Option<u32>)) -> Option<&'a Function> {
        self.population.functions.get(frame.0)
    }

    /// Whether a thread waits for events, for as long as there are none.
    pub(super) fn is_idle(&self, path: &Path) -> bool {
        self.turn(path, false) == Turn::Polls
    }

    /// What was done in a sample; `apart` says whether what the thread's loop
    /// runs has a stack of its own.
    fn turn(&self, path: &Path, apart: bool) -> Turn {
        let runs = |&frame: &(usize, Option<u32>)| matches!(self.of(frame), Role::Loop { .. });
        let from = path.frames.iter().rposition(runs);
        if from.is_none() && !apart {
            return Turn::Unknown;
        }
        let inner = path.frames.get(from.map_or(0, |from| from + 1)..).unwrap_or_default();
        let is_told = |&&frame: &&(usize, Option<u32>)| {
            self.function(frame).is_some_and(|it| !it.native && is_function(it))
        };
        let mut told = inner.iter().filter(is_told);
        let is_other = |&&frame: &&(usize, Option<u32>)| self.of(frame) == Role::Other;
        let others = told.clone().filter(is_other).count();
        let innermost = told.next_back().copied();
        let waits = matches!(path.state, State::Blocked(call) if polls(call)) && from.is_some();
        // A C library without symbols: the one frame that has no name is the
        // system call itself.
        let is_nameless = innermost
            .and_then(|frame| self.function(frame))
            .is_some_and(|it| it.file.is_none() && it.module.is_some());
        match innermost.map(|frame| self.of(frame)) {
            _ if waits && (others == 0 || others == 1 && is_nameless) => Turn::Polls,
            Some(Role::Other) => Turn::Kept,
            _ => Turn::Turns,
        }
    }
}

/// The event loop that is kept from asking for events for the most of its time,
/// if that is at least half of it.
pub(super) fn blocked(window: &Window<'_>, roles: &Roles<'_>) -> Option<Finding> {
    let threads = threads(window.seen);
    let mut found: Vec<_> = threads
        .into_iter()
        .filter_map(|(thread, paths)| {
            let all = || paths.iter().flat_map(|path| &path.frames).map(|&frame| roles.of(frame));
            let apart = all().any(|role| {
                matches!(role, Role::Loop { apart: true } | Role::Machinery { base: true })
            });
            let has_loop = apart || all().any(|role| matches!(role, Role::Loop { .. }));
            let ticks: u64 = paths.iter().map(|path| path.ticks).sum();
            if !has_loop || ticks < FEWEST {
                return None;
            }
            let whole = super::time(&paths);
            let kept: Vec<&Path> =
                paths.into_iter().filter(|path| roles.turn(path, apart) == Turn::Kept).collect();
            let part = super::time(&kept);
            (part >= whole / 2 && !part.is_zero()).then_some((part, whole, thread, kept))
        })
        .collect();
    found.sort_by(|one, other| (other.0, one.2).cmp(&(one.0, other.2)));
    let (part, whole, thread, kept) = found.into_iter().next()?;
    let by = heaviest(window.seen, &kept);
    Some(Finding::Loop {
        thread: (window.known.len() > 1).then(|| label(window, thread)),
        kept: Share { part, whole },
        by: by.map(|it| (place(window.seen, it.frame), Share { part: it.time, whole })),
        call: asleep(&kept, part),
    })
}

/// The system call in which most of the time is spent that is spent asleep, if
/// that is at least half.
fn asleep(paths: &[&Path], whole: Duration) -> Option<String> {
    let mut calls: FxHashMap<Syscall, Duration> = FxHashMap::default();
    for path in paths {
        if let State::Blocked(call) = path.state {
            let time = calls.entry(call).or_default();
            *time = time.saturating_add(path.time);
        }
    }
    let all = calls.values().fold(Duration::ZERO, |sum, &time| sum.saturating_add(time));
    let (call, _) = calls.into_iter().max_by_key(|&(call, time)| (time, call))?;
    (all >= whole / 2).then(|| call.to_string())
}
