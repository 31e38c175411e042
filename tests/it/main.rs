//! Every test that is not about one function, in one program.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

#[cfg(target_arch = "x86_64")]
mod go;
mod rows;
#[cfg(target_arch = "x86_64")]
mod single_step;

mod tidy;
#[cfg(target_arch = "x86_64")]
mod traced;
