//! Catching one thread: has it run, can it be read where it lies, and if not,
//! stopping it for as short as can be.
//!
//! ```text
//! gate ── unchanged ─► the stack of before
//!   │ blocked ──► still ── it slept through the reading ─► registers + memory, no stop
//!   │ running       │ it ran, or a register is missing
//!   └──────────► stop ───────────────────────────────────► registers + memory
//! ```

mod copied;
mod gate;
mod harm;
mod registers;
mod stop;

pub use copied::{Copied, CopiedMemory, Depth};
pub use gate::{ARGUMENTS, Gate, Look, Schedule};
pub use harm::is_unnoticed;
pub use stop::{Arrival, Ask, Catch, Stops, Watch};
