//! Language runtimes: what turns the frames of an interpreter's loop into the
//! functions of the program that it interprets.
//!
//! A runtime is found in a process by one of [`RUNTIMES`]. It reads what it
//! needs through `dyn Memory`, never stops a thread, and works in two steps:
//! [`Runtime::trace`] follows pointers while the thread is held, and
//! [`Runtime::resolve`] gives the frames their names after it was let go.

pub mod python;

use std::{fmt, ops::Range, sync::Arc};

use crate::{
    memory::{Address, Memory},
    module::{AddressSpace, Modules},
    stack::{ManagedFrame, ModuleId},
    task::Tid,
};
pub use crate::{
    stack::{Parked, ParkedKind, ParkedState, Variable},
    task::Lock,
};

/// A language runtime that was found in a process.
pub trait Runtime: fmt::Debug + Send {
    /// Its name and version, such as `CPython 3.12.1`.
    fn name(&self) -> &str;

    /// What was uncertain when it was found, and what could not be read since:
    /// a sentence each, each said once.
    fn notes(&mut self) -> Vec<String>;

    /// `thread` is going to be traced: find out beforehand what takes long.
    fn expect(&mut self, thread: Tid, memory: &dyn Memory);

    /// Follow the managed frames of `thread`, which is held or asleep.
    ///
    /// This runs while the target waits: it follows pointers and decodes
    /// nothing that it need not. `thread` is its number in its own namespace.
    /// `trace` is cleared and filled; whether the thread is the runtime's.
    fn trace(&mut self, thread: Tid, memory: &dyn Memory, trace: &mut Trace) -> bool;

    /// Whether the callers of the innermost function of a trace are, in the
    /// memory of another moment, what they are in the trace: as many of them as
    /// that memory has, and the nearest one at least.
    fn callers(&self, trace: &Trace, memory: &dyn Memory) -> Callers;

    /// Whether `at`, on which the thread of `trace` waits, belongs to the
    /// interpreter lock.
    fn is_lock(&mut self, trace: &Trace, at: Address, memory: &dyn Memory) -> bool;

    /// The code of the interpreter's loop, in the addresses of its image, for
    /// [`Entry::Holds`]; none where every entry is [`Entry::Within`].
    fn loops(&self) -> &[(ModuleId, Range<u64>)];

    /// The code of the garbage collector, in the addresses of its image: one
    /// frame of it at least is on the stack of a thread that collects. None where
    /// that is not known, or not needed ([`Collection::By`]).
    fn collector(&self) -> &[(ModuleId, Range<u64>)];

    /// What is shown in the place of the collector.
    fn collector_frame(&self) -> Arc<ManagedFrame>;

    /// Give the frames of a trace their names. `memory` is what it was made
    /// from.
    fn resolve(&mut self, trace: &Trace, places: Places, memory: &dyn Memory) -> Managed;

    /// The name that the program gave a thread of its own, if it did.
    fn thread_name(&mut self, thread: Tid, memory: &dyn Memory) -> Option<String>;

    /// The local variables of the frames of a trace, in its order, each value
    /// in at most `limit` characters; with `fields`, objects with those.
    fn locals(&mut self, trace: &Trace, detail: Detail, memory: &dyn Memory) -> Vec<Vec<Variable>>;

    /// The stacks that no thread is on, such as those of greenlets, in a fixed
    /// order. Nothing is stopped for it, and each is of the moment when it is
    /// looked at.
    ///
    /// `written` says where the process has memory of its own that it has written
    /// to, ascending; it is called only if there may be any such stacks.
    fn parked(
        &mut self,
        written: &mut dyn FnMut() -> Vec<Range<Address>>,
        places: Places,
        memory: &dyn Memory,
    ) -> Vec<Parked>;
}

/// How exactly is said what a frame runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// By lines: all that a profile tells apart.
    Lines,
    /// Also by columns.
    Columns,
}

/// How much of each value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// The most characters of one value.
    pub characters: usize,
    /// Whether an object that has no short form is shown with its fields.
    pub fields: bool,
}

/// The managed frames of a thread as pointers, and what was so at that moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Innermost first.
    pub frames: Vec<RawFrame>,
    /// The thread's own state in the runtime.
    pub thread: Address,
    /// What it has to do with the interpreter lock.
    pub lock: Lock,
    /// That the runtime's garbage collector runs, if it may be on this thread.
    pub collection: Option<Collection>,
    /// Why there may be more frames than these.
    pub cut: Option<Cut>,
}

/// A managed frame, not yet given a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawFrame {
    /// The frame's own address.
    pub at: Address,
    /// What it executes: a code object.
    pub code: Address,
    /// Where in it: in the runtime's own unit, as it stands in memory.
    pub instruction: u64,
    /// Set in the outermost frame of those that one run of the interpreter's
    /// loop executes: what is found in that loop's native frame.
    pub entry: Option<Entry>,
}

/// What is known of a run of the garbage collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// It was begun by the frame with this number in the trace; what is farther
    /// in was called by the collector.
    By(usize),
    /// It runs on the thread that has a native frame of the collector's
    /// ([`Runtime::collector`]).
    Somewhere {
        /// Whether it is taken to run on this thread, innermost, where no native
        /// frames are known, or none that are the collector's.
        likely: bool,
    },
}

/// How the native frame that executes some managed frames is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// This address lies in it.
    Within(Address),
    /// This word lies in it, or in one of the registers that it had.
    Holds(Address),
}

/// What the callers of a function are at another moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// The same, each where it was.
    Same,
    /// The same, but the nearest one is elsewhere in its code.
    Moved,
    /// Others, or unknown.
    Changed,
}

/// Why a trace ends before the outermost frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The next frame cannot be read, or is none.
    Unreadable,
    /// More frames than are kept.
    TooDeep,
}

/// The managed frames of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    /// Innermost segment first.
    pub segments: Vec<Segment>,
    /// Whether there should be more: what the next frame executes cannot be
    /// read, or is no code.
    pub unreadable: bool,
}

/// Managed frames that one run of an interpreter's loop executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// By what the native frame of that loop is recognised; `None` where the
    /// trace was cut.
    pub entry: Option<Entry>,
    /// Innermost first.
    pub frames: Vec<Arc<ManagedFrame>>,
}

/// What came of looking for a runtime of one kind in a process.
#[derive(Debug)]
pub enum Detected<R = Box<dyn Runtime>> {
    /// There is one.
    Found(R),
    /// There is one that cannot be read, or not yet: why, in a clause.
    Unreadable(String),
    /// There is none, or it has not yet begun.
    Nothing,
}

/// Looks for one kind of runtime in a process.
pub type Detect = fn(&mut AddressSpace, &mut Modules, &dyn Memory) -> Detected;

/// Every kind of runtime that is known, in the order in which they are looked
/// for.
pub const RUNTIMES: &[Detect] = &[python::detect];
