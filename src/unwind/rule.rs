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
    /// Where the frame pointer was saved, like [`slots`](Self::slots);
    /// [`NOT_SAVED`](Self::NOT_SAVED) if it was not.
    pub frame_pointer: i16,
    /// Which other registers were saved: 1 << number.
    pub saved: u32,
    /// Where they were saved, in the order of their numbers, in words from the
    /// CFA ([`Cfa::Offset`]) or from the register ([`Cfa::Saved`]).
    pub slots: [i16; Self::SLOTS],
}

const _: () = assert!(size_of::<Rule>() == 40, "the documentation says so");

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
    /// How many registers a rule can hold beside the frame pointer: those that
    /// a function of any architecture gives back, x19 to x28 of aarch64 being
    /// the most.
    pub const SLOTS: usize = 10;

    /// No place of a saved frame pointer.
    pub const NOT_SAVED: i16 = i16::MIN;

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
            if register >= machine.general {
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
        let frame_pointer = saved.get_mut(usize::from(machine.architecture.fp().0))?.take();
        let mut rule = Self {
            cfa,
            return_address: return_address?,
            frame_pointer: frame_pointer.unwrap_or(Self::NOT_SAVED),
            saved: 0,
            slots: [0; Self::SLOTS],
        };
        let mut free = rule.slots.iter_mut();
        for (register, slot) in saved.iter().enumerate() {
            if let Some(slot) = slot {
                *free.next()? = *slot;
                rule.saved |= 1 << register;
            }
        }
        Some(rule)
    }

    /// Whether this is a function at its first instruction, when all that a
    /// call has done is to put the return address on the stack.
    pub(super) fn is_entry(&self, machine: &Machine) -> bool {
        let is_sp = |register: u8| Register(register.into()) == machine.architecture.sp();
        matches!(self.cfa, Cfa::Offset { register, offset: 8 } if is_sp(register))
            && self.return_address == ReturnAddress::Slot(-1)
    }

    /// The other saved registers, and the slot of each.
    pub fn saved_registers(&self) -> impl Iterator<Item = (Register, i16)> + '_ {
        let numbers = (0..32).filter(|number| self.saved >> number & 1 == 1);
        numbers.map(Register).zip(self.slots.iter().copied())
    }
}

#[inline]
pub(super) fn add(base: u64, offset: i64) -> u64 {
    base.wrapping_add_signed(offset)
}

#[inline]
pub(super) fn word_at(base: u64, slot: i16) -> u64 {
    add(base, i64::from(slot) * 8)
}

/// A distance in bytes as a slot, if it is one.
fn slot(bytes: i64) -> Option<i16> {
    let slot = i16::try_from(bytes / 8).ok()?;
    (bytes % 8 == 0 && slot != Rule::NOT_SAVED).then_some(slot)
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
    let column = row.return_column();
    let return_rule = row.row.register(gimli::Register(column));
    if matches!(return_rule, Some(RegisterRule::Undefined)) {
        return Err(End::Root);
    }
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
    let return_address = match return_rule {
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

/// One row of a table that gimli computed.
pub(super) type GimliRow = UnwindTableRow<usize>;
