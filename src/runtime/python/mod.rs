//! CPython, from outside: which functions the interpreter's loop executes.
//!
//! ```text
//! detect ──► Interpreter ──► walk ──► RawFrame ──► code ──► ManagedFrame
//!  (symbols,    (layout,      (pointers)          (names, lines; cached)
//!   sections)    threads)
//! ```

pub mod detect;
pub mod layout;
pub mod names;
pub mod objects;
pub mod offsets;
pub mod tables;
pub mod threads;

use super::Runtime;
use crate::{
    memory::Memory,
    module::{AddressSpace, Modules},
};

/// Look for an interpreter in a process.
pub fn detect(_: &mut AddressSpace, _: &mut Modules, _: &dyn Memory) -> Option<Box<dyn Runtime>> {
    None
}
