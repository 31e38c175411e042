//! Every test that is not about one function, in one program.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod children;
mod cli;
mod destinations;
mod dump;
mod faults;
mod formats;
#[cfg(target_arch = "x86_64")]
mod go;
mod golden;
mod interpreters;
mod merged;
mod nonblocking;
mod observer;
#[cfg(target_arch = "x86_64")]
mod oracle;
mod outputs;
mod portal;
#[cfg(target_arch = "x86_64")]
mod python;
mod record;
#[cfg(target_arch = "x86_64")]
mod replay;
mod rows;
mod seeds;
mod shares;
#[cfg(target_arch = "x86_64")]
mod single_step;
mod speedscope;
mod symbols;
mod target;
mod terminal;
mod tidy;
mod top;
#[cfg(target_arch = "x86_64")]
mod traced;
mod view;
#[cfg(target_arch = "x86_64")]
mod waits;
