//! Where a walk stands, and its steps.

use crate::{
    memory::Memory,
    snapshot::{Register, Registers},
    stack::{CodeAddress, End},
};

use super::{
    cfi::Row,
    machine::Machine,
    rule::{self, Cfa, ReturnAddress, Rule, add, word_at},
    walk::Owner,
    words::Words,
};

/// A frame, on the way from the innermost to the root.
///
/// Nearly every step of every walk needs the stack pointer and the frame
/// pointer alone, so a walk begins by keeping only these two. When a step above
/// the innermost frame needs another, the walk begins anew and keeps all.
pub(super) struct Standing<'a> {
    machine: &'static Machine,
    /// The code that the frame is in.
    pub(super) code: CodeAddress,
    /// The stack pointer, or where it is not known an address that it is above.
    pub(super) floor: u64,
    /// How often the walk has come to another stack.
    pub(super) switches: u32,
    pub(super) words: Words<'a>,
    /// The stack pointer.
    sp: Option<u64>,
    /// The frame pointer.
    fp: Option<u64>,
    /// Whether the frame pointer was read from a frame record: it is the next
    /// link of a chain, and no number of a function that uses the register for
    /// something else.
    is_linked: bool,
    /// The numbers of the two.
    pointers: (u8, u8),
    /// All registers of this frame, but for the two; those of the innermost
    /// frame, if the walk keeps only the two.
    registers: Registers,
    keeps: Keeps,
    /// Whether this is still the innermost frame, or all registers are kept.
    is_whole: bool,
    /// Whether the walk has ended for want of a register that it did not keep.
    pub(super) wants_all: bool,
    /// Whose stack it is, as far as was seen.
    pub(super) owner: Owner,
}

/// Which registers a walk keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    /// The stack pointer and the frame pointer.
    Pointers,
    /// All that are known.
    All,
}

impl<'a> Standing<'a> {
    /// The innermost frame.
    pub(super) fn new(
        machine: &'static Machine,
        pc: CodeAddress,
        registers: &Registers,
        memory: &'a dyn Memory,
        keeps: Keeps,
    ) -> Self {
        let architecture = machine.architecture;
        let sp = registers.get(architecture.sp());
        let floor = sp.unwrap_or(0);
        Self {
            machine,
            code: pc,
            floor,
            switches: 0,
            words: Words::new(memory, floor),
            sp,
            fp: registers.get(architecture.fp()),
            is_linked: false,
            pointers: (low(architecture.sp()), low(architecture.fp())),
            registers: *registers,
            keeps,
            is_whole: true,
            wants_all: false,
            owner: Owner::Thread,
        }
    }

    /// The stack pointer.
    #[inline]
    pub(super) fn sp(&self) -> Option<u64> {
        self.sp
    }

    /// The stack pointer, or an address that it is above.
    #[inline]
    pub(super) fn low(&self) -> u64 {
        self.sp.unwrap_or(self.floor)
    }

    /// The first six of the registers that a function must leave as they were.
    pub(super) fn preserved(&self) -> [Option<u64>; 6] {
        let mut values = [None; 6];
        let kept = (0..64_u8).filter(|number| self.machine.preserved >> number & 1 == 1);
        for (value, number) in values.iter_mut().zip(kept) {
            *value = match number {
                _ if number == self.pointers.0 => self.sp,
                _ if number == self.pointers.1 => self.fp,
                _ => self.registers.get(Register(number.into())),
            };
        }
        values
    }

    /// The frame pointer.
    pub(super) fn fp(&self) -> Option<u64> {
        self.fp
    }

    /// The frame pointer has become known.
    pub(super) fn set_fp(&mut self, fp: u64) {
        self.fp = Some(fp);
    }

    /// The register that may hold the return address of the innermost frame.
    pub(super) fn link(&self) -> Option<u64> {
        self.machine.link.filter(|_| self.is_innermost()).and_then(|link| self.registers.get(link))
    }

    fn is_innermost(&self) -> bool {
        matches!(self.code, CodeAddress::Instruction(_))
    }

    /// All registers of this frame.
    #[cold]
    fn whole(&mut self) -> Result<Registers, End> {
        if !self.is_whole {
            self.wants_all = true;
            return Err(End::UnknownRegister);
        }
        let architecture = self.machine.architecture;
        let mut registers = self.registers;
        registers.set(architecture.pc(), self.code.address().0);
        for (register, value) in [(architecture.sp(), self.sp), (architecture.fp(), self.fp)] {
            match value {
                Some(value) => registers.set(register, value),
                None => registers.forget(register),
            }
        }
        Ok(registers)
    }

    /// The two pointers have been taken to the caller by `rule`, whose slots
    /// are counted from `base`: take the others.
    #[cold]
    fn keep_all(&mut self, rule: &Rule, base: u64) {
        self.registers.keep_only(self.machine.preserved);
        for (register, slot) in rule.saved_registers() {
            match self.words.word(word_at(base, slot)) {
                Some(value) => self.registers.set(register, value),
                // Only what asks for it is lost.
                None => self.registers.forget(register),
            }
        }
    }

    #[inline]
    fn register(&mut self, number: u8) -> Result<u64, End> {
        let value = if number == self.pointers.0 {
            self.sp
        } else if number == self.pointers.1 {
            self.fp
        } else {
            self.whole()?.get(Register(number.into()))
        };
        value.ok_or(End::UnknownRegister)
    }

    /// Go to the caller by `rule`: the return address, or why there is none.
    #[inline]
    pub(super) fn take(&mut self, rule: &Rule) -> Result<u64, End> {
        let (cfa, base, by) = match rule.cfa {
            Cfa::Offset { register, offset } => {
                let cfa = add(self.register(register)?, offset.into());
                (cfa, cfa, register)
            }
            Cfa::Saved { register, at } => {
                let base = self.register(register)?;
                (self.words.word(add(base, at.into())).ok_or(End::Unreadable)?, base, register)
            }
        };
        let return_address = match rule.return_address {
            ReturnAddress::Slot(slot) => {
                self.words.word(word_at(cfa, slot)).ok_or(End::Unreadable)?
            }
            ReturnAddress::Register(register) => self.register(register)?,
            ReturnAddress::Undefined => return Err(End::Root),
        };
        if rule.frame_pointer != Rule::NOT_SAVED {
            self.fp = self.words.word(word_at(base, rule.frame_pointer));
            self.is_linked = by == self.pointers.1;
        }
        match self.keeps {
            Keeps::Pointers => self.is_whole = false,
            Keeps::All => self.keep_all(rule, base),
        }
        self.sp = Some(cfa);
        Ok(return_address)
    }

    /// Go to the caller by all that `row` says.
    pub(super) fn evaluate(&mut self, row: &Row<'_, '_>) -> Result<u64, End> {
        let mut registers = self.whole()?;
        let return_address = rule::evaluate(row, &mut registers, &mut self.words, self.machine)?;
        self.replace(registers);
        Ok(return_address)
    }

    /// Go to the caller of an innermost frame that has changed no register but
    /// the stack pointer, or has saved none but the frame pointer, which still
    /// has its value.
    pub(super) fn pop(&mut self, caller_sp: u64) {
        self.sp = Some(caller_sp);
        match self.keeps {
            Keeps::Pointers => self.is_whole = false,
            Keeps::All => self.registers.keep_only(self.machine.preserved),
        }
    }

    /// Go to the code that a signal interrupted, by what the kernel saved: its
    /// program counter.
    pub(super) fn leave_signal(&mut self) -> Result<u64, End> {
        let architecture = self.machine.architecture;
        let sp = self.sp().ok_or(End::UnknownRegister)?;
        let mut interrupted = Registers::unknown();
        for (register, offset) in self.machine.context {
            if let Some(value) = self.words.word(sp.wrapping_add(*offset)) {
                interrupted.set(*register, value);
            }
        }
        let (Some(pc), Some(_)) =
            (interrupted.get(architecture.pc()), interrupted.get(architecture.sp()))
        else {
            return Err(End::Unreadable);
        };
        self.replace(interrupted);
        Ok(pc)
    }

    /// Follow the frame pointer: (fp, ra) = (*fp, *(fp + 8)), and the caller's
    /// stack pointer where the architecture says that it is just above.
    ///
    /// The code there may have saved any other register anywhere, so none is
    /// known any more. Plausible is a record that is aligned and not below
    /// `floor`. A frame pointer of 0 ends a chain, if there was one: in code
    /// that uses the register for something else, it is a number.
    pub(super) fn follow_frame_pointer(&mut self, floor: u64) -> Result<u64, End> {
        let architecture = self.machine.architecture;
        let fp = self.fp().ok_or(End::UnknownRegister)?;
        if fp == 0 && self.is_linked {
            return Err(End::Root);
        }
        if fp == 0 || fp % 8 != 0 || fp < floor {
            return Err(End::NoUnwindInfo);
        }
        let return_address = self.words.word(fp.wrapping_add(8)).ok_or(End::Unreadable)?;
        let next = self.words.word(fp).ok_or(End::Unreadable)?;
        let mut caller = Registers::unknown();
        caller.set(architecture.fp(), next);
        match self.machine.frame_record {
            Some(above) => caller.set(architecture.sp(), fp.wrapping_add(above)),
            // The record is behind us, wherever the stack pointer is.
            None => self.floor = fp.saturating_add(8),
        }
        // A first record that leads nowhere may be any two words.
        if return_address == 0 && next != 0 && !self.is_linked {
            return Err(End::NoUnwindInfo);
        }
        self.replace(caller);
        self.is_linked = true;
        Ok(return_address)
    }

    fn replace(&mut self, registers: Registers) {
        self.sp = registers.get(self.machine.architecture.sp());
        self.fp = registers.get(self.machine.architecture.fp());
        self.registers = registers;
        self.is_linked = false;
        self.is_whole = true;
    }
}

/// A register's number in a byte: none that a walk is about is larger.
fn low(register: Register) -> u8 {
    u8::try_from(register.0).unwrap_or(u8::MAX)
}
