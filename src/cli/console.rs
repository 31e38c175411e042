//! Standard error and standard output: who reads them, and in which colours.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use super::args::Colour;
use crate::style::{Paint, Role};

/// Who reads what this program writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Console {
    /// Colours on standard output.
    pub(super) out: Paint,
    /// Colours on standard error.
    pub(super) err: Paint,
    /// Whether somebody sits at standard error and sees lines change.
    pub(super) live: bool,
    /// Whether somebody can be asked.
    pub(super) answers: bool,
    /// Whether the terminal can do more than print lines.
    pub(super) is_clever: bool,
    /// The letters of a line of the terminal that standard output is.
    pub(super) width: Option<usize>,
}

impl Console {
    /// Look at the flag first, then at the environment, then at the terminals.
    pub(super) fn new(colour: Colour) -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let paint = |terminal| match colour {
            Colour::Always => Paint::Coloured,
            Colour::Auto if terminal && !set("NO_COLOR") && !dumb => Paint::Coloured,
            Colour::Auto | Colour::Never => Paint::Plain,
        };
        Self {
            out: paint(out),
            err: paint(err),
            live: err && !dumb,
            is_clever: !dumb,
            answers: err && io::stdin().is_terminal(),
            width: terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into()),
        }
    }

    /// Write `label: text` to standard error. When nobody is there to read it,
    /// nothing is lost but the message.
    pub(super) fn line(&self, role: Role, label: &str, text: &str) {
        let _ = writeln!(io::stderr(), "{}: {text}", self.err.text(role, label));
    }

    /// Write `text` to standard error.
    pub(super) fn say(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Something may not be as was wanted.
    pub(super) fn warn(&self, text: &str) {
        self.line(Role::Warning, "warning", text);
    }
}
