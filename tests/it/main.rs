//! Every test that is not about one function, in one program.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod cli;
mod destinations;
mod dump;
mod faults;
mod go;
mod golden;
mod observer;
mod oracle;
mod outputs;
mod record;
mod replay;
mod rows;
mod seeds;
mod shares;
mod single_step;
mod symbols;
mod target;
mod tidy;
mod traced;
