//! What Go's own table of functions says of its stacks.
//!
//! Every Go program carries the table (`.gopclntab`), stripped or not, because
//! its runtime walks stacks by it: for each function the distance from the
//! stack pointer to the return address, instruction by instruction, and
//! whether it is the first of a thread. The layout is that of Go 1.18 and later
//! (`runtime/symtab.go`, `runtime/runtime2.go`, `cmd/link/internal/ld/pcln.go`).

use crate::{
    memory::Plain,
    module::{Module, go_value},
    snapshot::{Architecture, Register},
};

use super::{
    cache::Action,
    machine::Machine,
    rule::{Cfa, ReturnAddress, Rule},
    table::Step,
};

/// Where linkers put the table: the second is that of position-independent
/// programs.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

/// Go 1.18 and 1.19; and 1.20, which added a field to each function.
const MAGIC_1_18: u32 = 0xffff_fff0;
const MAGIC_1_20: u32 = 0xffff_fff1;

/// The function is the first of its thread or goroutine.
const TOP_FRAME: u8 = 1;
/// The function sets the stack pointer: it goes to another stack.
const WRITES_SP: u8 = 2;

/// The functions that go to another stack and come back. With Go 1.20 and
/// older, they leave the frame pointer at the record of their caller.
const SWITCHES: [&[u8]; 2] = [b"runtime.systemstack", b"runtime.asmcgocall"];
/// The functions that leave a goroutine to the scheduler: what they call runs
/// on the thread's own stack, and may be about other goroutines. Go's runtime
/// takes them for the top of that stack, too.
const LEAVES: [&[u8]; 2] = [b"runtime.mcall", b"runtime.morestack"];

/// The function that starts a thread, and that the new thread begins in: on a
/// stack of its own, which nobody's return address is on.
const STARTS: &[u8] = b"runtime.clone";

/// The functions that a signal handler makes a goroutine call: where they
/// return to is the instruction that was interrupted.
const INJECTED: [&[u8]; 2] = [b"runtime.asyncPreempt", b"runtime.sigpanic"];

/// The table of one image.
#[derive(Clone, Copy, Debug)]
pub(super) struct GoTable<'a> {
    bytes: &'a [u8],
    /// What the addresses are relative to, as the image counts.
    text: u64,
    functions: usize,
    /// The instructions are this much apart.
    quantum: u64,
    /// Where in `bytes` the names, the lists of distances, and the functions
    /// are.
    names: usize,
    lists: usize,
    table: usize,
    /// Where in a function its flags are.
    flags: usize,
}

/// One function.
#[derive(Clone, Copy, Debug)]
struct Function<'a> {
    entry: u64,
    /// Its record, and all that follows.
    record: &'a [u8],
}

/// The distance from the stack pointer to the return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Distance {
    bytes: i32,
    /// Whether it is the function's very first instruction with that distance,
    /// and before there was none: the frame pointer has not been saved yet, or
    /// still has the caller's value.
    just_grown: bool,
}

impl<'a> GoTable<'a> {
    /// Which section of `module` holds the table, if it is a Go program.
    pub(super) fn section(module: &Module) -> Option<&'static str> {
        SECTIONS.into_iter().find(|name| module.section(name).is_some())
    }

    /// The table in `bytes`, for code at `text` if the table does not say.
    pub(super) fn parse(bytes: &'a [u8], text: Option<u64>) -> Option<Self> {
        let flags = match get::<u32>(bytes, 0)? {
            MAGIC_1_18 => 37,
            MAGIC_1_20 => 41,
            _ => return None,
        };
        let quantum = get::<u8>(bytes, 6)?;
        (get::<u8>(bytes, 7)? == 8).then_some(())?;
        let word = |at| usize::try_from(get::<u64>(bytes, at)?).ok();
        let text = match get::<u64>(bytes, 24)? {
            // It is written when the program is loaded.
            0 => text?,
            text => text,
        };
        Some(Self {
            bytes,
            text,
            functions: word(8)?,
            quantum: quantum.into(),
            names: word(32)?,
            lists: word(56)?,
            table: word(64)?,
            flags,
        })
    }

    /// What to do at `address`, as the image counts. `is_return` is whether it
    /// was called from there. `None` for code that is not Go's.
    pub(super) fn action(
        &self,
        address: u64,
        is_return: bool,
        machine: &Machine,
    ) -> Option<Action> {
        let function = self.function(address)?;
        let flags: u8 = get(function.record, self.flags)?;
        if flags & TOP_FRAME != 0 {
            return Some(Action::Root);
        }
        let distance = self.distance(&function, address)?;
        if flags & WRITES_SP != 0 {
            return Some(self.switch(&function, distance, is_return));
        }
        // Elsewhere the return address may be in a register.
        if machine.architecture != Architecture::X86_64 {
            return Some(Action::Guess);
        }
        let has_saved = distance.bytes >= 8 && (is_return || !distance.just_grown);
        let rule = Rule {
            cfa: Cfa::Offset { register: SP, offset: distance.bytes.checked_add(8)? },
            return_address: ReturnAddress::Slot(-1),
            frame_pointer: if has_saved { -2 } else { Rule::NOT_SAVED },
            saved: 0,
            slots: [0; Rule::SLOTS],
        };
        let is_injected = self.name(&function).is_some_and(|name| INJECTED.contains(&name));
        Some(if is_injected { Action::Resume(rule) } else { Action::Step(Step::Rule(rule)) })
    }

    fn switch(&self, function: &Function<'_>, distance: Distance, is_return: bool) -> Action {
        let name = self.name(function);
        if is_return && name.is_some_and(|name| LEAVES.contains(&name) || name == STARTS) {
            Action::Root
        } else if name == Some(STARTS) {
            Action::CallerOrRoot
        } else if distance.bytes >= 8 {
            Action::SwitchStacks
        } else if is_return && name.is_some_and(|name| SWITCHES.contains(&name)) {
            Action::FindSwitch
        } else {
            Action::Guess
        }
    }

    /// Where the function that holds `address` begins.
    pub(super) fn entry(&self, address: u64) -> Option<u64> {
        self.function(address).map(|function| function.entry)
    }

    /// How far the return address is above the stack pointer at `address`.
    pub(super) fn distance_at(&self, address: u64) -> Option<u64> {
        let distance = self.distance(&self.function(address)?, address)?;
        u64::try_from(distance.bytes).ok()
    }

    fn function(&self, address: u64) -> Option<Function<'a>> {
        let offset = u32::try_from(address.checked_sub(self.text)?).ok()?;
        let table = self.bytes.get(self.table..)?;
        // Pairs of a function's offset and that of its record, and then the
        // offset of the end.
        let start_of = |number: usize| get::<u32>(table, number.checked_mul(8)?);
        let (mut low, mut high) = (0, self.functions.min(table.len() / 8));
        (offset < start_of(high)?).then_some(())?;
        while low < high {
            let middle = low + (high - low) / 2;
            if start_of(middle)? <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let number = low.checked_sub(1)?;
        let record = get::<u32>(table, number.checked_mul(8)?.checked_add(4)?)?;
        let record = table.get(usize::try_from(record).ok()?..)?;
        let entry = self.text.checked_add(start_of(number)?.into())?;
        Some(Function { entry, record })
    }

    fn name(&self, function: &Function<'_>) -> Option<&'a [u8]> {
        let offset = usize::try_from(get::<i32>(function.record, 4)?).ok()?;
        let name = self.bytes.get(self.names.checked_add(offset)?..)?;
        name.split(|byte| *byte == 0).next()
    }

    fn distance(&self, function: &Function<'_>, address: u64) -> Option<Distance> {
        let list = get::<u32>(function.record, 16)?;
        // A function without a list is in assembly, and takes no stack.
        (list != 0).then_some(())?;
        let list = self.bytes.get(self.lists..)?.get(usize::try_from(list).ok()?..)?;
        let step = go_value(list, function.entry, self.quantum, address)?;
        let just_grown = address == step.start && step.before <= 0;
        Some(Distance { bytes: step.value, just_grown })
    }
}

/// rsp.
const SP: u8 = 7;
const _: () = {
    let Register(number) = Architecture::X86_64.sp();
    assert!(number == 7, "SP is the stack pointer");
};

fn get<T: Plain>(bytes: &[u8], at: usize) -> Option<T> {
    bytes.get(at..).and_then(T::decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of two functions at 0x1000: `f` (16 bytes of frame after its
    /// first 4 bytes of code), and `goexit`, the top frame, at 0x1040.
    fn table() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC_1_20.to_le_bytes());
        bytes.extend([0, 0, 1, 8]);
        let words: [u64; 8] = [2, 0, 0x1000, 72, 0, 0, 80, 96];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        assert_eq!(bytes.len(), 72);
        bytes.extend(*b"f\0goexit");
        // From -1 to 0 for 4 bytes, to 16 for 0x38, to 0 for 4; the end.
        bytes.extend([0, 2, 4, 32, 0x38, 31, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        // The functions, the end, and their records.
        let pairs: [u32; 6] = [0, 24, 0x40, 68, 0x80, 0];
        bytes.extend(pairs.iter().flat_map(|word| word.to_le_bytes()));
        for (entry, name, list, flag) in [(0_u32, 0_u32, 1_u32, 0_u8), (0x40, 2, 1, TOP_FRAME)] {
            let mut record = vec![0; 44];
            record[..4].copy_from_slice(&entry.to_le_bytes());
            record[4..8].copy_from_slice(&name.to_le_bytes());
            record[16..20].copy_from_slice(&list.to_le_bytes());
            record[41] = flag;
            bytes.extend(record);
        }
        bytes
    }

    #[test]
    fn an_injected_call_returns_to_what_was_interrupted() {
        let mut bytes = table();
        // The second function is called otherwise, and is no top frame.
        let name = bytes.len();
        bytes.extend(*b"runtime.asyncPreempt\0");
        let record = 96 + 68;
        bytes[record + 4..record + 8]
            .copy_from_slice(&u32::try_from(name - 72).unwrap().to_le_bytes());
        bytes[record + 41] = 0;
        let table = GoTable::parse(&bytes, None).unwrap();
        let action = table.action(0x1050, true, Machine::of(Architecture::X86_64));
        assert!(matches!(action, Some(Action::Resume(_))), "{action:?}");
    }

    fn rule(action: Option<Action>) -> (i32, i16) {
        match action {
            Some(Action::Step(Step::Rule(Rule {
                cfa: Cfa::Offset { offset, .. },
                frame_pointer,
                ..
            }))) => (offset, frame_pointer),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn distances_are_read_instruction_by_instruction() {
        let bytes = table();
        let table = GoTable::parse(&bytes, None).unwrap();
        let machine = Machine::of(Architecture::X86_64);
        let action = |address, is_return| table.action(address, is_return, machine);
        assert_eq!(rule(action(0x1000, false)), (8, Rule::NOT_SAVED));
        assert_eq!(rule(action(0x1003, false)), (8, Rule::NOT_SAVED));
        assert_eq!(rule(action(0x1004, false)), (24, Rule::NOT_SAVED));
        assert_eq!(rule(action(0x1004, true)), (24, -2));
        assert_eq!(rule(action(0x1005, false)), (24, -2));
        assert_eq!(rule(action(0x103c, false)), (8, Rule::NOT_SAVED));
        assert_eq!(action(0x1041, true), Some(Action::Root));
        assert_eq!(action(0xfff, true), None);
        assert_eq!(action(0x1080, true), None);
        assert_eq!(table.entry(0x1041), Some(0x1040));
        assert_eq!(table.distance_at(0x1010), Some(16));
    }

    #[test]
    fn damaged_tables_say_nothing() {
        let whole = table();
        let machine = Machine::of(Architecture::X86_64);
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                for end in [at, bytes.len()] {
                    let Some(table) = GoTable::parse(&bytes[..end], None) else { continue };
                    for address in (0xff0..0x1090).chain([0, u64::MAX]) {
                        let _ = table.action(address, address % 2 == 0, machine);
                    }
                }
            }
        }
    }
}
