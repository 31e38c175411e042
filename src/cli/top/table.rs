//! The live view without a terminal: tables, or JSON, one after the other.

use std::{
    io::{self, Write},
    num::NonZeroU64,
};

use anyhow::Context;

use super::follow::{Event, Following};
use crate::{
    cli::plan::{Form, Language, Top},
    tui::{State, json, plain, view::Letters},
};

/// Print what comes, as often as is wanted.
pub(super) fn print(
    job: &Top,
    mut state: State,
    letters: Letters,
    following: &mut Following,
) -> anyhow::Result<()> {
    let printer = Printer { language: job.language, letters };
    let (mut printed, mut is_told_to_stop) = (0_u64, false);
    loop {
        match following.inbox.recv()? {
            Event::Update(update, _) => {
                following.has_taken();
                state.update(*update);
                if let Form::Batch(count) = job.form
                    && !is_told_to_stop
                {
                    printer.print(&mut state, printed > 0)?;
                    printed += 1;
                    if count.map(NonZeroU64::get) == Some(printed) {
                        return Ok(());
                    }
                }
            }
            Event::Signal(_) if is_told_to_stop => return Ok(()),
            Event::Signal(_) => {
                is_told_to_stop = true;
                following.stop();
            }
            Event::Over(over) => {
                let ending = over?.ending;
                let has_ended = ending.is_some();
                if let Some(ending) = ending {
                    state.end(ending);
                }
                if has_ended || !matches!(job.form, Form::Batch(_)) {
                    printer.print(&mut state, printed > 0)?;
                }
                return Ok(());
            }
            Event::LetGo => following.is_let_go = true,
            Event::Panicked
            | Event::Input(_)
            | Event::Deaf
            | Event::Source(_)
            | Event::Saved(_) => {}
        }
    }
}

struct Printer {
    language: Language,
    letters: Letters,
}

impl Printer {
    /// `again`: after another one.
    fn print(&self, state: &mut State, again: bool) -> anyhow::Result<()> {
        let screen = state.screen();
        let text = match self.language {
            Language::Json => json::text(&screen),
            Language::Text => {
                let between = if again { "\n" } else { "" };
                format!("{between}{}", plain::text(&screen, self.letters))
            }
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .context("standard output cannot be written")
    }
}
