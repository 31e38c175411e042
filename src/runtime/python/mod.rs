//! CPython, from outside: which functions the interpreter's loop executes.
//!
//! ```text
//! detect ──► threads ──► walk ──► RawFrame ──► code ──► ManagedFrame
//! (layout)   (which state)  (pointers)         (names, lines; kept)
//!                                  └──────────► objects (values, names of threads)
//! heap ──► greenlets, tasks ──► walk, coroutines ──► RawFrame    (what no thread is on)
//! ```
//!
//! What differs between versions is in [`layout`]: the `tables` of older ones,
//! and for newer ones the `offsets` that the target itself publishes.

pub mod code;
mod coroutines;
pub mod detect;
mod greenlets;
pub mod heap;
pub mod imports;
pub mod layout;
pub mod lines;
#[cfg(test)]
mod made;
pub mod names;
pub mod objects;
pub mod offsets;
mod parked;
pub mod structs;
pub mod tables;
mod tasks;
pub mod text;
pub mod threads;
pub mod walk;

use std::{collections::VecDeque, ops::Range, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    Callers, Collection, Detail, Detected, Lock, Managed, Parked, Places, Runtime, Trace, Variable,
};
use crate::{
    memory::{Address, Memory},
    module::{AddressSpace, Modules},
    stack::{ManagedFrame, ModuleId},
    task::Tid,
};

/// Look for an interpreter in a process.
pub fn detect(space: &mut AddressSpace, modules: &mut Modules, memory: &dyn Memory) -> Detected {
    match detect::look(space, modules, memory) {
        Detected::Found(found) => Detected::Found(Box::new(Python::new(*found))),
        Detected::Unreadable(why) => Detected::Unreadable(why),
        Detected::Nothing => Detected::Nothing,
    }
}

/// The interpreter of a process.
#[derive(Debug)]
pub struct Python {
    found: detect::Found,
    threads: threads::Threads,
    codes: code::Codes,
    names: names::Names,
    /// The thread that each of their numbers was last that of.
    numbers: FxHashMap<u64, Tid>,
    /// What is shown for the collector: no function of the program.
    collector: Arc<ManagedFrame>,
    notes: VecDeque<String>,
}

impl Python {
    /// Nothing is read yet but what was found.
    pub fn new(mut found: detect::Found) -> Self {
        let notes = std::mem::take(&mut found.notes).into();
        let collector = ManagedFrame {
            function: "<gc>".to_owned(),
            file: String::new(),
            line: None,
            columns: None,
            first_line: None,
        };
        Self {
            threads: threads::Threads::new(&found),
            codes: code::Codes::default(),
            names: names::Names::default(),
            numbers: FxHashMap::default(),
            collector: Arc::new(collector),
            notes,
            found,
        }
    }
}

impl Python {
    /// What is known of the collector, where it may run on the thread of `trace`.
    fn collection(&self, trace: &Trace, memory: &dyn Memory) -> Option<Collection> {
        let (threads, state) = (&self.threads, trace.thread);
        if !threads.is_collecting(state, memory) {
            return None;
        }
        if let Some(frame) = threads.collects_for(state, memory) {
            let number = trace.frames.iter().position(|raw| raw.at == frame);
            return number.map(Collection::By);
        }
        let likely = trace.lock != Lock::Wanted && threads.may_collect(state, memory);
        Some(Collection::Somewhere { likely })
    }
}

impl Runtime for Python {
    fn name(&self) -> &str {
        &self.found.name
    }

    fn notes(&mut self) -> Vec<String> {
        self.notes.extend(self.threads.notes());
        self.notes.drain(..).collect()
    }

    fn expect(&mut self, thread: Tid, memory: &dyn Memory) {
        if !self.threads.knows(thread) {
            self.threads.state(thread, memory);
        }
    }

    fn trace(&mut self, thread: Tid, memory: &dyn Memory, trace: &mut Trace) -> bool {
        trace.frames.clear();
        let Some(state) = self.threads.check(thread, memory) else { return false };
        trace.thread = state;
        let layout = &self.found.layout;
        trace.cut = walk::trace(layout, state, memory, &mut trace.frames);
        for other in self.threads.others(thread, state) {
            let cut = walk::trace_outer(layout, other, memory, &mut trace.frames);
            trace.cut = trace.cut.or(cut);
        }
        trace.lock = self.threads.lock(state, memory);
        trace.collection = self.collection(trace, memory);
        true
    }

    fn callers(&self, trace: &Trace, memory: &dyn Memory) -> Callers {
        walk::callers(&self.found.layout, &trace.frames, memory)
    }

    fn is_lock(&mut self, trace: &Trace, at: Address, memory: &dyn Memory) -> bool {
        let lock = self.threads.lock_memory(trace.thread, memory);
        lock.is_some_and(|lock| lock.contains(&at))
    }

    fn loops(&self) -> &[(ModuleId, Range<u64>)] {
        &self.found.loops
    }

    fn collector(&self) -> &[(ModuleId, Range<u64>)] {
        &self.found.collector
    }

    fn collector_frame(&self) -> Arc<ManagedFrame> {
        Arc::clone(&self.collector)
    }

    fn resolve(&mut self, trace: &Trace, places: Places, memory: &dyn Memory) -> Managed {
        let collector = match trace.collection {
            Some(Collection::By(frame)) => Some((frame, &self.collector)),
            Some(Collection::Somewhere { .. }) | None => None,
        };
        self.codes.resolve(&self.found.layout, (trace, collector), places, memory)
    }

    fn thread_name(&mut self, thread: Tid, memory: &dyn Memory) -> Option<String> {
        let layout = &self.found.layout;
        let state = self.threads.state(thread, memory)?;
        let interpreter = self.threads.interpreter(state, memory)?;
        let number = layout.thread.thread_id.get(memory, state).ok()?;
        // The number of a thread that has ended is given to the next.
        if self.numbers.insert(number, thread).is_some_and(|before| before != thread) {
            self.names.forget(interpreter, number);
        }
        self.names.thread_name(layout, interpreter, number, memory)
    }

    fn parked(
        &mut self,
        written: &mut dyn FnMut() -> Vec<Range<Address>>,
        places: Places,
        memory: &dyn Memory,
    ) -> Vec<Parked> {
        let found = parked::find(&self.found, &mut self.codes, written, places, memory);
        self.notes.extend(found.notes);
        found.parked
    }

    fn locals(&mut self, trace: &Trace, detail: Detail, memory: &dyn Memory) -> Vec<Vec<Variable>> {
        let layout = &self.found.layout;
        let mut all = Vec::new();
        for (number, frame) in trace.frames.iter().enumerate() {
            if trace.collection == Some(Collection::By(number)) {
                // The collector's frame has none.
                all.push(Vec::new());
            }
            match self.codes.is_shown(layout, frame, memory) {
                Some(true) => all.push(objects::locals(layout, frame, detail, memory)),
                Some(false) => {}
                None => break,
            }
        }
        all
    }
}
