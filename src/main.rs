//! The `spy` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    spy::cli::run()
}
