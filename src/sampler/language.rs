//! The language runtime of a process: looked for until one is found, and its
//! frames put where they belong.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::engine::Facts;
use crate::{
    memory::{Address, Memory},
    module::{AddressSpace, Modules},
    runtime::{Collection, Detail, Detected, Entry, Places, RUNTIMES, Runtime, Trace},
    stack::{Frame, ManagedFrame, ModuleId, Placed, merge, place_rest},
    task::Lock,
    unwind::{Extent, Wanted},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Language {
    runtime: Option<Box<dyn Runtime>>,
    /// When it is to be looked for again, and how long was waited for that.
    next: Option<(Instant, Duration)>,
    /// How exactly frames say what they run; lines if not set.
    pub(super) places: Option<Places>,
    /// Why a runtime that is there cannot be read, if that was the last that was
    /// seen of one.
    unreadable: Option<String>,
}

/// A runtime that was just started, or loaded into a program, is found after
/// so long; later it is looked for more and more seldom.
const SOON: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_secs(2);

/// The outermost frame is taken to be no larger than this, in bytes.
const OUTERMOST: u64 = 64 << 10;

impl Language {
    /// The runtime, if one was found.
    pub(super) fn runtime(&mut self) -> Option<&mut Box<dyn Runtime>> {
        self.runtime.as_mut()
    }

    /// Its name and version, if one was found.
    pub(super) fn name(&self) -> Option<&str> {
        self.runtime.as_ref().map(|runtime| runtime.name())
    }

    /// What was uncertain, and what could not be read: a sentence each.
    pub(super) fn notes(&mut self) -> Vec<String> {
        let unreadable =
            self.unreadable.take().map(|why| format!("{why}, so only native frames are shown"));
        let notes = self.runtime.as_mut().map(|runtime| runtime.notes());
        notes.into_iter().flatten().chain(unreadable).collect()
    }

    /// Whether it is time to look for one.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.runtime.is_none() && self.next.is_none_or(|(next, _)| now >= next)
    }

    /// Look for one, if it is time to.
    pub(super) fn look_for(
        &mut self,
        now: Instant,
        space: &mut AddressSpace,
        modules: &mut Modules,
        memory: &dyn Memory,
    ) {
        if !self.is_due(now) {
            return;
        }
        self.unreadable = None;
        for detect in RUNTIMES {
            match detect(space, modules, memory) {
                Detected::Found(runtime) => {
                    (self.runtime, self.unreadable) = (Some(runtime), None);
                    break;
                }
                Detected::Unreadable(why) => self.unreadable = Some(why),
                Detected::Nothing => {}
            }
        }
        let waited = self.next.map_or(SOON, |(_, waited)| (waited * 2).min(SELDOM));
        self.next = Some((now + waited, waited));
    }

    /// Images have come or gone: a runtime may have been loaded.
    pub(super) fn changed(&mut self) {
        if let Some((next, waited)) = &mut self.next
            && *waited > SOON
        {
            *next = *next - *waited + SOON;
            *waited = SOON;
        }
    }

    /// What is wanted of native frames, in order to merge managed ones.
    pub(super) fn wanted<'a>(&self, extents: &'a mut Vec<Extent>) -> Wanted<'a> {
        match &self.runtime {
            Some(runtime) if !runtime.loops().is_empty() => Wanted::Registers(extents),
            Some(_) => Wanted::Places(extents),
            None => Wanted::Code,
        }
    }

    /// Name the frames of `trace`, and put them among the native ones. What that
    /// says of the thread is added to `facts`.
    pub(super) fn merge(
        &mut self,
        trace: &Trace,
        native: Native<'_>,
        facts: &mut Facts,
        memory: &dyn Memory,
    ) -> Vec<Frame> {
        let Some(runtime) = &mut self.runtime else { return native.frames };
        let places = self.places.unwrap_or(Places::Lines);
        let managed = runtime.resolve(trace, places, memory);
        facts.unreadable = managed.unreadable;
        let mut seeker = Seeker { native: &native, memory, next: 0 };
        let mut segments = Vec::with_capacity(managed.segments.len());
        for segment in managed.segments {
            let within = segment.entry.and_then(|entry| seeker.seek(entry, runtime.as_ref()));
            segments.push(Placed { frames: segment.frames, within });
        }
        if !runtime.loops().is_empty() && segments.iter().any(|segment| segment.within.is_none()) {
            let frames = native.frames.iter().enumerate();
            let loops = frames.filter(|(_, frame)| is_in(frame, runtime.loops()));
            let loops: Vec<usize> = loops.map(|(index, _)| index).collect();
            let end = native.is_whole.then_some(native.frames.len());
            place_rest(&mut segments, &loops, end);
        }
        if let Some(Collection::Somewhere { likely }) = trace.collection {
            let ranges = runtime.collector();
            let collector = native.frames.iter().rposition(|frame| is_in(frame, ranges));
            if collector.is_some() || likely && ranges.is_empty() {
                let at = put_collector(&mut segments, collector, runtime.collector_frame());
                facts.collects(at);
            }
        }
        if segments.is_empty() {
            return native.frames;
        }
        let (merged, unplaced) = merge(&native.frames, &segments);
        // Where the native stack breaks off, the managed frames that are left
        // are what is known of the rest.
        let last = segments.iter().rev().take_while(|segment| segment.within.is_none()).count();
        let expected = if native.is_whole { 0 } else { last };
        facts.unmerged = unplaced > expected;
        merged
    }

    /// The frames of `trace` with their names, for a thread whose native frames
    /// are not known; `None` if one of them executes what is no code.
    pub(super) fn managed(
        &mut self,
        trace: &Trace,
        facts: &mut Facts,
        memory: &dyn Memory,
    ) -> Option<Vec<Frame>> {
        let places = self.places.unwrap_or(Places::Lines);
        let runtime = self.runtime.as_mut()?;
        let managed = runtime.resolve(trace, places, memory);
        if managed.unreadable {
            return None;
        }
        let collects = trace.collection == Some(Collection::Somewhere { likely: true });
        let collector = collects.then(|| runtime.collector_frame());
        if collects {
            facts.collects(0);
        }
        let frames = managed.segments.into_iter().flat_map(|segment| segment.frames);
        Some(collector.into_iter().chain(frames).map(Frame::Managed).collect())
    }

    /// What is known of the thread of `trace`, which waits on that futex, if on
    /// any.
    pub(super) fn facts(
        &mut self,
        trace: &Trace,
        waits_on: Option<Address>,
        locals: Option<Detail>,
        memory: &dyn Memory,
    ) -> Facts {
        let Some(runtime) = &mut self.runtime else { return Facts::default() };
        let mut waits = || waits_on.is_some_and(|at| runtime.is_lock(trace, at, memory));
        let lock = match trace.lock {
            Lock::Without if waits() => Lock::Wanted,
            lock => lock,
        };
        let locals = locals.map(|detail| runtime.locals(trace, detail, memory));
        let collecting = matches!(trace.collection, Some(Collection::By(_)));
        let locals = locals.unwrap_or_default();
        Facts { lock, collecting, locals, ..Facts::default() }
    }
}

/// Put the frame of the collector where the thread has called it, which is the
/// innermost of all where its native frame is not known; and how many managed
/// frames are farther in.
///
/// ```text
///   __del__                  managed
///   _PyEval_Eval…            runs it
///   finalize_garbage
///   gc_collect_main          the collector
///   <gc>                     is put here
///   make                     managed: began it
///   _PyEval_Eval…            runs it
/// ```
fn put_collector(
    segments: &mut Vec<Placed>,
    collector: Option<usize>,
    frame: Arc<ManagedFrame>,
) -> usize {
    let is_inner = |segment: &Placed| {
        segment.within.zip(collector).is_some_and(|(within, collector)| within <= collector)
    };
    let inner = segments.iter().rposition(is_inner).map_or(0, |last| last + 1);
    let before = segments.iter().take(inner).map(|segment| segment.frames.len()).sum();
    match segments.get_mut(inner) {
        Some(caller) => caller.frames.insert(0, frame),
        // It was called from no managed frame.
        None => {
            let within = collector.map(|collector| collector + 1);
            segments.push(Placed { frames: vec![frame], within });
        }
    }
    before
}

/// Whether a native frame executes code of `ranges`.
fn is_in(frame: &Frame, ranges: &[(ModuleId, Range<u64>)]) -> bool {
    let Frame::Native(frame) = frame else { return false };
    let at = frame.code.lookup().0;
    ranges.iter().any(|(module, range)| frame.module == Some(*module) && range.contains(&at))
}

/// The native frames of a stack.
pub(super) struct Native<'a> {
    pub(super) frames: Vec<Frame>,
    /// Where they lie.
    pub(super) extents: &'a [Extent],
    /// Whether they reach to where the stack begins.
    pub(super) is_whole: bool,
}

/// Finds the native frames that execute managed ones, from the innermost on.
struct Seeker<'a> {
    native: &'a Native<'a>,
    memory: &'a dyn Memory,
    /// The first frame that is still free.
    next: usize,
}

impl Seeker<'_> {
    fn seek(&mut self, entry: Entry, runtime: &dyn Runtime) -> Option<usize> {
        let found = (self.next..self.native.frames.len()).find(|&index| match entry {
            Entry::Within(at) => self.holds_address(index, at),
            Entry::Holds(word) => self.is_loop(index, runtime) && self.holds_word(index, word),
        })?;
        self.next = found + 1;
        Some(found)
    }

    /// Where the frame lies: from its stack pointer to that of the next. Of the
    /// last before the stack breaks off nobody knows how large it is.
    fn range(&self, index: usize) -> Option<(u64, u64)> {
        let extents = self.native.extents;
        let low = extents.get(index)?.low.0;
        let outermost = || self.native.is_whole.then_some(low.saturating_add(OUTERMOST));
        Some((low, extents.get(index + 1).map(|next| next.low.0).or_else(outermost)?))
    }

    fn holds_address(&self, index: usize, at: Address) -> bool {
        self.range(index).is_some_and(|(low, high)| (low..high).contains(&at.0))
    }

    fn holds_word(&self, index: usize, word: Address) -> bool {
        let in_registers = self
            .native
            .extents
            .get(index)
            .is_some_and(|extent| extent.preserved.contains(&Some(word.0)));
        in_registers || self.is_on_stack(index, word).unwrap_or(false)
    }

    fn is_on_stack(&self, index: usize, word: Address) -> Option<bool> {
        let (low, high) = self.range(index)?;
        let (start, bytes) = self.memory.copied(Address(low))?;
        let from = usize::try_from(low.checked_sub(start.0)?).ok()?;
        let len = usize::try_from(high.checked_sub(low)?).ok()?;
        let end = from.checked_add(len)?.min(bytes.len());
        let wanted = word.0.to_le_bytes();
        Some(bytes.get(from..end)?.chunks_exact(8).any(|chunk| *chunk == wanted))
    }

    fn is_loop(&self, index: usize, runtime: &dyn Runtime) -> bool {
        self.native.frames.get(index).is_some_and(|frame| is_in(frame, runtime.loops()))
    }
}
