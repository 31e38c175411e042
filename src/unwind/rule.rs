//! The rules that take registers from one frame to the frame of its caller.

use gimli::{CfaRule, Operation, RegisterRule, UnwindTableRow};

use crate::{
    snapshot::{Register, Registers},
    stack::End,
};

use super::{
    cfi::{Bytes, Row},
    machine::Machine,
    words::Words,
};

/// What to do at one address of code, in 40 bytes. "CFA" is the canonical
/// frame address: what the caller's stack pointer will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Where the CFA is.
    pub cfa: Cfa,
    /// Where the return address is.
    pub return_address: ReturnAddress,
    /// Which registers were saved: 1 << number.
    pub saved: u32,
    /// Where they were saved, in the order of their numbers, in words from the
    /// CFA ([`Cfa::Offset`]) or from the register ([`Cfa::Saved`]).
    pub slots: [i16; Self::SLOTS],
}

/// Where the CFA is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cfa {
    /// cfa = register + offset; a saved register = *(cfa + 8 slot)
    Offset {
        /// The register's number.
        register: u8,
        /// In bytes.
        offset: i32,
    },
    /// cfa = *(register + at); a saved register = *(register + 8 slot)
    ///
    /// So a function begins that aligns its stack by itself.
    Saved {
        /// The register's number.
        register: u8,
        /// In bytes.
        at: i32,
    },
}

/// Where the return address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReturnAddress {
    /// ra = *(cfa + 8 slot)
    Slot(i16),
    /// ra = register, before the step
    Register(u8),
    /// There is none: this is a thread's first function.
    Undefined,
}

impl Rule {
    /// How many registers a rule can hold: those that a function of any
    /// architecture gives back, x19 to x29 of aarch64 being the most.
    pub const SLOTS: usize = 12;

    /// A frame that saves nothing and has its return address on top of
    /// `size` bytes of stack: cfa = register + size + 8, ra = *(cfa - 8)
    pub(super) const fn bare(register: Register, size: i32) -> Self {
        Self {
            cfa: Cfa::Offset {
                register: register.0.to_le_bytes()[0],
                offset: size.wrapping_add(8),
            },
            return_address: ReturnAddress::Slot(-1),
            saved: 0,
            slots: [0; Self::SLOTS],
        }
    }

    /// The same, with `register` saved just below the return address.
    pub(super) const fn and_saves(mut self, register: Register) -> Self {
        self.saved = 1 << register.0;
        self.slots[0] = -2;
        self
    }

    /// The rule that says what `row` says, if a rule can say it.
    ///
    /// Left to gimli are rows with expressions, with registers that a caller
    /// does not expect back, with saved registers that are not where a rule
    /// can hold them, and the frames of signals.
    pub(super) fn of(row: &Row<'_, '_>, machine: &Machine) -> Option<Self> {
        if row.fde.is_signal_trampoline() {
            return None;
        }
        let (cfa, base) = cfa(row)?;
        let mut return_address = match machine.link {
            Some(link) => Some(ReturnAddress::Register(number(link.0)?)),
            None => None,
        };
        let mut saved = [None; 32];
        for (register, rule) in row.row.registers() {
            let (register, rule) = (register.0, rule);
            if register == row.return_column() {
                return_address = Some(return_address_of(rule, machine)?);
                continue;
            }
            if usize::from(register) >= Registers::COUNT {
                continue;
            }
            let preserved = machine.preserved >> register & 1 == 1;
            match (rule, base) {
                // What a caller does not expect back is unknown anyhow.
                (RegisterRule::Undefined, _) if !preserved => {}
                (RegisterRule::SameValue, _) if preserved => {}
                (RegisterRule::Offset(offset), None) => {
                    *saved.get_mut(usize::from(register))? = Some(slot(*offset)?);
                }
                (RegisterRule::Expression(expression), Some(base)) => {
                    let at = plain_offset(row.operations(*expression), base)?;
                    *saved.get_mut(usize::from(register))? = Some(slot(at)?);
                }
                _ => return None,
            }
        }
        // The caller's stack pointer is the CFA, and nothing else.
        if saved.get(usize::from(machine.architecture.sp().0))?.is_some() {
            return None;
        }
        let mut rule =
            Self { cfa, return_address: return_address?, saved: 0, slots: [0; Self::SLOTS] };
        let mut free = rule.slots.iter_mut();
        for (register, slot) in saved.iter().enumerate() {
            if let Some(slot) = slot {
                *free.next()? = *slot;
                rule.saved |= 1 << register;
            }
        }
        Some(rule)
    }

    /// Take `registers` to the caller: its return address, or why there is
    /// none. The program counter is left for the walk to set.
    #[inline]
    pub(super) fn apply(
        &self,
        registers: &mut Registers,
        words: &mut Words<'_>,
        machine: &Machine,
    ) -> Result<u64, End> {
        let (cfa, base) = match self.cfa {
            Cfa::Offset { register, offset } => {
                let register = registers.get(Register(register.into()));
                let cfa = add(register.ok_or(End::UnknownRegister)?, offset.into());
                (cfa, cfa)
            }
            Cfa::Saved { register, at } => {
                let register = registers.get(Register(register.into()));
                let base = register.ok_or(End::UnknownRegister)?;
                (words.word(add(base, at.into())).ok_or(End::Unreadable)?, base)
            }
        };
        let return_address = match self.return_address {
            ReturnAddress::Slot(slot) => words.word(word_at(cfa, slot)).ok_or(End::Unreadable)?,
            ReturnAddress::Register(register) => {
                registers.get(Register(register.into())).ok_or(End::UnknownRegister)?
            }
            ReturnAddress::Undefined => return Err(End::Root),
        };
        registers.keep_only(machine.preserved);
        let mut left = self.saved;
        for slot in &self.slots {
            if left == 0 {
                break;
            }
            let register = Register(u16::try_from(left.trailing_zeros()).unwrap_or(u16::MAX));
            left &= left - 1;
            match words.word(word_at(base, *slot)) {
                Some(value) => registers.set(register, value),
                // Only what asks for it later is lost.
                None => registers.forget(register),
            }
        }
        registers.set(machine.architecture.sp(), cfa);
        Ok(return_address)
    }

    /// The saved registers, and where each is, in bytes from where
    /// [`slots`](Self::slots) are counted.
    pub fn saved_registers(&self) -> impl Iterator<Item = (Register, i64)> + '_ {
        let numbers = (0..32).filter(|number| self.saved >> number & 1 == 1);
        numbers.map(Register).zip(self.slots.iter().map(|slot| i64::from(*slot) * 8))
    }
}

fn add(base: u64, offset: i64) -> u64 {
    base.wrapping_add_signed(offset)
}

fn word_at(base: u64, slot: i16) -> u64 {
    add(base, i64::from(slot) * 8)
}

/// A distance in bytes as a slot, if it is one.
fn slot(bytes: i64) -> Option<i16> {
    (bytes % 8 == 0).then(|| i16::try_from(bytes / 8).ok()).flatten()
}

fn number(register: u16) -> Option<u8> {
    u8::try_from(register).ok().filter(|number| usize::from(*number) < Registers::COUNT)
}

/// The CFA, and the register that saved registers are counted from if it is
/// not the CFA.
fn cfa(row: &Row<'_, '_>) -> Option<(Cfa, Option<u16>)> {
    match row.row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            let offset = i32::try_from(*offset).ok()?;
            Some((Cfa::Offset { register: number(register.0)?, offset }, None))
        }
        CfaRule::Expression(expression) => {
            let mut operations = row.operations(*expression);
            let Ok(Some(Operation::RegisterOffset { register, offset, .. })) = operations.next()
            else {
                return None;
            };
            let Ok(Some(Operation::Deref { size: 8, space: false, .. })) = operations.next() else {
                return None;
            };
            operations.next().ok()?.is_none().then_some(())?;
            let at = i32::try_from(offset).ok()?;
            Some((Cfa::Saved { register: number(register.0)?, at }, Some(register.0)))
        }
    }
}

/// The offset of an expression that is no more than `register` and an offset.
fn plain_offset(mut operations: gimli::OperationIter<Bytes<'_>>, register: u16) -> Option<i64> {
    match (operations.next(), operations.next()) {
        (Ok(Some(Operation::RegisterOffset { register: base, offset, .. })), Ok(None))
            if base.0 == register =>
        {
            Some(offset)
        }
        _ => None,
    }
}

fn return_address_of(rule: &RegisterRule<usize>, machine: &Machine) -> Option<ReturnAddress> {
    match rule {
        RegisterRule::Undefined => Some(ReturnAddress::Undefined),
        RegisterRule::Offset(offset) => Some(ReturnAddress::Slot(slot(*offset)?)),
        RegisterRule::Register(register) => Some(ReturnAddress::Register(number(register.0)?)),
        RegisterRule::SameValue => Some(ReturnAddress::Register(number(machine.link?.0)?)),
        _ => None,
    }
}

/// All that `row` says, by the book: `registers` become the caller's, and its
/// return address is given, or why there is none.
pub(super) fn evaluate(
    row: &Row<'_, '_>,
    registers: &mut Registers,
    words: &mut Words<'_>,
    machine: &Machine,
) -> Result<u64, End> {
    let before = *registers;
    let cfa = match row.row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            let base = before.get(Register(register.0)).ok_or(End::UnknownRegister)?;
            add(base, *offset)
        }
        CfaRule::Expression(expression) => row.evaluate(*expression, None, &before, words)?,
    };
    let mut value = |rule: &RegisterRule<usize>, same: Option<Register>| match rule {
        RegisterRule::Undefined | RegisterRule::Architectural => Err(End::UnknownRegister),
        RegisterRule::SameValue => {
            same.and_then(|same| before.get(same)).ok_or(End::UnknownRegister)
        }
        RegisterRule::Offset(offset) => words.word(add(cfa, *offset)).ok_or(End::Unreadable),
        RegisterRule::ValOffset(offset) => Ok(add(cfa, *offset)),
        RegisterRule::Register(register) => {
            before.get(Register(register.0)).ok_or(End::UnknownRegister)
        }
        RegisterRule::Expression(expression) => {
            let at = row.evaluate(*expression, Some(cfa), &before, words)?;
            words.word(at).ok_or(End::Unreadable)
        }
        RegisterRule::ValExpression(expression) => {
            row.evaluate(*expression, Some(cfa), &before, words)
        }
        RegisterRule::Constant(value) => Ok(*value),
    };
    let column = row.return_column();
    let return_address = match row.row.register(gimli::Register(column)) {
        Some(RegisterRule::Undefined) => return Err(End::Root),
        Some(rule) => value(&rule, machine.link)?,
        None => {
            let link = machine.link.ok_or(End::BadUnwindInfo)?;
            before.get(link).ok_or(End::UnknownRegister)?
        }
    };
    registers.keep_only(machine.preserved);
    registers.set(machine.architecture.sp(), cfa);
    for (register, rule) in row.row.registers() {
        let register = Register(register.0);
        if register.0 == column {
            continue;
        }
        match value(rule, Some(register)) {
            Ok(value) => registers.set(register, value),
            Err(_) => registers.forget(register),
        }
    }
    Ok(return_address)
}

/// Take `registers` from the kernel's signal frame: the interrupted program
/// counter.
pub(super) fn leave_signal(
    registers: &mut Registers,
    words: &mut Words<'_>,
    machine: &Machine,
) -> Result<u64, End> {
    let sp = registers.get(machine.architecture.sp()).ok_or(End::UnknownRegister)?;
    let mut interrupted = Registers::unknown();
    for (register, offset) in machine.context {
        if let Some(value) = words.word(sp.wrapping_add(*offset)) {
            interrupted.set(*register, value);
        }
    }
    let architecture = machine.architecture;
    let (Some(pc), Some(_)) =
        (interrupted.get(architecture.pc()), interrupted.get(architecture.sp()))
    else {
        return Err(End::Unreadable);
    };
    *registers = interrupted;
    Ok(pc)
}

/// Follow the frame pointer: (fp, ra) = (*fp, *(fp + 8)), and the caller's
/// stack pointer where the architecture says that it is just above.
///
/// The code there may have saved any other register anywhere, so none is
/// known any more. Plausible is a record that is aligned and not below
/// `floor`, and the end of the chain is a frame pointer of 0.
pub(super) fn follow_frame_pointer(
    registers: &mut Registers,
    words: &mut Words<'_>,
    machine: &Machine,
    floor: u64,
) -> Result<u64, End> {
    let architecture = machine.architecture;
    let fp = registers.get(architecture.fp()).ok_or(End::UnknownRegister)?;
    if fp == 0 {
        return Err(End::Root);
    }
    if fp % 8 != 0 || fp < floor {
        return Err(End::NoUnwindInfo);
    }
    let (Some(next), Some(return_address)) = (words.word(fp), words.word(fp.wrapping_add(8)))
    else {
        return Err(End::Unreadable);
    };
    *registers = Registers::unknown();
    registers.set(architecture.fp(), next);
    if let Some(above) = machine.frame_record {
        registers.set(architecture.sp(), fp.wrapping_add(above));
    }
    Ok(return_address)
}

/// One row of a table that gimli computed.
pub(super) type GimliRow = UnwindTableRow<usize>;
