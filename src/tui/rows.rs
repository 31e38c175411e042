//! The rows of a tab, and which of them is chosen.

use super::{
    population::Function,
    screen::{Flame, FunctionRow, Source, ThreadRow, TreeRow, WaitRow},
    tabs,
};
use crate::profile::ThreadId;

/// The rows of a tab, and what each of them is.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    /// None, and why.
    Empty(String),
    Functions(Vec<FunctionRow>, Vec<Function>),
    Threads(Vec<ThreadRow>, Vec<ThreadId>),
    Flame(Flame),
    Tree(Vec<TreeRow>, Vec<Vec<usize>>),
    Waits(Vec<WaitRow>),
    Source(Source),
}

/// What a row is: it is found again by that when rows move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Function(Function),
    Thread(ThreadId),
    Path(Vec<usize>),
    Wait(String, String, Vec<String>),
    Line(u32),
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Empty(_) => 0,
            Self::Functions(rows, _) => rows.len(),
            Self::Threads(rows, _) => rows.len(),
            Self::Flame(flame) => flame.boxes.len(),
            Self::Tree(rows, _) => rows.len(),
            Self::Waits(rows) => rows.len(),
            Self::Source(source) => source.lines.len(),
        }
    }

    pub(super) fn spot(&self, at: usize) -> Option<Spot> {
        Some(match self {
            Self::Empty(_) => return None,
            Self::Functions(_, functions) => Spot::Function(functions.get(at)?.clone()),
            Self::Threads(_, threads) => Spot::Thread(*threads.get(at)?),
            Self::Flame(flame) => Spot::Path(tabs::flame_path(flame, at)),
            Self::Tree(_, paths) => Spot::Path(paths.get(at)?.clone()),
            Self::Waits(rows) => {
                let WaitRow { call, object, stack, .. } = rows.get(at)?.clone();
                Spot::Wait(call, object, stack)
            }
            Self::Source(source) => Spot::Line(source.lines.get(at)?.number),
        })
    }

    /// Which row `spot` is.
    pub(super) fn find(&self, spot: &Spot) -> Option<usize> {
        match (self, spot) {
            (Self::Functions(_, functions), Spot::Function(it)) => {
                functions.iter().position(|other| other == it)
            }
            (Self::Threads(_, threads), Spot::Thread(it)) => {
                threads.iter().position(|other| other == it)
            }
            // It was chosen when the boxes were made.
            (Self::Flame(flame), Spot::Path(_)) => Some(flame.chosen),
            (Self::Tree(_, paths), Spot::Path(it)) => paths.iter().position(|other| other == it),
            (Self::Waits(rows), Spot::Wait(call, object, stack)) => rows
                .iter()
                .position(|row| (&row.call, &row.object, &row.stack) == (call, object, stack)),
            (Self::Source(source), Spot::Line(it)) => {
                source.lines.iter().position(|line| line.number == *it)
            }
            _ => None,
        }
    }

    /// Whether it was searched for.
    pub(super) fn is_found(&self, at: usize, is_match: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Self::Empty(_) => false,
            Self::Functions(rows, _) => rows.get(at).is_some_and(|row| row.found),
            Self::Threads(rows, _) => rows.get(at).is_some_and(|row| row.found),
            Self::Flame(flame) => flame.boxes.get(at).is_some_and(|it| it.found),
            Self::Tree(rows, _) => rows.get(at).is_some_and(|row| row.found),
            Self::Waits(rows) => rows.get(at).is_some_and(|row| row.found),
            Self::Source(source) => source.lines.get(at).is_some_and(|it| is_match(&it.text)),
        }
    }
}

/// Which row of a tab is chosen.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// What it is; `None` for whatever is the first.
    pub(super) spot: Option<Spot>,
    /// Where it is.
    pub(super) at: usize,
    /// The first row that is seen.
    pub(super) top: usize,
}
