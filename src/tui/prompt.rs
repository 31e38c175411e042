//! What stands before everything else, and takes the keys meanwhile.

use regex::{Regex, RegexBuilder};

use super::{
    keys::{self, Key},
    screen::Overlay,
};
use crate::{
    output::Format,
    profile::{ProcessId, ThreadId},
};

/// The longest text that is taken, in letters: of a path, `PATH_MAX` of
/// `linux/limits.h` is more than anybody types.
const LONGEST: usize = 1024;

/// The most memory that a regular expression may take, in bytes: one as
/// `\w{1000}` would take gigabytes.
const MAX_REGEX: usize = 1 << 20;

/// What may be saved, in the words of the prompt.
const FORMATS: &str = "NAME.svg, .folded, .speedscope.json or .trace.json";

/// What stands before everything else.
#[derive(Clone, Debug)]
pub(super) enum Front {
    /// All keys.
    Help,
    /// Something was done, or was not.
    Message(String),
    /// A line to type in.
    Prompt(Prompt),
    /// Something to choose from.
    Picker(Picker),
}

/// What a line is typed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What is searched for.
    Filter,
    /// The file to save in.
    Save,
}

/// A line that is being typed.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    purpose: Purpose,
    text: String,
}

/// A thing to choose, among others of its kind or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choose {
    Thread(Option<ThreadId>),
    Process(Option<ProcessId>),
}

/// Something to choose from.
#[derive(Clone, Debug)]
pub(super) struct Picker {
    label: &'static str,
    choices: Vec<(Choose, String)>,
    chosen: usize,
}

/// What came of a key.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// It goes on.
    Stays,
    /// It is over, and nothing came of it.
    Over,
    /// It is over, and the key still means what it means without it.
    Passed,
    /// Search for this, which was typed so; for nothing.
    Filter(Option<Filter>),
    /// Save in this file, as this.
    Save(String, Format),
    /// Show only this.
    Choose(Choose),
}

/// What is searched for.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// As it was typed.
    pub(super) text: String,
    /// Without regard to upper and lower case, unless a letter is upper case.
    pub(super) regex: Regex,
}

impl Filter {
    /// `text` as a regular expression; otherwise what is wrong with it.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let exact = text.chars().any(char::is_uppercase);
        let regex = RegexBuilder::new(text).case_insensitive(!exact).size_limit(MAX_REGEX).build();
        match regex {
            Ok(regex) => Ok(Self { text: text.to_owned(), regex }),
            // The text is repeated on the lines before, with a mark below it.
            Err(error) => {
                let error = error.to_string();
                let last = error.lines().last().unwrap_or_default();
                Err(last.trim_start_matches("error: ").to_owned())
            }
        }
    }
}

impl Front {
    /// Ask what to search for.
    pub(super) fn filter(text: &str) -> Self {
        Self::Prompt(Prompt { purpose: Purpose::Filter, text: text.to_owned() })
    }

    /// Ask where to save.
    pub(super) fn save(name: String) -> Self {
        Self::Prompt(Prompt { purpose: Purpose::Save, text: name })
    }

    /// Ask which; `now` is what is chosen already.
    pub(super) fn pick(label: &'static str, choices: Vec<(Choose, String)>, now: Choose) -> Self {
        let chosen = choices.iter().position(|(it, _)| *it == now).unwrap_or(0);
        Self::Picker(Picker { label, choices, chosen })
    }

    /// How it is shown.
    pub(super) fn overlay(&self) -> Overlay {
        match self {
            Self::Help => Overlay::Help(keys::help()),
            Self::Message(text) => Overlay::Message(text.clone()),
            Self::Prompt(prompt) => Overlay::Prompt {
                label: match prompt.purpose {
                    Purpose::Filter => "filter",
                    Purpose::Save => "save as",
                },
                text: prompt.text.clone(),
                hint: prompt.hint(),
            },
            Self::Picker(picker) => Overlay::Picker {
                label: picker.label,
                choices: picker.choices.iter().map(|(_, text)| text.clone()).collect(),
                chosen: picker.chosen,
            },
        }
    }

    /// The keys that are of use while it is there.
    pub(super) fn keys(&self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Help => vec![("Esc", "close"), ("q", "quit")],
            Self::Message(_) => vec![("Enter", "close"), ("w", "save"), ("q", "quit")],
            Self::Prompt(_) => vec![("Enter", "done"), ("Esc", "cancel")],
            Self::Picker(_) => vec![("Enter", "choose"), ("Esc", "cancel"), ("Up Down", "move")],
        }
    }

    pub(super) fn press(&mut self, key: Key) -> Outcome {
        match (self, key) {
            (_, Key::CtrlC) => Outcome::Passed,
            (Self::Help | Self::Message(_), Key::Char('q' | 'w')) => Outcome::Passed,
            (Self::Help | Self::Message(_), _) | (_, Key::Esc) => Outcome::Over,
            (Self::Prompt(prompt), key) => prompt.press(key),
            (Self::Picker(picker), key) => picker.press(key),
        }
    }

    /// One of the things to choose from was clicked on.
    pub(super) fn choose(&self, at: usize) -> Outcome {
        match self {
            Self::Picker(picker) => picker.choose(at),
            _ => Outcome::Over,
        }
    }
}

impl Prompt {
    fn press(&mut self, key: Key) -> Outcome {
        match key {
            Key::Char(letter) if self.text.chars().count() < LONGEST => self.text.push(letter),
            Key::Backspace => drop(self.text.pop()),
            Key::Enter => return self.done(),
            _ => {}
        }
        Outcome::Stays
    }

    fn done(&self) -> Outcome {
        match self.purpose {
            Purpose::Filter if self.text.is_empty() => Outcome::Filter(None),
            Purpose::Filter => match Filter::new(&self.text) {
                Ok(filter) => Outcome::Filter(Some(filter)),
                Err(_) => Outcome::Stays,
            },
            Purpose::Save if self.text.is_empty() => Outcome::Over,
            Purpose::Save => match Format::told_by(&self.text) {
                Some(format) => Outcome::Save(self.text.clone(), format),
                None => Outcome::Stays,
            },
        }
    }

    /// What is wrong with what was typed, or what may be typed.
    fn hint(&self) -> String {
        match self.purpose {
            Purpose::Filter if self.text.is_empty() => "a regular expression".to_owned(),
            Purpose::Filter => Filter::new(&self.text).err().unwrap_or_default(),
            Purpose::Save => match Format::told_by(&self.text) {
                Some(Format::Flamegraph) => "a flame graph".to_owned(),
                Some(Format::Collapsed) => "collapsed stacks".to_owned(),
                Some(Format::Speedscope) => "the order of time, for speedscope".to_owned(),
                Some(Format::ChromeTrace) => "the order of time, for Perfetto".to_owned(),
                None => FORMATS.to_owned(),
            },
        }
    }
}

/// How far a page goes in a picker.
const PAGE: usize = 10;

impl Picker {
    fn press(&mut self, key: Key) -> Outcome {
        let last = self.choices.len().saturating_sub(1);
        self.chosen = match key {
            Key::Up | Key::Char('k') => self.chosen.saturating_sub(1),
            Key::Down | Key::Char('j') => self.chosen + 1,
            Key::PageUp => self.chosen.saturating_sub(PAGE),
            Key::PageDown => self.chosen + PAGE,
            Key::Home | Key::Char('g') => 0,
            Key::End | Key::Char('G') => last,
            Key::Enter => return self.choose(self.chosen),
            Key::Char('q') => return Outcome::Over,
            _ => self.chosen,
        }
        .min(last);
        Outcome::Stays
    }

    fn choose(&self, at: usize) -> Outcome {
        match self.choices.get(at) {
            Some((choose, _)) => Outcome::Choose(*choose),
            None => Outcome::Stays,
        }
    }
}
