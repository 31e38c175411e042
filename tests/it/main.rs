//! Every test that is not about one function, in one program.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

#[cfg(target_arch = "x86_64")]
#[cfg(target_arch = "x86_64")]
#[cfg(target_arch = "x86_64")]

mod cli;
mod destinations;
mod dump;
mod faults;
mod go;
mod golden;
mod observer;
mod outputs;
mod record;
mod rows;
mod shares;
mod single_step;
mod symbols;
mod target;
mod tidy;
mod traced;
