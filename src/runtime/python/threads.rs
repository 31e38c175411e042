//! Which thread state belongs to which thread of the kernel's, and what it has
//! to do with the interpreter lock.

use std::ops::Range;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    detect::{Found, LockVariable, Variables},
    layout::{Chain, Collecting, Gil, InterpreterState, RuntimeState, ThreadState},
};
use crate::{
    memory::{Address, Memory},
    runtime::Lock,
    task::Tid,
};

/// How many interpreters, and how many threads of all of them, are looked at.
const MAX_INTERPRETERS: usize = 4096;
const MAX_THREADS: usize = 1 << 16;

/// How many interpreters are watched for new threads.
const MAX_WATCHED: usize = 16;

/// How many times a thread that is no Python thread is asked for, at most,
/// before the lists are read again for its sake.
const MAX_PATIENCE: u32 = 128;

/// `sizeof (struct _gil_runtime_state)` (Include/internal/pycore_gil.h): the
/// mutexes and conditions that threads wait for the lock by are in it.
pub const LOCK_SIZE: u64 = 208;

/// How many other threads are looked at to know whether all were stopped.
const MAX_OTHERS: usize = 64;

/// `_Py_THREAD_ATTACHED` (Include/internal/pycore_pystate.h).
const ATTACHED: i32 = 1;

/// The threads of all interpreters of a process.
#[derive(Clone, Debug)]
pub struct Threads {
    runtime: Address,
    variables: Variables,
    layout: (RuntimeState, InterpreterState, ThreadState),
    chain: Chain,
    thread_number: u32,
    /// The interpreters, and the first thread of each, as the lists were read.
    heads: Vec<(Address, Address)>,
    /// A thread has a state in each interpreter that it uses, newest first.
    known: FxHashMap<Tid, Vec<Known>>,
    unknown: FxHashMap<Tid, Patience>,
    notes: FxHashSet<&'static str>,
    said: FxHashSet<&'static str>,
    /// Whether a thread was not what it was, or an interpreter was made.
    is_stale: bool,
}

/// A thread that was found in the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    state: Address,
    /// Its `pthread_t`, where only the C library says its number.
    pthread: Option<Address>,
}

/// A thread that was not, and how much longer it is taken for none of Python's.
#[derive(Clone, Copy, Debug, Default)]
struct Patience {
    left: u32,
    next: u32,
}

impl Threads {
    /// Those of the interpreter that was found. Nothing is read yet.
    pub fn new(found: &Found) -> Self {
        Self {
            runtime: found.runtime,
            variables: found.variables,
            layout: (found.layout.runtime, found.layout.interpreter, found.layout.thread),
            chain: found.layout.frame.chain,
            thread_number: found.thread_number,
            heads: Vec::new(),
            known: FxHashMap::default(),
            unknown: FxHashMap::default(),
            notes: FxHashSet::default(),
            said: FxHashSet::default(),
            is_stale: false,
        }
    }

    /// The state of `thread`, which is its number in its own namespace; `None`
    /// when it is no Python thread.
    ///
    /// What is known is checked with a few reads each time. The lists are read
    /// when a thread is not known, or is not what it was, or when another
    /// interpreter was made; for the sake of a thread that is not in them, ever
    /// more rarely.
    pub fn state(&mut self, thread: Tid, memory: &dyn Memory) -> Option<Address> {
        if let Some(known) = self.known.get(&thread) {
            let hold = known.iter().all(|&known| self.holds(thread, known, memory));
            if hold && self.is_current(memory) {
                return self.running(known, memory);
            }
        } else if let Some(patience) = self.unknown.get_mut(&thread)
            && let Some(left) = patience.left.checked_sub(1)
        {
            patience.left = left;
            return None;
        }
        self.is_stale = false;
        self.read_lists(memory);
        let found = self.known.get(&thread).and_then(|known| self.running(known, memory));
        if found.is_some() {
            self.unknown.remove(&thread);
        } else {
            // Numbers come and go; what is forgotten is only looked for once more.
            if self.unknown.len() >= MAX_THREADS {
                self.unknown.clear();
            }
            let patience = self.unknown.entry(thread).or_default();
            patience.left = patience.next;
            patience.next = (patience.next * 2 + 1).min(MAX_PATIENCE);
        }
        found
    }

    /// Whether `thread` was found in the lists, and these are still so.
    pub fn knows(&self, thread: Tid) -> bool {
        !self.is_stale && self.known.contains_key(&thread)
    }

    /// The state of `thread`, if it is known and what it was: a few reads, for
    /// the time in which the thread is held. What has changed is found out when
    /// it is next asked for with [`Self::state`].
    pub fn check(&mut self, thread: Tid, memory: &dyn Memory) -> Option<Address> {
        let known = self.known.get(&thread)?;
        let hold = known.iter().all(|&known| self.holds(thread, known, memory));
        self.is_stale |= !hold || !self.is_current(memory);
        if hold { self.running(known, memory) } else { None }
    }

    /// The states that `thread` has in other interpreters than the one that it
    /// runs with `state`, as they were when they were last found or checked.
    pub fn others(&self, thread: Tid, state: Address) -> impl Iterator<Item = Address> {
        let known = self.known.get(&thread).map_or(&[][..], Vec::as_slice);
        known.iter().map(|known| known.state).filter(move |&other| other != state)
    }

    /// What could not be read: a sentence each, each said once.
    pub fn notes(&mut self) -> Vec<String> {
        let said = &mut self.said;
        self.notes.drain().filter(|note| said.insert(note)).map(str::to_owned).collect()
    }

    /// The interpreter of the thread with this state.
    pub fn interpreter(&self, state: Address, memory: &dyn Memory) -> Option<Address> {
        self.layout.2.interpreter.get(memory, state).ok().filter(|at| at.0 != 0)
    }

    /// What the thread with this state has to do with the interpreter lock, as
    /// far as its state says it: that it waits only 3.15 says.
    pub fn lock(&self, state: Address, memory: &dyn Memory) -> Lock {
        let (_, interpreter, thread) = &self.layout;
        if !self.has_lock(state, memory) {
            return Lock::Without;
        }
        let says = |flag: i32| flag == 1;
        if let (Some(holds), Some(wants)) = (thread.holds_gil, thread.gil_requested) {
            return match (holds.get(memory, state), wants.get(memory, state)) {
                (Ok(holds), _) if says(holds) => Lock::Held,
                (_, Ok(wants)) if says(wants) => Lock::Wanted,
                _ => Lock::Without,
            };
        }
        let held = match interpreter.gil {
            Gil::Global { holder, absolute: false, .. } => {
                holder.get(memory, self.runtime).is_ok_and(|holder| holder == state)
            }
            Gil::Global { absolute: true, .. } => {
                let holder = self.variables.holder;
                holder.is_some_and(|at| memory.get::<Address>(at) == Ok(state))
            }
            Gil::Each { last_holder, locked, .. } => {
                let lock = self.lock_at(state, memory);
                lock.is_some_and(|lock| {
                    locked.get(memory, lock).is_ok_and(says)
                        && last_holder.get(memory, lock) == Ok(state)
                })
            }
            Gil::None => false,
        };
        if held { Lock::Held } else { Lock::Without }
    }

    /// The memory of the lock that the thread with this state needs: one that
    /// is blocked on a futex in it waits for the lock.
    pub fn lock_memory(&self, state: Address, memory: &dyn Memory) -> Option<Range<Address>> {
        if !self.has_lock(state, memory) {
            return None;
        }
        let (at, size) = match self.layout.1.gil {
            Gil::Global { absolute: true, .. } => match self.variables.lock? {
                LockVariable::At(at, size) => (at, size),
                LockVariable::Behind(variable, size) => (memory.get(variable).ok()?, size),
            },
            // With `enabled`, and what that is aligned by.
            Gil::Each { enabled: Some(_), .. } => (self.lock_at(state, memory)?, LOCK_SIZE + 8),
            _ => (self.lock_at(state, memory)?, LOCK_SIZE),
        };
        (at.0 != 0).then(|| at..at.plus(size))
    }

    /// Whether the collector runs in the interpreter of the thread with this
    /// state, on whichever of its threads.
    pub fn is_collecting(&self, state: Address, memory: &dyn Memory) -> bool {
        let interpreter = &self.layout.1;
        let flag = match interpreter.collecting {
            Collecting::Interpreter(flag) => {
                let owner = self.interpreter(state, memory);
                owner.and_then(|owner| flag.get(memory, owner).ok())
            }
            Collecting::Runtime(flag) => flag.get(memory, self.runtime).ok(),
            Collecting::Unknown => {
                self.variables.collecting.and_then(|flag| memory.get::<i32>(flag).ok())
            }
        };
        flag == Some(1)
    }

    /// The frame that the collector was begun by, if it runs and the
    /// interpreter says so (3.15).
    pub fn collects_for(&self, state: Address, memory: &dyn Memory) -> Option<Address> {
        let frame = self.layout.1.collects_for?;
        frame.get(memory, self.interpreter(state, memory)?).ok().filter(|frame| frame.0 != 0)
    }

    /// Whether the collector, if it runs, may run on the thread with this state:
    /// on the one that has the lock, or without locks on the only one that was
    /// not stopped for it. While others run beside the collector it is not said
    /// of any.
    pub fn may_collect(&self, state: Address, memory: &dyn Memory) -> bool {
        match self.layout.2.attachment.filter(|_| !self.has_lock(state, memory)) {
            Some(attachment) => {
                let runs = |state: Address| attachment.get(memory, state) == Ok(ATTACHED);
                let mut others = self.known.values().flatten().filter(|it| it.state != state);
                runs(state) && !others.by_ref().take(MAX_OTHERS).any(|it| runs(it.state))
            }
            None => self.lock(state, memory) == Lock::Held,
        }
    }

    /// Whether the interpreter of the thread with this state has a lock:
    /// free-threaded builds can do with and without.
    fn has_lock(&self, state: Address, memory: &dyn Memory) -> bool {
        match self.layout.1.gil {
            Gil::None => false,
            Gil::Each { enabled: Some(enabled), .. } => {
                let lock = self.lock_at(state, memory);
                lock.is_some_and(|lock| enabled.get(memory, lock).is_ok_and(|flag| flag != 0))
            }
            Gil::Each { .. } | Gil::Global { .. } => true,
        }
    }

    fn lock_at(&self, state: Address, memory: &dyn Memory) -> Option<Address> {
        let at = match self.layout.1.gil {
            Gil::Global { absolute: false, lock, .. } => lock?.of(self.runtime),
            Gil::Each { pointer, .. } => {
                pointer.get(memory, self.interpreter(state, memory)?).ok()?
            }
            Gil::Global { absolute: true, .. } | Gil::None => return None,
        };
        Some(at).filter(|at| at.0 != 0)
    }

    /// Of the states of a thread the one that it runs with: which has the lock,
    /// or else the newest that has frames.
    fn running(&self, known: &[Known], memory: &dyn Memory) -> Option<Address> {
        let states = || known.iter().map(|known| known.state);
        if known.len() <= 1 {
            return states().next();
        }
        let held = states().find(|&state| self.lock(state, memory) == Lock::Held);
        let framed = || states().find(|&state| self.has_frames(state, memory));
        held.or_else(framed).or_else(|| states().next())
    }

    fn has_frames(&self, state: Address, memory: &dyn Memory) -> bool {
        let behind = self.chain.cframe().map(|cframe| cframe.current_frame);
        let first = self.layout.2.frame.get(memory, state);
        let frame = match (first, behind) {
            (Ok(first), Some(field)) => field.get(memory, first),
            (first, _) => first,
        };
        frame.is_ok_and(|frame| frame.0 != 0)
    }

    /// Whether there are the same interpreters as when the lists were read; and,
    /// where there are several, no new threads in any, since a thread that is
    /// known may have begun to use another.
    fn is_current(&self, memory: &dyn Memory) -> bool {
        let (runtime, interpreter, _) = &self.layout;
        let first = runtime.interpreters_head.get(memory, self.runtime).ok();
        let same = |&(at, head): &(Address, Address)| {
            interpreter.threads_head.get(memory, at).is_ok_and(|now| now == head)
        };
        let watched = if self.heads.len() > 1 { MAX_WATCHED } else { 0 };
        first == self.heads.first().map(|&(at, _)| at) && self.heads.iter().take(watched).all(same)
    }

    /// Whether `known` still is a state of `thread`.
    fn holds(&self, thread: Tid, known: Known, memory: &dyn Memory) -> bool {
        let layout = &self.layout.2;
        let number = match (known.pthread, layout.native_thread_id) {
            (None, Some(number)) => number.get(memory, known.state).ok().and_then(tid),
            (pthread, _) => {
                let now = layout.thread_id.get(memory, known.state).ok().map(Address);
                pthread.filter(|_| now == pthread).and_then(|now| self.number(now, memory))
            }
        };
        // What was freed has the allocator's own words where the links were.
        let linked = || {
            let next = layout.next.get(memory, known.state);
            next.is_ok_and(|next| next.0 % 8 == 0 && next.0 >> 56 == 0)
        };
        number == Some(thread) && linked()
    }

    /// The kernel's number of a thread, as the C library has it.
    fn number(&self, pthread: Address, memory: &dyn Memory) -> Option<Tid> {
        let number = memory.get(pthread.plus(self.thread_number.into())).ok()?;
        Some(Tid(number)).filter(|tid| tid.0 > 0)
    }

    /// Read the threads of all interpreters anew.
    fn read_lists(&mut self, memory: &dyn Memory) {
        let (runtime, interpreter, _) = self.layout;
        self.known.clear();
        self.heads.clear();
        let (mut seen, mut interpreters) = (FxHashSet::default(), FxHashSet::default());
        let mut next = runtime.interpreters_head.get(memory, self.runtime).ok();
        while let Some(at) = next.filter(|at| at.0 != 0) {
            if interpreters.len() >= MAX_INTERPRETERS {
                self.notes.insert("there are more interpreters than are looked at");
                break;
            }
            if !interpreters.insert(at) {
                self.notes.insert("the list of interpreters leads back into itself");
                break;
            }
            let head = interpreter.threads_head.get(memory, at).unwrap_or_default();
            self.heads.push((at, head));
            self.read_list((at, head), &mut seen, memory);
            next = interpreter.next.get(memory, at).ok();
        }
    }

    /// Read the threads of one interpreter.
    fn read_list(
        &mut self,
        (interpreter, head): (Address, Address),
        seen: &mut FxHashSet<Address>,
        memory: &dyn Memory,
    ) {
        let layout = self.layout.2;
        let mut next = Some(head);
        while let Some(state) = next.filter(|at| at.0 != 0) {
            if seen.len() >= MAX_THREADS {
                self.notes.insert("there are more Python threads than are looked at");
                return;
            }
            if !seen.insert(state) {
                self.notes.insert("a list of Python threads leads back into itself");
                return;
            }
            // A list that changed under the eyes of the reader leads elsewhere.
            if layout.interpreter.get(memory, state) != Ok(interpreter) {
                return;
            }
            self.add(state, memory);
            next = layout.next.get(memory, state).ok();
        }
    }

    fn add(&mut self, state: Address, memory: &dyn Memory) {
        let layout = self.layout.2;
        if let Some(number) = layout.native_thread_id {
            if let Some(thread) = number.get(memory, state).ok().and_then(tid) {
                self.known.entry(thread).or_default().push(Known { state, pthread: None });
            }
            return;
        }
        let Ok(pthread) = layout.thread_id.get(memory, state).map(Address) else { return };
        if let Some(thread) = self.number(pthread, memory) {
            let known = Known { state, pthread: Some(pthread) };
            self.known.entry(thread).or_default().push(known);
        }
    }
}

/// A number of the kernel's, of a word of CPython's.
fn tid(word: u64) -> Option<Tid> {
    i32::try_from(word).ok().filter(|&number| number > 0).map(Tid)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{super::tables, *};
    use crate::memory::{Fault, Piece};

    const RUNTIME: Address = Address(0x1000);
    const INTERPRETER: u64 = 0x2000;

    /// A process with CPython 3.11, which counts how often the lists are read.
    struct Process {
        piece: Piece,
        scans: Cell<usize>,
    }

    impl Process {
        /// With one interpreter that has these states (address, next, number).
        fn with(states: &[(u64, u64, u64)]) -> Self {
            let piece = Piece { start: RUNTIME, bytes: vec![0; 0x9000] };
            let mut process = Self { piece, scans: Cell::new(0) };
            process.set(RUNTIME.0 + 40, INTERPRETER);
            process.set(INTERPRETER + 16, states.first().map_or(0, |state| state.0));
            for &(state, next, number) in states {
                process.set(state + 8, next);
                process.set(state + 16, INTERPRETER);
                process.set(state + 160, number);
            }
            process
        }

        fn set(&mut self, at: u64, word: u64) {
            let from = usize::try_from(at - RUNTIME.0).unwrap();
            self.piece.bytes[from..from + 8].copy_from_slice(&word.to_le_bytes());
        }
    }

    impl Memory for Process {
        fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
            let next = Address(INTERPRETER);
            self.scans.set(self.scans.get() + usize::from(at == next));
            self.piece.read(at, into)
        }
    }

    fn threads() -> Threads {
        let layout = tables::layout((3, 11)).unwrap();
        Threads {
            runtime: RUNTIME,
            variables: Variables::default(),
            layout: (layout.runtime, layout.interpreter, layout.thread),
            chain: layout.frame.chain,
            thread_number: 720,
            heads: Vec::new(),
            known: FxHashMap::default(),
            unknown: FxHashMap::default(),
            notes: FxHashSet::default(),
            said: FxHashSet::default(),
            is_stale: false,
        }
    }

    #[test]
    fn a_known_thread_is_not_looked_for_again() {
        let mut process = Process::with(&[(0x3000, 0x4000, 7), (0x4000, 0, 8)]);
        let mut threads = threads();
        for _ in 0..100 {
            assert_eq!(threads.state(Tid(8), &process), Some(Address(0x4000)));
            assert_eq!(threads.state(Tid(7), &process), Some(Address(0x3000)));
        }
        assert_eq!(process.scans.get(), 1);
        // Another thread has taken its place.
        process.set(0x4000 + 160, 9);
        assert_eq!(threads.state(Tid(8), &process), None);
        assert_eq!(threads.state(Tid(9), &process), Some(Address(0x4000)));
        assert_eq!(process.scans.get(), 2);
    }

    #[test]
    fn a_thread_that_is_none_is_looked_for_ever_more_rarely() {
        let process = Process::with(&[(0x3000, 0, 7)]);
        let mut threads = threads();
        for _ in 0..10_000 {
            assert_eq!(threads.state(Tid(8), &process), None);
        }
        let scans = process.scans.get();
        assert!((70..100).contains(&scans), "{scans}");
    }

    #[test]
    fn lists_that_lead_back_end() {
        let mut process = Process::with(&[(0x3000, 0x4000, 7), (0x4000, 0x3000, 8)]);
        process.set(INTERPRETER, INTERPRETER);
        let mut threads = threads();
        assert_eq!(threads.state(Tid(8), &process), Some(Address(0x4000)));
        assert_eq!(threads.notes().len(), 2);
        assert_eq!(threads.known.len(), 2);
        assert_eq!(threads.notes(), Vec::<String>::new());
    }

    #[test]
    fn numbers_that_no_thread_has_are_none() {
        let process = Process::with(&[(0x3000, 0x4000, 0), (0x4000, u64::MAX - 7, u64::MAX)]);
        let mut threads = threads();
        assert_eq!(threads.state(Tid(0), &process), None);
        assert!(threads.known.is_empty());
    }
}
