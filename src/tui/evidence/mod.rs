//! What is certain, in one sentence: the gravest first.
//!
//! A sentence is said only where the samples leave little doubt, and never
//! without the numbers that it rests on.

mod event_loop;
mod finding;

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use event_loop::{Roles, is_poll};
pub use finding::{Finding, Share};
use rustc_hash::FxHashMap;

use super::{
    population::{Function, Path, Population, margin},
    screen::{Evidence, Gauges},
    tabs,
    update::{ProcessNow, ThreadNow},
};
use crate::{
    profile::{ProcessId, Thread, ThreadId},
    style,
    task::{Lock, State, Syscall},
};

/// Fewer samples than these tell nothing for certain: one of them more or less
/// would move a share by 2 %.
const FEWEST: u64 = 50;

/// The most letters of a name.
const LONGEST: usize = 60;

/// What was seen in a while, and what is so at its end.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// The samples of all threads in all states, each with the time on the wall
    /// that it stands for, and with the machine code that the innermost
    /// functions of a language runtime have called.
    pub seen: &'a Population,
    /// The target's condition.
    pub gauges: &'a Gauges,
    /// All threads ever seen, by [`ThreadId`].
    pub known: &'a [Thread],
    /// What threads do at its end.
    pub threads: &'a [ThreadNow],
    /// The processes at its end.
    pub processes: &'a [ProcessNow],
    /// The processes at its beginning.
    pub before: &'a [ProcessNow],
    /// When it began, by the clock of the recording.
    pub from: Duration,
    /// When it ended, likewise.
    pub at: Duration,
}

/// What is certain, if anything is.
pub fn of(window: &Window<'_>) -> Option<Evidence> {
    let finding = find(window)?;
    Some(Evidence { grave: finding.is_grave(), text: finding.to_string() })
}

/// The gravest thing that is certain, if anything is.
pub fn find(window: &Window<'_>) -> Option<Finding> {
    if window.seen.ticks < FEWEST || window.at <= window.from {
        return None;
    }
    let roles = Roles::new(window.seen);
    throttled(window)
        .or_else(|| lock_bound(window))
        .or_else(|| event_loop::blocked(window, &roles))
        .or_else(|| spinning(window))
        .or_else(|| one_function(window))
        .or_else(|| short_of_processors(window))
        .or_else(|| one_wait(window, &roles))
}

/// A control group that was kept from running more than once, for at least 5 %
/// of the time.
fn throttled(window: &Window<'_>) -> Option<Finding> {
    let elapsed = window.at.saturating_sub(window.from);
    let grown = window.processes.iter().filter_map(|process| {
        let (times, time) = process.throttled?;
        let before = window.before.iter().find(|it| it.process == process.process);
        let (times_before, time_before) = before?.throttled?;
        let (times, time) = (times.saturating_sub(times_before), time.saturating_sub(time_before));
        (times > 1 && time >= elapsed / 20).then_some((time, times, process))
    });
    let (time, times, process) = grown.max_by_key(|it| (it.0, it.1, Reverse(it.2.pid)))?;
    Some(Finding::Throttled { who: who(window, process.process), times, time, window: elapsed })
}

/// A process in which the lock is held for at least three quarters of the time,
/// and half a thread or more waits for it.
fn lock_bound(window: &Window<'_>) -> Option<Finding> {
    let elapsed = window.at.saturating_sub(window.from);
    let mut locks: BTreeMap<ProcessId, (Vec<&Path>, Duration)> = BTreeMap::new();
    for path in &window.seen.stacks {
        let Some(thread) = window.known.get(path.thread.0 as usize) else { continue };
        let (held, wanted) = locks.entry(thread.process).or_default();
        match path.lock {
            Lock::Without => {}
            Lock::Held => held.push(path),
            Lock::Wanted => *wanted = wanted.saturating_add(path.time),
        }
    }
    let bound = locks.into_iter().filter(|(_, (held, wanted))| {
        time(held) >= elapsed.mul_f64(0.75) && *wanted >= elapsed / 2 && ticks(held) >= FEWEST
    });
    let (process, (held, wanted)) =
        bound.max_by_key(|(id, (_, wanted))| (*wanted, Reverse(*id)))?;
    let share = |part: Duration| Share { part, whole: elapsed };
    let mut holders: BTreeMap<ThreadId, Vec<&Path>> = BTreeMap::new();
    for path in &held {
        holders.entry(path.thread).or_default().push(path);
    }
    let (holder, paths) =
        holders.into_iter().max_by_key(|(id, paths)| (time(paths), Reverse(*id)))?;
    Some(Finding::Lock {
        who: who(window, process),
        held: share(time(&held)),
        waiting: wanted.as_secs_f64() / elapsed.as_secs_f64(),
        holder: label(window, holder),
        by_holder: share(time(&paths)),
        place: heaviest(window.seen, &paths).map(|it| place(window.seen, it.frame)),
    })
}

/// A thread that runs nine tenths of the time, half of it and more inside a
/// call in which it should sleep until there is something to do, or which does
/// nothing else than let others run.
fn spinning(window: &Window<'_>) -> Option<Finding> {
    let innermost = |path: &Path| {
        let function = window.seen.functions.get(path.frames.last()?.0)?;
        // Functions of a language may be called so, too.
        let is_code = function.native || function.module.is_some();
        let name = function.name.trim_start_matches('_');
        (is_code && (is_poll(function) || name == "sched_yield")).then_some(name)
    };
    let mut found = Vec::new();
    for (thread, paths) in threads(window.seen) {
        let whole = time(&paths);
        let running: Vec<&Path> =
            paths.into_iter().filter(|path| path.state.is_runnable()).collect();
        let runs = time(&running);
        if ticks(&running) < FEWEST || runs < whole.mul_f64(0.9) {
            continue;
        }
        let mut calls: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
        for path in running {
            if let Some(call) = innermost(path) {
                calls.entry(call).or_default().push(path);
            }
        }
        let all = calls.values().fold(Duration::ZERO, |sum, paths| sum.saturating_add(time(paths)));
        let Some((call, paths)) = calls.into_iter().max_by_key(|(_, paths)| time(paths)) else {
            continue;
        };
        if all >= runs / 2 {
            found.push((all, runs, whole, thread, call, paths));
        }
    }
    let (all, runs, whole, thread, call, paths) =
        found.into_iter().max_by_key(|it| (it.0, Reverse(it.3)))?;
    let from = heaviest(window.seen, &paths).filter(|it| innermost_is_not(&paths, it.frame));
    Some(Finding::Spin {
        thread: label(window, thread),
        running: Share { part: runs, whole },
        call: call.to_owned(),
        calling: Share { part: all, whole: runs },
        place: from.map(|it| place(window.seen, it.frame)),
    })
}

/// Whether `frame` is not what all of `paths` end with.
fn innermost_is_not(paths: &[&Path], frame: Frame) -> bool {
    paths.iter().any(|path| path.frames.last().is_none_or(|last| last.0 != frame.0))
}

/// A function that is innermost for more than half of the time on a processor,
/// whatever the samples leave in doubt.
fn one_function(window: &Window<'_>) -> Option<Finding> {
    let running: Vec<&Path> =
        window.seen.stacks.iter().filter(|path| path.state == State::Running).collect();
    let (whole, samples) = (time(&running), ticks(&running));
    if samples < FEWEST || whole.is_zero() {
        return None;
    }
    let mut own: FxHashMap<usize, Duration> = FxHashMap::default();
    for path in &running {
        if let Some(&(function, _)) = path.frames.last() {
            let time = own.entry(function).or_default();
            *time = time.saturating_add(path.time);
        }
    }
    let (function, part) = own.into_iter().max_by_key(|&(index, time)| (time, Reverse(index)))?;
    let share = part.as_secs_f64() / whole.as_secs_f64();
    // Half of next to nothing is nothing: at least a tenth of a processor.
    let elapsed = window.at.saturating_sub(window.from);
    if share - margin(share, samples) <= 0.5 || part < elapsed / 10 {
        return None;
    }
    let line = window.seen.functions.get(function).filter(|it| is_function(it))?.line;
    let (function, share) = (place(window.seen, (function, line)), Share { part, whole });
    Some(Finding::Function { function, share, cores: window.gauges.cores })
}

/// Threads that could run and wait for a processor a quarter of the time.
fn short_of_processors(window: &Window<'_>) -> Option<Finding> {
    let runnable: Vec<&Path> =
        window.seen.stacks.iter().filter(|path| path.state.is_runnable()).collect();
    let whole = time(&runnable);
    let queued: Vec<&Path> =
        runnable.iter().copied().filter(|path| path.state == State::Queued).collect();
    let part = time(&queued);
    let enough = ticks(&runnable) >= FEWEST && !part.is_zero();
    (enough && part >= whole / 4).then_some(Finding::Queue { queued: Share { part, whole } })
}

/// System calls in which a thread waits to be given something to do.
const IDLE: [&str; 12] = [
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "select",
    "pselect6",
    "accept",
    "accept4",
    "pause",
    "rt_sigtimedwait",
    "rt_sigsuspend",
    "wait4",
    "waitid",
];

/// One call from one stack in which the threads that are not idle spend four
/// fifths of their time and more.
fn one_wait(window: &Window<'_>, roles: &Roles<'_>) -> Option<Finding> {
    let idles = |path: &Path| {
        let State::Blocked(call) = path.state else { return false };
        roles.is_idle(path) || call.name().is_some_and(|name| IDLE.contains(&name))
    };
    let busy: Vec<_> = threads(window.seen)
        .into_iter()
        .filter(|(_, paths)| {
            let idle: Vec<&Path> = paths.iter().copied().filter(|path| idles(path)).collect();
            time(&idle) < time(paths).mul_f64(0.9)
        })
        .collect();
    let ran = |paths: &[&Path]| paths.iter().any(|path| path.state.is_runnable());
    // Those that never ran, if none did, unless they wait for each other: that
    // is how those of a pool wait for work.
    let is_one_active = busy.iter().any(|(_, paths)| ran(paths));
    let futex =
        |path: &&Path| matches!(path.state, State::Blocked(call) if call.name() == Some("futex"));
    let counts =
        |paths: &[&Path]| if is_one_active { ran(paths) } else { !paths.iter().all(futex) };
    let paths: Vec<&Path> =
        busy.into_iter().filter(|(_, paths)| counts(paths)).flat_map(|(_, paths)| paths).collect();
    let whole = time(&paths);
    if ticks(&paths) < FEWEST {
        return None;
    }
    let mut waits: FxHashMap<(Syscall, &[Frame]), Vec<&Path>> = FxHashMap::default();
    for path in paths {
        if let State::Blocked(call) = path.state {
            waits.entry((call, &path.frames)).or_default().push(path);
        }
    }
    let ((call, _), paths) =
        waits.into_iter().max_by_key(|(place, paths)| (time(paths), Reverse(*place)))?;
    let part = time(&paths);
    if part < whole.mul_f64(0.8) {
        return None;
    }
    let is_there = |it: &&ThreadNow| {
        it.state == State::Blocked(call) && paths.iter().any(|path| path.thread == it.thread)
    };
    let object = window.threads.iter().find(is_there).and_then(|it| it.wait.clone());
    Some(Finding::Wait {
        share: Share { part, whole },
        call: call.to_string(),
        place: heaviest(window.seen, &paths).map(|it| place(window.seen, it.frame)),
        object: object.map(|text| style::clip(&text, 2 * LONGEST).into_owned()),
    })
}

/// A function, as an index into [`Population::functions`], and its line.
type Frame = (usize, Option<u32>);

/// The stacks of each thread.
fn threads(population: &Population) -> BTreeMap<ThreadId, Vec<&Path>> {
    let mut threads: BTreeMap<ThreadId, Vec<&Path>> = BTreeMap::new();
    for path in &population.stacks {
        threads.entry(path.thread).or_default().push(path);
    }
    threads
}

fn time(paths: &[&Path]) -> Duration {
    paths.iter().fold(Duration::ZERO, |sum, path| sum.saturating_add(path.time))
}

fn ticks(paths: &[&Path]) -> u64 {
    paths.iter().fold(0, |sum, path| sum.saturating_add(path.ticks))
}

/// Where most of a time goes.
struct Heaviest {
    frame: Frame,
    /// All of the function's time.
    time: Duration,
}

/// The function in which most of the time of `paths` is spent: of each stack
/// the innermost of the program's own, which is where its owner will look.
fn heaviest(population: &Population, paths: &[&Path]) -> Option<Heaviest> {
    let mut functions: FxHashMap<usize, Duration> = FxHashMap::default();
    let mut lines: FxHashMap<Frame, Duration> = FxHashMap::default();
    for path in paths {
        let Some(frame) = own_frame(population, path) else { continue };
        let add = |time: &mut Duration| *time = time.saturating_add(path.time);
        add(functions.entry(frame.0).or_default());
        add(lines.entry(frame).or_default());
    }
    let (function, time) =
        functions.into_iter().max_by_key(|&(index, time)| (time, Reverse(index)))?;
    let of_function = lines.into_iter().filter(|((index, _), _)| *index == function);
    let (frame, _) = of_function.max_by_key(|&(frame, time)| (time, Reverse(frame)))?;
    Some(Heaviest { frame, time })
}

/// The innermost frame of the program's own, or else of its language, or else
/// the innermost.
fn own_frame(population: &Population, path: &Path) -> Option<Frame> {
    let known = || {
        let frames = path.frames.iter().rev();
        let known = frames.filter_map(|&frame| Some((frame, population.functions.get(frame.0)?)));
        known.filter(|(_, function)| is_function(function))
    };
    let told = || known().filter(|(_, function)| !function.native);
    let own = told().find(|(_, function)| function.file.is_some() && !is_library(function));
    own.or_else(|| told().next()).or_else(|| known().next()).map(|(frame, _)| frame)
}

/// What stands in the place of frames that are not known is none.
fn is_function(function: &Function) -> bool {
    !function.name.starts_with('[')
}

/// Whether a function was installed with others' packages, with Python, or as
/// part of the C library.
fn is_library(function: &Function) -> bool {
    let file = function.file.as_deref().unwrap_or_default();
    let module = function.module.as_deref().unwrap_or_default();
    let installed = ["/site-packages/", "/dist-packages/", "/lib/python", "/lib64/python"];
    let c = ["libc.", "libc-", "ld-", "libpthread"];
    file.starts_with('<')
        || installed.iter().any(|home| file.contains(home))
        || c.iter().any(|start| module.starts_with(start))
}

/// A function, and where: `save_user (db.py:121)`.
fn place(population: &Population, (index, line): Frame) -> String {
    let Some(function) = population.functions.get(index) else { return "?".to_owned() };
    let name = style::clip_middle(&function.name, LONGEST);
    let place = tabs::place(function, line.or(function.line));
    let place = style::clip_middle(&place, LONGEST);
    if place.is_empty() { name.into_owned() } else { format!("{name} ({place})") }
}

/// A thread's name, with its process where there are several.
fn label(window: &Window<'_>, thread: ThreadId) -> String {
    let Some(known) = window.known.get(thread.0 as usize) else { return "a thread".to_owned() };
    let name = style::clip(&known.name, LONGEST);
    match who(window, known.process) {
        Some(who) => format!("{name} ({who})"),
        None => name.into_owned(),
    }
}

/// Which process, where there are several.
fn who(window: &Window<'_>, process: ProcessId) -> Option<String> {
    let [_, _, ..] = window.processes else { return None };
    let known = window.processes.iter().find(|it| it.process == process)?;
    Some(known.pid.to_string())
}

#[cfg(test)]
mod tests;
