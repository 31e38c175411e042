//! One stop, unwound by all, and what to make of where they part.

use std::fmt::Write;

use spy::{
    memory::{Address, Memory},
    module::{AddressSpace, Modules, Place},
    snapshot::{Architecture, Process, Thread},
    stack::{Frame, ModuleId},
    unwind::{Tables, Unwinder, Walk},
};

use super::{
    capture,
    others::{self, Found, Framehop},
};

/// `spy`'s unwinder, for one process.
pub(super) struct Ours {
    unwinder: Unwinder,
    modules: Modules,
    space: AddressSpace,
}

impl Ours {
    pub(super) fn new(process: &Process) -> Self {
        let (mappings, root) = (process.mappings.clone(), process.root.clone());
        Self {
            unwinder: Unwinder::new(mappings.clone(), root.clone(), Tables::Now),
            modules: Modules::default(),
            space: AddressSpace::new(mappings, root),
        }
    }

    /// Take over what is mapped now.
    pub(super) fn update(&mut self, process: &Process) {
        self.unwinder.update(process.mappings.clone());
        self.space.update(process.mappings.clone());
    }

    /// What it finds.
    pub(super) fn unwind(&mut self, thread: &Thread, memory: &dyn Memory) -> (Vec<Point>, Walk) {
        let mut frames = Vec::new();
        let walk = self.unwinder.unwind(&mut self.modules, &thread.registers, memory, &mut frames);
        let point = |frame: &Frame| match frame {
            Frame::Native(frame) => (frame.module, frame.code.address().0),
            Frame::Managed(_) => unreachable!("nobody makes one here"),
        };
        (frames.iter().map(point).collect(), walk)
    }

    /// Where an address of the process is.
    fn point(&mut self, at: u64, memory: &dyn Memory) -> Point {
        match self.space.find(Address(at), &mut self.modules, memory) {
            Place::Module { module, bias } => (Some(module.id()), at.wrapping_sub(bias)),
            _ => (None, at),
        }
    }

    pub(super) fn describe(&self, (module, at): Point) -> String {
        match module.and_then(|id| self.modules.get(id)) {
            Some(module) => format!("{}+{at:#x}", module.name()),
            None => format!("{at:#x}"),
        }
    }
}

/// Code, by its image and as that counts; or by its address, where it is in
/// none. (V8 maps parts of its own image twice, so that one image can be in
/// two places.)
pub(super) type Point = (Option<ModuleId>, u64);

/// A thread, as all see it.
pub(super) struct Compared {
    pub(super) name: String,
    /// The image that the innermost frame is in; empty for none.
    pub(super) inside: String,
    pub(super) gdb: Outcome,
    pub(super) libunwind: Outcome,
    pub(super) framehop: Outcome,
    /// Our frames, and then each of theirs from where it parts from ours.
    pub(super) listing: String,
}

/// How another's stack of a thread compares with ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every frame is the same.
    Same,
    /// All of its frames are ours, and it ends before we do.
    EndsEarlier,
    /// All of our frames are its, and it ends after we do.
    EndsLater,
    /// The same, but for the caller of the innermost frame, which it misses.
    SkipsCaller,
    /// From one frame on they are different.
    Parts,
}

fn common(ours: &[Point], theirs: &[Point]) -> usize {
    ours.iter().zip(theirs).take_while(|(one, other)| one == other).count()
}

fn outcome(ours: &[Point], theirs: &[Point]) -> Outcome {
    let common = common(ours, theirs);
    match (common == ours.len(), common == theirs.len()) {
        (true, true) => Outcome::Same,
        (false, true) => Outcome::EndsEarlier,
        (true, false) => Outcome::EndsLater,
        (false, false) if common == 1 && ours.get(2..) == theirs.get(1..) => Outcome::SkipsCaller,
        (false, false) => Outcome::Parts,
    }
}

/// Stop `pid`, and compare every thread of it. It stays stopped.
pub(super) fn compare(pid: i32) -> Vec<Compared> {
    capture::halt(pid);
    let process = capture::halted(pid);
    let mut framehop = Framehop::new(&process);
    let mut ours = Ours::new(&process);
    let mut unwound = Vec::new();
    for thread in &process.threads {
        let memory = capture::Completed::new(&process, thread);
        let by_framehop = framehop.unwind(thread, &memory);
        let held = capture::Held::new(thread.tid.0).expect("the thread can be held");
        let by_libunwind = others::libunwind(thread.tid.0, &held);
        assert_eq!(held.registers(), thread.registers, "it has not moved");
        unwound.push((thread, by_libunwind, by_framehop));
    }
    let mut by_gdb = others::gdb(pid);
    unwound
        .into_iter()
        .map(|(thread, by_libunwind, by_framehop)| {
            let by_gdb = by_gdb.remove(&thread.tid.0).unwrap_or_default();
            compared(&process, thread, &mut ours, [by_gdb, by_libunwind, by_framehop])
        })
        .collect()
}

fn compared(process: &Process, thread: &Thread, ours: &mut Ours, theirs: [Found; 3]) -> Compared {
    let memory = capture::Completed::new(process, thread);
    let (frames, walk) = ours.unwind(thread, &memory);
    let mut listing = String::new();
    for (number, &at) in frames.iter().enumerate() {
        writeln!(listing, "{number:>4} {}", ours.describe(at)).unwrap();
    }
    let sp = thread.registers.get(Architecture::HOST.sp()).unwrap_or_default();
    writeln!(listing, "     {} (sp {sp:#x}, fault {:?})", walk.end, walk.fault).unwrap();
    let mut outcomes = [Outcome::Same; 3];
    for ((found, outcome_of), name) in
        theirs.into_iter().zip(&mut outcomes).zip(["gdb", "libunwind", "framehop"])
    {
        let mut points: Vec<Point> =
            found.frames.iter().map(|&at| ours.point(at, &memory)).collect();
        // Some of them show where the stack begins as a frame at 0.
        while points.len() > 1 && points.last() == Some(&(None, 0)) {
            points.pop();
        }
        *outcome_of = outcome(&frames, &points);
        if *outcome_of != Outcome::Same {
            let common = common(&frames, &points);
            writeln!(listing, "  {name} parts from this at frame {common}:").unwrap();
            for (number, &at) in points.iter().enumerate().skip(common) {
                writeln!(listing, "{number:>4} {}", ours.describe(at)).unwrap();
            }
            writeln!(listing, "     {}", found.end).unwrap();
        }
    }
    let [gdb, libunwind, framehop] = outcomes;
    let name = thread.name.clone();
    let first = frames.first().and_then(|(module, _)| ours.modules.get((*module)?));
    let inside = first.map(|module| module.name().to_owned()).unwrap_or_default();
    Compared { name, inside, gdb, libunwind, framehop, listing }
}
