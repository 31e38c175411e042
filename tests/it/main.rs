//! Every test that is not about one function, in one program.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod cli;
mod golden;
mod outputs;
mod oracle;
mod rows;
mod seeds;
mod single_step;
mod symbols;
mod tidy;
mod traced;
