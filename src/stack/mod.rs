//! Stacks: what was found, innermost frame first, and why it ends.

mod merge;
mod parked;

use std::{fmt, sync::Arc};

pub use merge::{Placed, merge, place_rest};
pub use parked::{Parked, ParkedKind, ParkedState};

use crate::memory::Address;

/// Where machine code was, and how we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeAddress {
    /// The instruction about to run.
    Instruction(Address),
    /// The instruction after a call.
    Return(Address),
}

impl CodeAddress {
    /// The address to look up. A return address may already lie in the next
    /// function (a call to a function that never returns can be the last
    /// instruction), so step back into the call.
    #[inline]
    pub const fn lookup(self) -> Address {
        match self {
            Self::Instruction(at) => at,
            Self::Return(at) => Address(at.0.saturating_sub(1)),
        }
    }

    /// The address as the processor had it.
    #[inline]
    pub const fn address(self) -> Address {
        match self {
            Self::Instruction(at) | Self::Return(at) => at,
        }
    }
}

/// The number of an ELF image among all that were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(pub u32);

/// One function on a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// Machine code, not yet given a name.
    Native(NativeFrame),
    /// A function of a language runtime.
    Managed(Arc<ManagedFrame>),
}

/// A frame of machine code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NativeFrame {
    /// The image that holds the code; `None` for code in no file (JIT), or
    /// outside every mapping.
    pub module: Option<ModuleId>,
    /// Where: as the image's own symbol table counts (its virtual addresses)
    /// when `module` is known, else in the target's address space.
    pub code: CodeAddress,
}

/// A function of a language runtime.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ManagedFrame {
    /// The name as its language writes it.
    pub function: String,
    /// The source file.
    pub file: String,
    /// The line being run, where known.
    pub line: Option<u32>,
    /// The first and the last column of what is being run on that line, in
    /// bytes from 1, where known.
    pub columns: Option<(u32, u32)>,
    /// The first line of the function, where known.
    pub first_line: Option<u32>,
}

/// A local variable and its value, as a reader is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value, in the notation of the language.
    pub value: String,
    /// Whether it is an argument of its function.
    pub is_argument: bool,
}

/// A stack, and why it ends where it ends.
///
/// Not a `Result`: half a stack is worth showing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    pub end: End,
}

/// Why a stack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The thread's first function.
    Root,
    /// No unwind data for the code there, and no frame pointer to follow.
    NoUnwindInfo,
    /// The unwind data asks for a register whose value is not known.
    UnknownRegister,
    /// The stack goes on where memory was not copied, or cannot be read.
    Unreadable,
    /// The return address found is no code, or the stack does not move on.
    Implausible,
    /// The unwind data is damaged.
    BadUnwindInfo,
    /// More frames than are kept.
    TooDeep,
    /// The thread could not be looked at.
    NotCaught,
    /// It ran, and was not to be stopped.
    NotStopped,
}

impl End {
    /// Every end, in the order of the statistics.
    pub const ALL: [Self; 9] = [
        Self::Root,
        Self::NoUnwindInfo,
        Self::UnknownRegister,
        Self::Unreadable,
        Self::Implausible,
        Self::BadUnwindInfo,
        Self::TooDeep,
        Self::NotCaught,
        Self::NotStopped,
    ];

    /// A name for statistics: lower case, with underscores.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::NoUnwindInfo => "no_unwind_info",
            Self::UnknownRegister => "unknown_register",
            Self::Unreadable => "unreadable",
            Self::Implausible => "implausible",
            Self::BadUnwindInfo => "bad_unwind_info",
            Self::TooDeep => "too_deep",
            Self::NotCaught => "not_caught",
            Self::NotStopped => "not_stopped",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::NoUnwindInfo => "no unwind data here",
            Self::UnknownRegister => "a register is not known here",
            Self::Unreadable => "the stack cannot be read here",
            Self::Implausible => "the return address is not plausible",
            Self::BadUnwindInfo => "damaged unwind data here",
            Self::TooDeep => "deeper than is kept",
            Self::NotCaught => "the thread could not be looked at",
            Self::NotStopped => "the thread ran, and was not stopped",
        })
    }
}

/// What is known of one function at one place, after symbolization: what a
/// reader of a profile is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// The function's name, demangled; where there is none, module and offset.
    pub function: String,
    /// The source file as the debug information has it.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The file name (not the path) of the image that holds the code.
    pub module: Option<String>,
    /// Whether the compiler inlined this function into the next outer one.
    pub inlined: bool,
    /// Whether it is machine code that was made of a function of a language
    /// runtime's program, and has that function's name, as Cython makes it.
    pub compiled: bool,
}
