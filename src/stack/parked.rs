//! Stacks that no thread is on: greenlets and tasks that wait for their turn.

use std::sync::Arc;

use super::ManagedFrame;
use crate::memory::Address;

/// A greenlet or a task, as it was found in the memory of its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// What it is.
    pub kind: ParkedKind,
    /// The object's own address: what tells it from all others.
    pub at: Address,
    /// The name of its type, as Python has it: a greenlet may be of any that is
    /// derived from the basic one.
    pub class: String,
    /// The name that the program gave it, or its library did.
    pub name: Option<String>,
    /// What becomes of it.
    pub state: ParkedState,
    /// Its functions, innermost first. None for one that runs, which is on the
    /// stack of its thread, and for one that has not begun.
    pub frames: Vec<Arc<ManagedFrame>>,
    /// Whether there should be more functions than could be read.
    pub is_cut: bool,
    /// What of its own kind it waits for, by their addresses, where that is known.
    pub waits_for: Vec<Address>,
}

/// What a parked stack belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ParkedKind {
    /// A greenlet that the program started.
    Greenlet,
    /// The greenlet that a thread began with.
    Main,
    /// The greenlet that runs gevent's event loop.
    Hub,
    /// A task of asyncio.
    Task,
}

/// What becomes of a greenlet or a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ParkedState {
    /// It has not begun.
    New,
    /// A thread runs it.
    Running,
    /// It waits, or waits for its turn.
    Waiting,
}
