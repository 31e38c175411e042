//! What the mouse can point at.

use super::screen::Tab;

/// What a click means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The name of a tab.
    Tab(Tab),
    /// A row of the table, or a line of the source, by its index among all.
    Row(usize),
    /// A box of the icicle graph, by its index among all.
    FlameBox(usize),
    /// The heading of a column, by what it is called there.
    Column(&'static str),
    /// A key that the last line names: the first of the pair in
    /// [`Screen::keys`](super::Screen::keys).
    Key(&'static str),
    /// One of the things to choose from, by its index among all.
    Choice(usize),
    /// Outside what stands before everything else.
    Outside,
}
