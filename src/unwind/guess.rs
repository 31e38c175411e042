//! What is plausible where there is no unwind data.

use crate::{
    memory::{Address, Memory},
    module::{Modules, Place},
    stack::{CodeAddress, End},
};

use super::{
    cache::Entry,
    image::Image,
    standing::Standing,
    walk::{Next, Unwinder},
};

impl Unwinder {
    /// Leave code that has no unwind data.
    ///
    /// In the innermost frame it may be at its very beginning, or be a stub
    /// that needs no stack (system calls in assembly, dispatchers): then the
    /// return address is where the call has put it. Elsewhere, follow the
    /// frame pointer. A return address that is not behind a call instruction
    /// is none.
    pub(super) fn guess(
        &mut self,
        standing: &mut Standing<'_>,
        modules: &mut Modules,
    ) -> Result<Next, End> {
        if let CodeAddress::Instruction(pc) = standing.code {
            let found = match self.machine.link {
                Some(_) => self.guess_by_link(standing, modules, pc),
                None => self.guess_by_top(standing, modules, pc),
            };
            if let Some((return_address, caller_sp)) = found {
                standing.pop(caller_sp);
                return Ok(Next::Caller(return_address));
            }
        }
        let return_address = standing.follow_frame_pointer(standing.floor)?;
        let stripped = self.strip(return_address);
        let code = CodeAddress::Return(Address(stripped));
        // What was once behind a call still is.
        let plausible = stripped == 0
            || self.cache.get(code).is_some()
            || self.is_code_or_behind_call(stripped, modules, standing.words.memory());
        if plausible { Ok(Next::Caller(return_address)) } else { Err(End::NoUnwindInfo) }
    }

    /// Leave a function of Go's runtime that has come here from the stack of a
    /// goroutine: the frame pointer is still that of its caller, and somewhere
    /// below it lies the return address of the call. It is known by the call
    /// that leads to the function, and by the size of the frame that holds it.
    pub(super) fn find_switch(
        &mut self,
        entry: &Entry,
        standing: &mut Standing<'_>,
        modules: &mut Modules,
    ) -> Result<Next, End> {
        /// In bytes: the largest frame that is searched.
        const FARTHEST: u64 = 4096;
        let (local, lookup) = (entry.lookup(standing.code), standing.code.lookup());
        let bias = lookup.0.wrapping_sub(local);
        let image = entry.module().and_then(|id| self.images.get(&id)).ok_or(End::NoUnwindInfo)?;
        let start = image.go().and_then(|go| go.entry(local)).ok_or(End::NoUnwindInfo)?;
        let start = Address(start.wrapping_add(bias));
        let fp = standing.fp().ok_or(End::UnknownRegister)?;
        let memory = standing.words.memory();
        for below in (8..=FARTHEST).step_by(8) {
            let slot = fp.wrapping_sub(below);
            let word = standing.words.word(slot).ok_or(End::Unreadable)?;
            if !self.in_one_mapping(start, Address(word)) {
                continue;
            }
            let image = entry.module().and_then(|id| self.images.get(&id));
            let go = image.and_then(Image::go).ok_or(End::NoUnwindInfo)?;
            let caller = word.wrapping_sub(bias).wrapping_sub(1);
            // The frame pointer is saved just below the return address.
            let fits = go.distance_at(caller).is_some_and(|distance| distance == below);
            let code = self.code_before(word, modules, memory).unwrap_or_default();
            let target = (self.machine.call_target)(&code);
            if fits && target.map(|target| word.wrapping_add_signed(target)) == Some(start.0) {
                standing.pop(slot.wrapping_add(8));
                return Ok(Next::Switched(word));
            }
        }
        Err(End::NoUnwindInfo)
    }

    /// x86: the return address is on top of the stack, or below it is the
    /// caller's frame pointer, just pushed. Also the caller's stack pointer.
    fn guess_by_top(
        &mut self,
        standing: &mut Standing<'_>,
        modules: &mut Modules,
        pc: Address,
    ) -> Option<(u64, u64)> {
        let sp = standing.sp()?;
        let top = standing.words.word(sp)?;
        let memory = standing.words.memory();
        let pushed = standing.fp() == Some(top) && top != 0;
        let above = if pushed { standing.words.word(sp.wrapping_add(8)) } else { None };
        for (found, size) in [(above, 16), (Some(top), 8)] {
            let Some(found) = found.filter(|found| *found != 0) else { continue };
            // Most words are no code, and its bytes need not be read.
            if !self.space.is_executable(Address(found - 1)) {
                continue;
            }
            // A stub may have been jumped to, by a function that lies anywhere.
            let code = self.code(pc, self.machine.longest_call, modules, memory);
            let is_stub = code.is_some_and(|code| (self.machine.is_stub)(&code));
            let callee = (!is_stub).then_some(pc);
            if self.is_behind_call(found, callee, modules, memory) {
                return Some((found, sp.wrapping_add(size)));
            }
        }
        None
    }

    /// aarch64: the link register still holds the return address if the call
    /// that set it went to this very function, and not to one that this
    /// function called.
    fn guess_by_link(
        &mut self,
        standing: &Standing<'_>,
        modules: &mut Modules,
        pc: Address,
    ) -> Option<(u64, u64)> {
        /// No function without unwind data is larger.
        const LARGEST: u64 = 4096;
        let signed = standing.link()?;
        let return_address = self.strip(signed);
        let code = self.code_before(return_address, modules, standing.words.memory())?;
        let target = return_address.wrapping_add_signed((self.machine.call_target)(&code)?);
        (pc.0.wrapping_sub(target) < LARGEST).then_some((signed, standing.sp()?))
    }

    /// Whether the instruction before `address` is a call, and one that can
    /// have led to `callee`: a direct call goes to where a function begins, at
    /// or before `callee`, or to a stub that leads to another image. (A
    /// function that was jumped to at its end may lie before its caller; its
    /// frame is then left by its frame pointer.)
    fn is_behind_call(
        &mut self,
        address: u64,
        callee: Option<Address>,
        modules: &mut Modules,
        memory: &dyn Memory,
    ) -> bool {
        let Some(code) = self.code_before(address, modules, memory) else { return false };
        let target = (self.machine.call_target)(&code);
        let leads_past = target.zip(callee).is_some_and(|(distance, callee)| {
            let target = Address(address.wrapping_add_signed(distance));
            target > callee && self.in_one_mapping(target, callee)
        });
        (self.machine.ends_in_call)(&code) && !leads_past
    }

    /// For a return address of a chain of frame records: JIT compilers put
    /// some there that no call has put there, so their code is believed.
    fn is_code_or_behind_call(
        &mut self,
        address: u64,
        modules: &mut Modules,
        memory: &dyn Memory,
    ) -> bool {
        let before = Address(address.wrapping_sub(1));
        match self.space.find(before, modules, memory) {
            Place::Anonymous => true,
            Place::Module { .. } => self.is_behind_call(address, None, modules, memory),
            // The walk will say what is there.
            Place::Unmapped => true,
            Place::NoCode => false,
        }
    }

    /// The bytes of code before `address`, as many as a call may have.
    fn code_before(
        &mut self,
        address: u64,
        modules: &mut Modules,
        memory: &dyn Memory,
    ) -> Option<Vec<u8>> {
        let len = self.machine.longest_call;
        let start = address.checked_sub(u64::try_from(len).ok()?)?;
        self.code(Address(start), len, modules, memory)
    }

    /// `len` bytes of code, or fewer at the end of an image.
    fn code(
        &mut self,
        at: Address,
        len: usize,
        modules: &mut Modules,
        memory: &dyn Memory,
    ) -> Option<Vec<u8>> {
        match self.space.find(at, modules, memory) {
            Place::Module { module, bias } => {
                module.loaded(at.0.wrapping_sub(bias), len).map(<[u8]>::to_vec)
            }
            Place::Anonymous => {
                let mut code = vec![0; len];
                memory.read(at, &mut code).ok().map(|()| code)
            }
            Place::NoCode | Place::Unmapped => None,
        }
    }
}
