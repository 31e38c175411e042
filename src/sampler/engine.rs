//! What is needed to look at the threads of one process, and the look itself.

use std::time::{Duration, Instant};

use super::{
    language::{Language, Native},
    watched::{Asked, Watched},
};
use crate::{
    capture::{ARGUMENTS, Ask, Catch, Copied, CopiedMemory, Look, is_unnoticed},
    memory::{Address, Memory},
    module::Modules,
    process::{LiveMemory, Process},
    runtime::{Detail, Trace},
    snapshot::{Architecture, Mapping, Registers},
    stack::{End, Frame, Stack, Variable},
    task::{Lock, State, Tid},
    unwind::{Extent, Owner, Tables, Unwinder, Wanted},
};

/// A process that is looked at.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) process: Process,
    pub(super) memory: LiveMemory,
    unwinder: Unwinder,
    pub(super) mappings: Vec<Mapping>,
    /// When the mappings were last read.
    read: Instant,
    /// Whether the whole process is stopped by a signal, once that was asked
    /// for in this tick.
    halted: Option<bool>,
    /// Copies that are not needed any more, to be filled again.
    spare: Vec<Copied>,
    /// The language runtime, if one was found.
    pub(super) language: Language,
    /// How much of local variables is wanted.
    pub(super) locals: Option<Detail>,
    /// Where the native frames of the stack lie that is being unwound.
    extents: Vec<Extent>,
}

/// So many spare copies are kept: as many threads as are held at one time in
/// most targets.
const SPARE: usize = 16;

/// A copy of a deeper stack, in bytes, is not kept.
const LARGE: usize = 256 << 10;

/// A stack as it was found, and what it was found in.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) state: State,
    pub(super) registers: Registers,
    pub(super) copied: Copied,
    pub(super) stack: Stack,
    pub(super) facts: Facts,
}

/// What a language runtime says of a thread, beside its frames.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// What the thread has to do with the interpreter lock.
    pub(super) lock: Lock,
    /// Whether it collects garbage.
    pub(super) collecting: bool,
    /// The function that the greenlet began with that it runs, if it runs one
    /// besides the thread's own.
    pub(super) greenlet: Option<String>,
    /// Whether some of its managed frames have no place among the native ones.
    pub(super) unmerged: bool,
    /// Whether what one of its managed frames executes could not be read.
    pub(super) unreadable: bool,
    /// The local variables of its managed frames, if they are wanted.
    pub(super) locals: Vec<Vec<Variable>>,
}

impl Facts {
    /// The thread collects garbage: the frame that says so has so many managed
    /// ones farther in.
    pub(super) fn collects(&mut self, inner: usize) {
        self.collecting = true;
        if inner <= self.locals.len() && !self.locals.is_empty() {
            // It has no variables.
            self.locals.insert(inner, Vec::new());
        }
    }
}

/// What became of reading a thread that sleeps.
pub(super) enum Examined {
    /// It was read without a stop.
    Still(Sample),
    /// A stop would find more than this, without harm.
    Incomplete(Sample),
    /// It has run meanwhile, and must be stopped.
    Ran,
}

/// A thread is stopped so often again for one sample, because a function of its
/// could not be named. Those that could are known then.
const AGAIN: u32 = 3;

/// Mappings are not read again sooner than this after a stack that led out of
/// them.
const REFRESH: Duration = Duration::from_millis(10);

/// After this long they are read again in any case.
const STALE: Duration = Duration::from_secs(1);

impl Engine {
    /// # Errors
    /// When the process is gone, or may not be read.
    pub(super) fn new(process: Process, tables: &Tables) -> std::io::Result<Self> {
        let mappings = process.mappings()?;
        let memory = LiveMemory::new(process.pid());
        let unwinder = Unwinder::new(mappings.clone(), process.root(), tables.clone());
        Ok(Self {
            process,
            memory,
            unwinder,
            mappings,
            read: Instant::now(),
            halted: None,
            spare: Vec::new(),
            language: Language::default(),
            locals: None,
            extents: Vec::new(),
        })
    }

    /// A new tick begins.
    pub(super) fn begin(&mut self, now: Instant, modules: &mut Modules) {
        self.halted = None;
        if now.saturating_duration_since(self.read) >= STALE {
            self.refresh(now);
        }
        let Self { language, unwinder, memory, .. } = self;
        language.look_for(now, unwinder.space_mut(), modules, memory);
    }

    /// Follow the managed frames of a thread that was copied, and keep in the
    /// copy what had to be read for it; whether there was time enough.
    pub(super) fn inspect(
        &mut self,
        watched: &mut Watched,
        copied: &mut Copied,
        deadline: Option<Instant>,
    ) -> bool {
        let Some(runtime) = self.language.runtime() else { return true };
        let memory = CopiedMemory::new(copied, &self.memory, &mut watched.working)
            .anywhere()
            .until(deadline);
        let mut trace = watched.trace.take().unwrap_or_default();
        if runtime.trace(watched.inner, &memory, &mut trace) {
            watched.trace = Some(trace);
        }
        let in_time = !memory.was_too_late();
        copied.keep(memory.into_late());
        in_time
    }

    /// A thread is going to be copied: do beforehand what takes long, and need
    /// not be of that moment.
    pub(super) fn expect(&mut self, watched: &mut Watched) {
        let Some(runtime) = self.language.runtime() else { return };
        runtime.expect(watched.inner, &self.memory);
        // What its frames are found by is then in the very first copy.
        if watched.samples == 0 && watched.trace.is_none() {
            let nothing = Copied::default();
            let memory = CopiedMemory::new(&nothing, &self.memory, &mut watched.working);
            runtime.trace(watched.inner, &memory, &mut Trace::default());
            watched.working.turn();
        }
    }

    /// The process runs another program now.
    pub(super) fn start_over(&mut self, tables: &Tables) {
        self.mappings = self.process.mappings().unwrap_or_default();
        self.unwinder = Unwinder::new(self.mappings.clone(), self.process.root(), tables.clone());
        self.language = Language::default();
        self.read = Instant::now();
    }

    /// Read the mappings again; whether they have changed.
    fn refresh(&mut self, now: Instant) -> bool {
        self.read = now;
        let Ok(mappings) = self.process.mappings() else { return false };
        if mappings == self.mappings || mappings.is_empty() {
            return false;
        }
        self.mappings.clone_from(&mappings);
        self.unwinder.update(mappings);
        self.language.changed();
        true
    }

    /// What to ask a thread for, at a moment.
    pub(super) fn ask(&mut self, watched: &mut Watched, at: Instant) -> Ask {
        self.expect(watched);
        let copied = self.prepare(watched);
        let ran = watched.asked.as_ref().is_none_or(Asked::ran);
        Ask { tid: watched.tid, copied, schedule: watched.seen, at, ran }
    }

    fn prepare(&mut self, watched: &Watched) -> Copied {
        self.spare.pop().unwrap_or_default().prepare(watched.depth, &watched.working)
    }

    /// The name of a thread: that which its language has for it, or else the
    /// kernel's.
    pub(super) fn name(&mut self, watched: &mut Watched) -> Option<String> {
        let runtime = self.language.runtime();
        let given = runtime.and_then(|runtime| runtime.thread_name(watched.inner, &self.memory));
        watched.has_given_name |= given.is_some();
        // One that had a name of its own keeps it when that can no longer be
        // read, because the process is ending.
        let kernels = || self.process.thread_name(watched.tid).filter(|_| !watched.has_given_name);
        given.or_else(kernels)
    }

    /// A copy is not needed any more.
    pub(super) fn give_back(&mut self, copied: Copied) {
        if self.spare.len() < SPARE && copied.stack.bytes.capacity() <= LARGE {
            self.spare.push(copied);
        }
    }

    /// Read a thread that sleeps in `state`, with `registers` as far as they are
    /// known, without stopping it.
    pub(super) fn examine(
        &mut self,
        watched: &mut Watched,
        state: State,
        registers: &Registers,
        modules: &mut Modules,
    ) -> Examined {
        let Some((mut sample, unknown)) = self.still(watched, (state, registers), modules) else {
            return Examined::Ran;
        };
        if self.is_halted() {
            sample.state = State::Halted;
        } else if unknown && self.may_stop(watched.tid, state, registers) {
            return Examined::Incomplete(sample);
        }
        Examined::Still(sample)
    }

    fn is_halted(&mut self) -> bool {
        *self.halted.get_or_insert_with(|| self.process.is_halted())
    }

    fn may_stop(&self, tid: Tid, state: State, registers: &Registers) -> bool {
        match state {
            State::Blocked(call) => is_unnoticed(&self.process, tid, call, registers),
            State::Faulting => !self.process.is_filtered(tid),
            State::Running | State::Queued | State::Halted => false,
        }
    }

    /// Read a sleeping thread without stopping it; and whether a register was
    /// missing. `None` when it has run meanwhile.
    fn still(
        &mut self,
        watched: &mut Watched,
        (state, registers): (State, &Registers),
        modules: &mut Modules,
    ) -> Option<(Sample, bool)> {
        let sp = Address(registers.get(Architecture::HOST.sp())?);
        if let Some(runtime) = self.language.runtime() {
            runtime.expect(watched.inner, &self.memory);
        }
        loop {
            let mut copied = self.prepare(watched);
            copied.fill(&self.memory, sp, None);
            self.inspect(watched, &mut copied, None);
            // Only what was read before this is known to belong together; what
            // comes after it is read of a thread that was let go, too.
            let slept = match watched.seen {
                Some(seen) => watched.gate.schedule().ok()? == Some(seen),
                None => watched.gate.look() == Look::Asleep(state, *registers),
            };
            if !slept {
                self.give_back(copied);
                return None;
            }
            let looked = self.unwind(modules, (registers, state), &mut copied, watched);
            let (stack, facts, short) = looked;
            if short && let Some(depth) = watched.depth.deeper() {
                watched.depth = depth;
                self.give_back(copied);
                continue;
            }
            // What was read for the first time was read after that look, and may
            // have gone since.
            if facts.unreadable && watched.seen != watched.gate.schedule().ok()? {
                self.give_back(copied);
                return None;
            }
            // What a managed frame is recognised by can be in a register, too.
            let unknown = stack.end == End::UnknownRegister || facts.unmerged;
            let sample = Sample { state, registers: *registers, copied, stack, facts };
            return Some((sample, unknown));
        }
    }

    /// Unwind what a stop has brought. `None` when it was not enough: the
    /// thread is to be stopped again, for a deeper copy, or because what a
    /// function is called was gone before it could be read.
    pub(super) fn finish(
        &mut self,
        watched: &mut Watched,
        caught: Catch,
        modules: &mut Modules,
    ) -> Option<Sample> {
        let Catch { registers, mut copied, partial, .. } = caught;
        // One that sleeps still has the arguments of its system call.
        let state = watched.asked.as_ref().and_then(|asked| asked.state);
        let thread = (&registers, state.unwrap_or(State::Running));
        let (stack, mut facts, short) = self.unwind(modules, thread, &mut copied, watched);
        // What was not read in time is counted as that.
        facts.unmerged &= !partial;
        if short
            && !partial
            && let Some(depth) = watched.depth.deeper()
        {
            watched.depth = depth;
            self.give_back(copied);
            return None;
        }
        // Functions that are met for the first time are named after the stop. The
        // code of a module goes when the module was imported.
        if facts.unreadable && !partial && watched.unreadable < AGAIN {
            watched.unreadable += 1;
            self.give_back(copied);
            return None;
        }
        watched.unreadable = 0;
        Some(Sample { state: State::Running, registers, copied, stack, facts })
    }

    /// Where the mapping ends that the stack lies in. What lies above it, such as
    /// the images that are mapped behind a thread's stack, is none of it.
    fn end_of_stack(&self, registers: &Registers) -> Address {
        let sp = registers.get(Architecture::HOST.sp()).map(Address);
        let space = self.unwinder.space();
        sp.and_then(|sp| space.mapping(sp)).map_or(Address(u64::MAX), |mapping| mapping.range.end)
    }

    /// Unwind, and add to `copied` what was read beside it; and whether the
    /// copy ended before the stack did.
    fn unwind(
        &mut self,
        modules: &mut Modules,
        (registers, state): (&Registers, State),
        copied: &mut Copied,
        watched: &mut Watched,
    ) -> (Stack, Facts, bool) {
        let mut again = true;
        loop {
            let mut frames = Vec::new();
            let memory = CopiedMemory::new(copied, &self.memory, &mut watched.working)
                .with_stack_until(self.end_of_stack(registers));
            let mut wanted = match &watched.trace {
                Some(_) => self.language.wanted(&mut self.extents),
                None => Wanted::Code,
            };
            let thread = (registers, &memory as &dyn Memory);
            let walk = self.unwinder.unwind_with(modules, thread, &mut frames, &mut wanted);
            let short = walk.fault.is_some_and(|at| memory.was_too_short(at));
            copied.keep(memory.into_late());
            // Once; and not for mappings that were read just now, or are the same.
            let now = Instant::now();
            let renew = std::mem::take(&mut again)
                && walk.unmapped.is_some()
                && now.saturating_duration_since(self.read) >= REFRESH
                && self.refresh(now);
            if renew {
                continue;
            }
            let memory = CopiedMemory::new(copied, &self.memory, &mut watched.working).anywhere();
            let mut facts = Facts::default();
            if !short && let Some(trace) = &watched.trace {
                let waits_on = futex(state, registers);
                facts = self.language.facts(trace, waits_on, self.locals, &memory);
                let is_whole = walk.end == End::Root && walk.owner != Owner::Exchange;
                let native = Native { frames, extents: &self.extents, is_whole };
                frames = self.language.merge(trace, native, &mut facts, &memory);
                if walk.owner != Owner::Thread {
                    facts.greenlet = began_with(&frames);
                }
            }
            copied.keep(memory.into_late());
            if !short && let Some(sp) = registers.get(Architecture::HOST.sp()) {
                watched.depth.learn(Address(sp), walk.highest);
            }
            watched.working.turn();
            return (Stack { frames, end: walk.end }, facts, short);
        }
    }
}

/// The managed function that a stack began with.
fn began_with(frames: &[Frame]) -> Option<String> {
    frames.iter().rev().find_map(|frame| match frame {
        Frame::Managed(frame) => Some(frame.function.clone()),
        Frame::Native(_) => None,
    })
}

/// The futex that a thread in this state waits on.
fn futex(state: State, registers: &Registers) -> Option<Address> {
    match state {
        State::Blocked(call) if call.name() == Some("futex") => {
            registers.get(ARGUMENTS[0]).map(Address)
        }
        _ => None,
    }
}
