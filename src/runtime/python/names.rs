//! The names that `threading` gives threads.

use rustc_hash::FxHashMap;

use super::{
    layout::Layout,
    objects::{self, dict, reader::Reader},
};
use crate::memory::{Address, Memory};

/// The reads that one search may take: enough for a program with thousands of
/// modules, and as many threads.
const READS: u32 = 50_000;

/// The longest name that is kept, in characters. Longer ones are cut.
const LONGEST: usize = 128;

/// The most threads that are remembered.
const MOST: usize = 1 << 14;

/// The longest run of questions after an unknown thread that are not looked
/// into.
const LONGEST_PAUSE: u32 = 1024;

/// The names of the threads of a process: `threading._active`, a dictionary
/// from a thread's number to its object.
///
/// It is read again only for a thread that is not in it, and for a thread that
/// is never in it (one that native code started) ever more rarely.
#[derive(Clone, Debug, Default)]
pub struct Names {
    interpreters: FxHashMap<Address, Threads>,
}

/// The threads of one interpreter.
#[derive(Clone, Debug, Default)]
struct Threads {
    /// `threading._active`, once it was found: `threading` may be loaded late.
    active: Option<Address>,
    known: FxHashMap<u64, String>,
    unknown: FxHashMap<u64, Pause>,
}

/// How often a thread was asked for in vain.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    /// The questions that are not looked into from here on.
    left: u32,
    /// How many there were to be.
    length: u32,
}

impl Names {
    /// The name of the thread that pthreads number `thread_id` (`thread_id` of
    /// its thread state) in `interpreter`, a `PyInterpreterState`. `None` when
    /// `threading` does not know it.
    pub fn thread_name(
        &mut self,
        layout: &Layout,
        interpreter: Address,
        thread_id: u64,
        memory: &dyn Memory,
    ) -> Option<String> {
        let threads = self.interpreters.entry(interpreter).or_default();
        if let Some(name) = threads.known.get(&thread_id) {
            return Some(name.clone());
        }
        let pause = threads.unknown.entry(thread_id).or_default();
        if pause.left > 0 {
            pause.left -= 1;
            return None;
        }
        threads.read(&Reader::new(layout, memory, READS), interpreter);
        let found = threads.known.get(&thread_id).cloned();
        if found.is_some() {
            threads.unknown.remove(&thread_id);
        } else if let Some(pause) = threads.unknown.get_mut(&thread_id) {
            pause.length = pause.length.saturating_mul(2).clamp(1, LONGEST_PAUSE);
            pause.left = pause.length;
        }
        if threads.unknown.len() > MOST {
            threads.unknown.clear();
        }
        found
    }

    /// Forget the thread `thread_id`: it has ended, and the next thread that
    /// starts may be given its number.
    pub fn forget(&mut self, interpreter: Address, thread_id: u64) {
        if let Some(threads) = self.interpreters.get_mut(&interpreter) {
            threads.known.remove(&thread_id);
            threads.unknown.remove(&thread_id);
        }
    }
}

impl Threads {
    fn read(&mut self, reader: &Reader<'_>, interpreter: Address) {
        if self.active.is_none() {
            self.active = active(reader, interpreter);
        }
        let Some(active) = self.active else { return };
        self.known.clear();
        for (number, thread) in dict::items(reader, active).take(MOST) {
            let Some(number) = reader.unsigned(number) else { continue };
            if let Some(name) = name_of(reader, thread) {
                self.known.insert(number, name);
            }
        }
    }
}

/// `sys.modules['threading']._active`.
fn active(reader: &Reader<'_>, interpreter: Address) -> Option<Address> {
    let modules = reader.field(reader.layout.interpreter.modules, interpreter)?;
    let threading = dict::find(reader, modules, "threading")?;
    // `md_dict` is the first of a module's own words (every version).
    dict::find(reader, reader.own(threading, 0)?, "_active")
}

/// The name of the `Thread` at `thread`. 2.7 spells a private field out.
fn name_of(reader: &Reader<'_>, thread: Address) -> Option<String> {
    let name = objects::field(reader, thread, &["_name", "_Thread__name"])?;
    reader.name(name, LONGEST).filter(|name| !name.is_empty())
}
