//! The command line: what may be typed, what it means, and what is said back.
//!
//! This is the only room that prints, reads the environment, or knows an exit
//! code.

mod args;
mod candidates;
mod capture;
mod child;
mod console;
mod destination;
mod dump;
mod exit;
mod names;
mod naming;
mod plan;
mod quantity;
mod record;
mod refusal;
mod signals;
mod summary;
mod target;
mod top;
mod typed;

use std::process::ExitCode;

use clap::{
    Parser,
    error::{ContextKind, ContextValue},
};

use self::{
    args::{Arguments, Command},
    console::Console,
    exit::{Exit, report},
};

/// A number that stands alone was meant to name a process.
fn suggest(error: &mut clap::Error) {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return };
    if quantity::pid(word).is_ok() {
        let tip = format!("to watch process {word}, type `-p {word}`");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}

/// Do what the arguments of the program say.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(mut error) => {
            suggest(&mut error);
            // The text of --help and --version comes this way, too.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    let console = Console::new(arguments.color);
    let done = match arguments.command {
        Command::Top(typed) => plan::top(typed).and_then(|job| top::run(&job, &console)),
        Command::Record(typed) => plan::record(typed).and_then(|job| record::run(&job, &console)),
        Command::Dump(typed) => dump::run(&plan::dump(typed), &console),
        Command::Capture(typed) => capture::run(&plan::capture(typed), &console),
    };
    done.unwrap_or_else(|error| report(&error, &console)).into()
}
