//! The tabs that are made of a population alone: the icicle graph, the tree,
//! the waits and the source.
//!
//! A place in a graph is said as the steps that lead to it from the root, each
//! a `usize`. A step is the index of a function, in threads that run; what
//! threads do that sleep stands apart in the icicle graph, so there the step
//! is another one, and so is that to what they wait for, which is no function:
//! [`function_of`] and [`is_asleep`] tell. Indices are of one population:
//! [`keys`] and [`path`] carry a place over to the next.

mod flame;
mod graph;
mod source;
mod tree;
mod waits;

use std::{
    borrow::Cow,
    cmp::Ordering,
    hash::{DefaultHasher, Hash, Hasher},
};

pub use flame::{Way, flame, flame_path, walk};
use rustc_hash::FxHashMap;
pub use source::source;
pub use tree::{TreeOpen, tree};
pub use waits::waits;

use super::population::{Function, Population};
use crate::{
    output::{Paths, text},
    task::{State, Syscall},
};

/// Set in the steps of threads that sleep.
const ASLEEP: usize = 1 << 63;
/// Set in the steps to what is no function: what is below these two bits then
/// is a system call's number, or one of the following.
const NO_FUNCTION: usize = 1 << 62;
const FAULT: usize = 1 << 32;
const HALT: usize = FAULT + 1;
const NOTHING: usize = FAULT + 2;
const ALL: usize = FAULT + 3;
const CODE: usize = NO_FUNCTION - 1;

/// The step of the root, to which nothing leads.
const ROOT: usize = NO_FUNCTION | ALL;

/// The function to which `step` leads, as an index into
/// [`Population::functions`]; `None` where it leads to what is none.
pub const fn function_of(step: usize) -> Option<usize> {
    if step & NO_FUNCTION == 0 { Some(step & CODE) } else { None }
}

/// Whether `step` is of threads that sleep.
pub const fn is_asleep(step: usize) -> bool {
    step & ASLEEP != 0
}

/// What tells the steps of `path` from others in every population that has the
/// same functions.
pub fn keys(population: &Population, path: &[usize]) -> Vec<u64> {
    path.iter().map(|&step| key(population, step)).collect()
}

/// The steps of which these are the [`keys`], up to the first that `population`
/// does not have.
pub fn path(population: &Population, keys: &[u64]) -> Vec<usize> {
    if keys.is_empty() {
        return Vec::new();
    }
    let functions = 0..population.functions.len();
    let known: FxHashMap<u64, usize> =
        functions.rev().map(|step| (key(population, step), step)).collect();
    let step = |&key: &u64| {
        let bits = usize::try_from(key).ok()?;
        if bits & NO_FUNCTION != 0 {
            return Some(bits);
        }
        Some(known.get(&((bits & CODE) as u64))? | (bits & ASLEEP))
    };
    keys.iter().map_while(step).collect()
}

fn key(population: &Population, step: usize) -> u64 {
    match function_of(step).and_then(|index| population.functions.get(index)) {
        Some(function) => hash(function) & CODE as u64 | (step & ASLEEP) as u64,
        None => step as u64,
    }
}

/// The same in every run of this program.
fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The step to what a thread in `state` waits for.
fn wait_step(state: State) -> usize {
    let code = match state {
        State::Running | State::Queued => return NO_FUNCTION | NOTHING,
        State::Blocked(call) => call.0 as usize,
        State::Faulting => FAULT,
        State::Halted => HALT,
    };
    ASLEEP | NO_FUNCTION | code
}

/// What stands in the place to which `step` leads.
fn name(population: &Population, step: usize) -> Cow<'_, str> {
    if let Some(index) = function_of(step) {
        let function = population.functions.get(index);
        return Cow::Borrowed(function.map_or("?", |function| &function.name));
    }
    let state = match step & CODE {
        FAULT => State::Faulting,
        HALT => State::Halted,
        NOTHING => return Cow::Borrowed("[no frames]"),
        ALL => return Cow::Borrowed("all"),
        call => State::Blocked(Syscall(u32::try_from(call).unwrap_or(u32::MAX))),
    };
    Cow::Owned(text::wait(state).unwrap_or_default())
}

/// By what threads do, then by name, and by all else that tells functions
/// apart: the same in every population.
fn by_name(population: &Population, one: usize, other: usize) -> Ordering {
    let words = |step: usize| {
        let function = function_of(step).and_then(|index| population.functions.get(index));
        function.map(|it| (&it.file, &it.module, it.line, it.native))
    };
    is_asleep(one)
        .cmp(&is_asleep(other))
        .then_with(|| name(population, one).cmp(&name(population, other)))
        .then_with(|| words(one).cmp(&words(other)))
        .then(one.cmp(&other))
}

/// Where a function is, such as `shop/parser.py:118` or `libz.so.1`; `line` is
/// the one that is shown.
pub fn place(function: &Function, line: Option<u32>) -> String {
    match (&function.file, line, &function.module) {
        (Some(file), Some(line), _) => format!("{}:{line}", Paths::Short.of(file)),
        (Some(file), None, _) => Paths::Short.of(file).to_owned(),
        (None, _, Some(module)) => module.clone(),
        (None, _, None) => String::new(),
    }
}

#[cfg(test)]
pub(super) mod made {
    //! Populations for tests.

    use std::time::Duration;

    use crate::{
        profile::ThreadId,
        task::{Lock, State, Syscall},
        tui::population::{Function, Path, Population},
    };

    /// The state of a thread that is asleep in a system call.
    pub(in crate::tui) fn asleep(call: i64) -> State {
        State::Blocked(Syscall(u32::try_from(call).unwrap()))
    }

    /// Add a stack of thread `thread`, whose frames are written as
    /// `name[@file][:line]`, separated by blanks, the outermost first; `!` marks
    /// machine code; `ticks` of ten milliseconds.
    pub(in crate::tui) fn add(
        to: &mut Population,
        thread: u32,
        state: State,
        frames: &str,
        ticks: u64,
    ) -> usize {
        let frame = |text: &str| {
            let (native, text) = text.strip_prefix('!').map_or((false, text), |text| (true, text));
            let (text, line) = match text.rsplit_once(':') {
                Some((text, line)) => (text, line.parse().ok()),
                None => (text, None),
            };
            let (name, file) = match text.split_once('@') {
                Some((name, file)) => (name, Some(file.to_owned())),
                None => (text, None),
            };
            let name = name.to_owned();
            (Function { name, file, line: None, module: None, native }, line)
        };
        let frames = frames.split_whitespace().map(|text| {
            let (function, line) = frame(text);
            let known = to.functions.iter().position(|it| *it == function);
            let index = known.unwrap_or_else(|| {
                to.functions.push(function);
                to.functions.len() - 1
            });
            (index, line)
        });
        let frames = frames.collect();
        let time = Duration::from_millis(10) * u32::try_from(ticks).unwrap();
        let (thread, lock) = (ThreadId(thread), Lock::Without);
        to.stacks.push(Path { frames, thread, state, lock, ticks, time });
        to.ticks += ticks;
        to.time += time;
        to.stacks.len() - 1
    }

    /// Stacks of threads that run.
    pub(in crate::tui) fn running(stacks: &[(&str, u64)]) -> Population {
        let mut made = Population::default();
        for &(frames, ticks) in stacks {
            add(&mut made, 0, State::Running, frames, ticks);
        }
        made
    }

    /// `count` stacks of `depth` frames, no two of them alike.
    pub(in crate::tui) fn many(count: usize, depth: usize) -> Population {
        let name = |index: usize| Function { name: format!("f{index}"), ..Function::default() };
        let time = Duration::from_millis(10);
        let stacks = (0..count).map(|stack| {
            let frames = (0..depth).map(|level| (((stack >> (level % 16)) + level) % 4096, None));
            let frames = frames.chain([(4096 + stack, Some(1))]).collect();
            let (thread, state, lock) = (ThreadId(0), State::Running, Lock::Without);
            Path { frames, thread, state, lock, ticks: 1, time }
        });
        let ticks = count as u64;
        let all = time * u32::try_from(count).unwrap();
        let functions = (0..4096 + count).map(name).collect();
        Population { functions, stacks: stacks.collect(), ticks, time: all, on_cpu: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again_in_another_population() {
        let mut one = made::running(&[("main a@x.py b", 1), ("main a@y.py b", 1)]);
        made::add(&mut one, 1, made::asleep(libc::SYS_epoll_wait), "main b", 1);
        let mut other = made::running(&[("z a@y.py", 1), ("b main", 1)]);
        let wait = wait_step(made::asleep(libc::SYS_epoll_wait));
        let step = |population: &Population, name: &str, file: Option<&str>| {
            let of = |it: &Function| it.name == name && it.file.as_deref() == file;
            population.functions.iter().position(of).unwrap()
        };
        let way = |population: &Population| {
            [
                step(population, "main", None),
                step(population, "a", Some("y.py")),
                step(population, "b", None) | ASLEEP,
                wait,
            ]
        };
        let kept = keys(&one, &way(&one));
        assert_eq!(path(&other, &kept), way(&other));
        // From the first that is gone on there is nothing.
        other.functions.retain(|function| function.name != "a");
        assert_eq!(path(&other, &kept), [step(&other, "main", None)]);
        assert_eq!(path(&Population::default(), &kept), [] as [usize; 0]);
        assert_eq!(function_of(wait), None);
        assert_eq!(function_of(7 | ASLEEP), Some(7));
    }

    #[test]
    fn indices_that_lead_nowhere_have_a_name() {
        let none = Population::default();
        for step in [0, 7, ASLEEP | 3, ROOT, usize::MAX, wait_step(State::Halted)] {
            assert!(!name(&none, step).is_empty());
            keys(&none, &[step]);
        }
    }
}
