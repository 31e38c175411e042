//! The walk from the innermost frame to the root.

use std::{collections::HashMap, ops::Range};

use rustc_hash::FxBuildHasher;

use crate::{
    memory::{Address, Memory},
    module::{AddressSpace, Module, Modules, Place},
    snapshot::{Architecture, Mapping, Register, Registers, Root},
    stack::{CodeAddress, End, Frame, ModuleId, NativeFrame},
};

use super::{
    aarch64,
    cache::{Action, Cache, Entry},
    cfi::Context,
    image::Image,
    machine::Machine,
    rule::Cfa,
    standing::{Keeps, Standing},
    table::Step,
    tables::Tables,
};

/// How many frames a walk may have.
pub const MAX_FRAMES: usize = 4096;

/// How often a walk may change to another stack: a signal handler's, or that
/// of a language's runtime.
const MAX_SWITCHES: u32 = 16;

/// Farther than any frame is large: beyond it lies another stack.
const OTHER_STACK: u64 = 64 << 20;

/// The unwinder of one process.
#[derive(Debug)]
pub struct Unwinder {
    pub(super) machine: &'static Machine,
    pub(super) space: AddressSpace,
    tables: Tables,
    pub(super) images: HashMap<ModuleId, Image, FxBuildHasher>,
    pub(super) cache: Cache,
    context: Box<Context>,
}

/// How a walk went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Why there are no more frames.
    pub end: End,
    /// The address of code outside every known mapping, when that ended the
    /// walk: the mappings may have changed since they were read.
    pub unmapped: Option<Address>,
    /// The lowest address of a word that was wanted and could not be read.
    pub fault: Option<Address>,
    /// The first address above the stack that the walk needed: how far a copy
    /// of this thread's stack should reach. The stack is the one that the
    /// stack pointer was on.
    pub highest: Address,
    /// How many frames were found.
    pub frames: usize,
    /// Whose stack it was.
    pub owner: Owner,
}

/// Whose stack a walk followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The thread's own, as far as is known.
    #[default]
    Thread,
    /// A greenlet's: its frames end where the greenlet began.
    Greenlet,
    /// Nobody's: one greenlet is being exchanged for another, and the frames
    /// are those of the exchange alone.
    Exchange,
}

/// Where a frame lies on the stack, and what was in its registers.
///
/// It reaches up to the stack pointer of the next outer frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The frame's stack pointer; where it is not known, an address that it is
    /// above.
    pub low: Address,
    /// The registers that a function must leave as they were, in the order of
    /// their numbers, as far as they are known; none for who asked for places
    /// alone.
    pub preserved: [Option<u64>; 6],
}

/// What is wanted of each frame beside its code.
#[derive(Debug)]
pub enum Wanted<'a> {
    /// Nothing.
    Code,
    /// Where it lies.
    Places(&'a mut Vec<Extent>),
    /// Where it lies, and its registers.
    Registers(&'a mut Vec<Extent>),
}

impl Wanted<'_> {
    /// The walk begins anew, or goes on to the next frame, which is here.
    #[inline]
    fn note(&mut self, standing: &Standing<'_>) {
        match self {
            Self::Code => {}
            Self::Places(extents) => {
                extents.push(Extent { low: Address(standing.low()), preserved: [None; 6] })
            }
            Self::Registers(extents) => extents
                .push(Extent { low: Address(standing.low()), preserved: standing.preserved() }),
        }
    }

    fn restart(&mut self) {
        if let Self::Places(extents) | Self::Registers(extents) = self {
            extents.clear();
        }
    }
}

/// Where a step led.
pub(super) enum Next {
    /// To the return address of a call.
    Caller(u64),
    /// To the instruction that a signal interrupted.
    Interrupted(u64),
    /// To a return address on a stack that may lie anywhere.
    Switched(u64),
}

impl Unwinder {
    /// An unwinder for the process that `mappings` describe, whose files are
    /// below `root`.
    pub fn new(mappings: Vec<Mapping>, root: Root, tables: Tables) -> Self {
        Self::of(Architecture::HOST, mappings, root, tables)
    }

    pub(super) fn of(
        architecture: Architecture,
        mappings: Vec<Mapping>,
        root: Root,
        tables: Tables,
    ) -> Self {
        Self {
            machine: Machine::of(architecture),
            space: AddressSpace::new(mappings, root),
            tables,
            images: HashMap::default(),
            cache: Cache::new(),
            context: Box::default(),
        }
    }

    /// Take over changed mappings. What is known of code that did not move
    /// stays known.
    pub fn update(&mut self, mut mappings: Vec<Mapping>) {
        mappings.sort_by_key(|mapping| mapping.range.start);
        let kept = unchanged(self.space.mappings(), &mappings);
        self.cache.retain(|at| {
            // The lookup address of a return address is one lower.
            let at = Address(at.0.saturating_sub(1));
            let after = kept.partition_point(|range| range.start <= at);
            after.checked_sub(1).and_then(|last| kept.get(last)).is_some_and(|kept| at < kept.end)
        });
        self.space.update(mappings);
    }

    /// The images of the process.
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// The images of the process, to open more of them.
    pub fn space_mut(&mut self) -> &mut AddressSpace {
        &mut self.space
    }

    /// Unwind the thread that has `registers`. Its frames are appended to
    /// `frames`, innermost first.
    pub fn unwind(
        &mut self,
        modules: &mut Modules,
        registers: &Registers,
        memory: &dyn Memory,
        frames: &mut Vec<Frame>,
    ) -> Walk {
        self.unwind_with(modules, (registers, memory), frames, &mut Wanted::Code)
    }

    /// As [`Self::unwind`], and of each frame what is wanted beside its code.
    pub fn unwind_with(
        &mut self,
        modules: &mut Modules,
        (registers, memory): (&Registers, &dyn Memory),
        frames: &mut Vec<Frame>,
        wanted: &mut Wanted<'_>,
    ) -> Walk {
        let pc = registers.get(self.machine.architecture.pc());
        let before = frames.len();
        for keeps in [Keeps::Pointers, Keeps::All] {
            let Some(pc) = pc else { break };
            if matches!(wanted, Wanted::Registers(_)) && keeps == Keeps::Pointers {
                continue;
            }
            wanted.restart();
            let pc = CodeAddress::Instruction(Address(pc));
            let mut standing = Standing::new(self.machine, pc, registers, memory, keeps);
            let walk = self.walk(&mut standing, modules, frames, wanted);
            if !standing.wants_all {
                return walk;
            }
            frames.truncate(before);
        }
        Walk {
            end: End::UnknownRegister,
            unmapped: None,
            fault: None,
            highest: Address(registers.get(self.machine.architecture.sp()).unwrap_or(0)),
            frames: 0,
            owner: Owner::Thread,
        }
    }

    fn walk(
        &mut self,
        standing: &mut Standing<'_>,
        modules: &mut Modules,
        frames: &mut Vec<Frame>,
        wanted: &mut Wanted<'_>,
    ) -> Walk {
        let before = frames.len();
        let (mut unmapped, mut highest) = (None, Address(standing.floor));
        let end = loop {
            if frames.len() - before == MAX_FRAMES {
                break End::TooDeep;
            }
            wanted.note(standing);
            let next = match self.cache.get(standing.code) {
                Some(entry) => {
                    frames.push(Frame::Native(entry.frame(standing.code)));
                    match &entry.action {
                        Action::Step(Step::Rule(rule)) => standing.take(rule).map(Next::Caller),
                        _ => {
                            let entry = *entry;
                            self.act(&entry, standing, modules)
                        }
                    }
                }
                None => self.discover(standing, modules, frames, &mut unmapped),
            };
            let next = match next {
                Err(End::UnknownRegister) => self.step_by_size(standing),
                next => next,
            };
            let moved = next.and_then(|next| self.advance(standing, next, &mut highest));
            if let Err(end) = moved {
                break end;
            }
        };
        let fault = standing.words.fault;
        if standing.switches == 0 {
            let on_it = |fault: &Address| fault.0.wrapping_sub(standing.floor) < OTHER_STACK;
            let fault = fault.filter(on_it).map_or(0, |fault| fault.0.saturating_add(8));
            highest = Address(fault.max(standing.floor));
        }
        let (frames, owner) = (frames.len() - before, standing.owner);
        Walk { end, unmapped, fault, highest, frames, owner }
    }

    /// Push the frame of code that is met for the first time, and step on.
    #[cold]
    fn discover(
        &mut self,
        standing: &mut Standing<'_>,
        modules: &mut Modules,
        frames: &mut Vec<Frame>,
        unmapped: &mut Option<Address>,
    ) -> Result<Next, End> {
        let code = standing.code;
        match self.find_out(code, modules, standing.words.memory()) {
            Ok((entry, damage)) => {
                frames.push(Frame::Native(entry.frame(code)));
                if let Some(end) = damage {
                    return Err(end);
                }
                self.cache.insert(entry);
                self.act(&entry, standing, modules)
            }
            Err(place) => {
                *unmapped = matches!(place, Place::Unmapped).then(|| code.lookup());
                if matches!(code, CodeAddress::Return(_)) {
                    return Err(End::Implausible);
                }
                // A call through a bad pointer: the frame is real, and the
                // call has left its return address.
                frames.push(Frame::Native(NativeFrame { module: None, code }));
                let next = self.guess(standing, modules).map_err(|_| End::Implausible)?;
                *unmapped = None;
                Ok(next)
            }
        }
    }

    /// What is to be known of `code`.
    fn find_out(
        &mut self,
        code: CodeAddress,
        modules: &mut Modules,
        memory: &dyn Memory,
    ) -> Result<(Entry, Option<End>), Place> {
        let (module, bias) = match self.space.find(code.lookup(), modules, memory) {
            Place::Module { module, bias } => (module, bias),
            Place::Anonymous => return Ok((Entry::new(code, None, 0, Action::Guess), None)),
            place @ (Place::NoCode | Place::Unmapped) => return Err(place),
        };
        let id = module.id();
        let image = self.images.entry(id).or_insert_with(|| Image::new(module));
        let local = match code {
            CodeAddress::Instruction(at) => CodeAddress::Instruction(at.plus(bias.wrapping_neg())),
            CodeAddress::Return(at) => CodeAddress::Return(at.plus(bias.wrapping_neg())),
        };
        let action = if is_trampoline(&image.module, local, self.machine) {
            Ok(Action::LeaveSignal)
        } else {
            image.action(local, &self.tables, self.machine, &mut self.context)
        };
        let (action, damage) = match action {
            Ok(action) => (action, None),
            Err(end) => (Action::Guess, Some(end)),
        };
        Ok((Entry::new(code, Some(id), bias, action), damage))
    }

    #[cold]
    fn act(
        &mut self,
        entry: &Entry,
        standing: &mut Standing<'_>,
        modules: &mut Modules,
    ) -> Result<Next, End> {
        match &entry.action {
            Action::Step(Step::Rule(rule)) => standing.take(rule).map(Next::Caller),
            Action::Step(Step::Row(at)) => {
                let image = entry.module().and_then(|id| self.images.get(&id));
                let cfi = image.ok_or(End::NoUnwindInfo)?.cfi(self.machine);
                let address = entry.lookup(standing.code);
                cfi.with_row(*at, address, &mut self.context, |row| {
                    let next = standing.evaluate(row)?;
                    let is_signal = row.fde.is_signal_trampoline();
                    Ok(if is_signal { Next::Interrupted(next) } else { Next::Caller(next) })
                })
                .unwrap_or(Err(End::BadUnwindInfo))
            }
            Action::Resume(rule) => standing.take(rule).map(Next::Interrupted),
            Action::LeaveSignal => standing.leave_signal().map(Next::Interrupted),
            Action::SwitchStacks => standing.follow_frame_pointer(0).map(Next::Switched),
            Action::FindSwitch => self.find_switch(entry, standing, modules),
            Action::CallerOrRoot => self.guess_innermost(standing, modules).ok_or(End::Root),
            Action::Guess => self.guess(standing, modules),
            Action::Root => Err(End::Root),
            Action::RootOf(owner) => {
                standing.owner = *owner;
                Err(End::Root)
            }
        }
    }

    /// Leave a frame that is to be found by the frame pointer, which is not
    /// known, by the size that it must have.
    #[cold]
    fn step_by_size(&mut self, standing: &mut Standing<'_>) -> Result<Next, End> {
        let unknown = End::UnknownRegister;
        let entry = *self.cache.get(standing.code).ok_or(unknown)?;
        let (Action::Step(Step::Rule(rule)), CodeAddress::Return(_), None, Some(sp)) =
            (&entry.action, standing.code, standing.fp(), standing.sp())
        else {
            return Err(unknown);
        };
        let Cfa::Offset { register, offset } = rule.cfa else { return Err(unknown) };
        if Register(register.into()) != self.machine.architecture.fp() {
            return Err(unknown);
        }
        let image = entry.module().and_then(|id| self.images.get_mut(&id)).ok_or(unknown)?;
        let address = entry.lookup(standing.code);
        let size = image.frame_size(address, &self.tables, self.machine, &mut self.context);
        let size = size.ok_or(unknown)?;
        standing.set_fp(sp.wrapping_add(size).wrapping_sub_signed(offset.into()));
        standing.take(rule).map(Next::Caller)
    }

    /// Go on where `next` leads, if the stack moves on.
    #[inline]
    fn advance(
        &self,
        standing: &mut Standing<'_>,
        next: Next,
        highest: &mut Address,
    ) -> Result<(), End> {
        let (address, may_switch, is_call) = match next {
            Next::Caller(address) => (self.strip(address), false, true),
            Next::Switched(address) => (self.strip(address), true, true),
            Next::Interrupted(address) => (address, true, false),
        };
        // Where threads begin, runtimes put a 0 for the return address.
        if address == 0 && is_call {
            return Err(End::Root);
        }
        if let Some(after) = standing.sp() {
            let before = standing.floor;
            let is_near = after > before && after - before < OTHER_STACK;
            if !is_near && (may_switch || after > before) {
                if standing.switches == 0 {
                    *highest = Address(before);
                }
                standing.switches += 1;
                if standing.switches > MAX_SWITCHES {
                    return Err(End::Implausible);
                }
            } else if after <= before {
                // An innermost function may have taken nothing of the stack.
                let is_innermost = matches!(standing.code, CodeAddress::Instruction(_));
                if after < before || !is_innermost {
                    return Err(End::Implausible);
                }
            }
            standing.floor = after;
        }
        let address = Address(address);
        standing.code =
            if is_call { CodeAddress::Return(address) } else { CodeAddress::Instruction(address) };
        Ok(())
    }

    /// `address` without its signature, where the machine signs.
    #[inline]
    pub(super) fn strip(&self, address: u64) -> u64 {
        if self.machine.signs_return_addresses {
            aarch64::strip(address, self.space.mappings().last().map_or(0, |last| last.range.end.0))
        } else {
            address
        }
    }

    /// Whether both addresses lie in one mapping.
    pub(super) fn in_one_mapping(&self, one: Address, other: Address) -> bool {
        self.space.mapping(one).is_some_and(|mapping| mapping.range.contains(&other))
    }
}

/// The ranges of code that are the same in both, by address.
fn unchanged(before: &[Mapping], after: &[Mapping]) -> Vec<Range<Address>> {
    let mut old = before.iter().peekable();
    let mut same = Vec::new();
    for new in after.iter().filter(|mapping| mapping.executable) {
        while old.next_if(|old| old.range.start < new.range.start).is_some() {}
        if old.peek().is_some_and(|old| *old == new) {
            same.push(new.range.clone());
        }
    }
    same
}

/// Whether `code` is where a signal handler returns to: by its bytes, since
/// not every C library has unwind data for it. The system call itself is the
/// second instruction.
fn is_trampoline(module: &Module, code: CodeAddress, machine: &Machine) -> bool {
    let local = code.address().0;
    let bytes = machine.trampoline;
    let second = match machine.architecture {
        Architecture::X86_64 => 7,
        Architecture::Aarch64 => 4,
    };
    let is_at = |at| module.loaded(at, bytes.len()) == Some(bytes);
    is_at(local) || matches!(code, CodeAddress::Instruction(_)) && is_at(local.wrapping_sub(second))
}
