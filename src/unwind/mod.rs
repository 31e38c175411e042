//! From the registers and the memory of a thread to its frames.
//!
//! ```text
//!  code address ──► cache ──► rule ──► the caller's registers ──► its code address
//!                     │ miss
//!                     ▼
//!                   image ──► table, or gimli for one row ──► no unwind data: guess
//! ```
//!
//! A walk never goes on with a register whose value it does not know, and
//! never past an address that is no code: it ends, and says why. It is bounded
//! whatever the target's memory holds.

mod aarch64;
mod cache;
mod cfi;
mod frame_size;
mod golang;
mod guess;
mod image;
mod instruction;
mod located;
mod machine;
mod rule;
mod standing;
mod table;
mod tables;
mod walk;
mod words;
mod x86_64;

pub use cfi::{CfiSection, FdeAt};
pub use rule::{Cfa, ReturnAddress, Rule};
pub use table::{Found, Step, Table};
pub use tables::{Builder, Tables};
pub use walk::{Extent, MAX_FRAMES, Owner, Unwinder, Walk, Wanted};

#[cfg(test)]
mod tests;
