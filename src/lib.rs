//! `spy` shows where a live process spends its time, from outside it.
//!
//! ```text
//! process ──► capture ──► snapshot ──► unwind ──┐
//! (the live    (one thread,  (the seam)  runtime ─┴─► stack ──► profile ──► output
//!  target)      caught)          ▲                                 ▲
//!                              module ───────────► symbolize ──────┘
//! ```
//!
//! Left of `snapshot` the code asks the kernel about the target, and may be
//! refused at any time. Right of it nothing does: a recorded snapshot and a
//! live one look alike.
//!
//! `spy` refuses to be a debugger (it changes nothing in its target), a
//! tracer (it sees samples, not events) and an agent (nothing of it stays).

pub mod capture;
pub mod cli;
pub mod memory;
pub mod module;
pub mod output;
pub mod process;
pub mod profile;
pub mod runtime;
pub mod sampler;
pub mod snapshot;
pub mod stack;
pub mod style;
pub mod symbolize;
mod sys;
pub mod task;
pub mod tui;
pub mod unwind;
pub mod wait;
