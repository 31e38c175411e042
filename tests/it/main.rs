//! Every test that is not about one function, in one program.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod cli;
#[cfg(target_arch = "x86_64")]
mod go;
mod golden;
mod outputs;
mod rows;
#[cfg(target_arch = "x86_64")]
mod single_step;
mod symbols;
mod tidy;
#[cfg(target_arch = "x86_64")]
mod traced;
