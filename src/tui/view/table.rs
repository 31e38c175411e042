//! Tables: columns with headings, and rows of which one may be chosen.

use ratatui::style::{Color, Modifier, Style};

use super::{
    Letters,
    canvas::Canvas,
    cells::{self, Cut},
};
use crate::{
    style::{self, Role},
    tui::{screen::Table, target::Target},
};

/// The cells at the left of each row that say whether it is chosen (`>`) and
/// whether it was searched for (`*`).
pub(super) const MARKS: usize = 2;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column<Id> {
    /// What is in it.
    pub(super) id: Id,
    /// What stands above it.
    pub(super) heading: &'static str,
    /// The blank cells before it.
    pub(super) gap: usize,
    /// The cells that it has.
    pub(super) cells: usize,
    /// Whether it is a number, with its end at the column's.
    pub(super) right: bool,
}

impl<Id> Column<Id> {
    /// A column of numbers.
    pub(super) const fn number(id: Id, heading: &'static str, cells: usize) -> Self {
        Self { id, heading, gap: 1, cells, right: true }
    }

    /// A column of text.
    pub(super) const fn text(id: Id, heading: &'static str, cells: usize) -> Self {
        Self { id, heading, gap: 2, cells, right: false }
    }

    /// The cells that it takes.
    pub(super) const fn taken(&self) -> usize {
        self.gap + self.cells
    }
}

/// The cells that `columns` take.
pub(super) fn taken<Id>(columns: &[Column<Id>]) -> usize {
    MARKS + columns.iter().map(Column::taken).sum::<usize>()
}

/// What stands in a cell of a table.
pub(super) struct Entry {
    /// Its text.
    pub(super) text: String,
    /// How it looks.
    pub(super) role: Option<Role>,
    /// Where it is cut.
    pub(super) cut: Cut,
}

impl Entry {
    /// Text that looks like all text, and is cut at its end.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), role: None, cut: Cut::End }
    }

    /// The same, looking like a `role`.
    pub(super) fn role(self, role: Role) -> Self {
        Self { role: Some(role), ..self }
    }

    /// The same, cut elsewhere.
    pub(super) fn cut(self, cut: Cut) -> Self {
        Self { cut, ..self }
    }

    /// A number that looks like nothing where it is nothing.
    pub(super) fn share(share: f64) -> Self {
        let entry = Self::new(super::numbers::percent(share));
        if share > 0.0 { entry } else { entry.role(Role::Faint) }
    }
}

/// A row of a table.
pub(super) trait Row {
    /// What tells its columns apart.
    type Id: Copy;

    /// What stands in a column that has so many cells.
    fn entry(&self, id: Self::Id, cells: usize) -> Entry;

    /// Whether it was searched for.
    fn found(&self) -> bool;

    /// Whether it is not to be relied on.
    fn faint(&self) -> bool {
        false
    }
}

/// The row of the table at the first row of a body: not so far down that
/// nothing is left to be seen.
pub(super) fn top<T>(table: &Table<T>) -> usize {
    table.top.min(table.rows.len().saturating_sub(1))
}

/// What a click in a row of the body means.
pub(super) fn row_at<T>(table: &Table<T>, row: usize) -> Option<Target> {
    let row = top(table) + row;
    (row < table.rows.len()).then_some(Target::Row(row))
}

/// What a click on the headings means.
pub(super) fn heading_at<Id>(columns: &[Column<Id>], at: usize) -> Option<Target> {
    let mut end = MARKS;
    for column in columns {
        end += column.taken();
        if at < end {
            return (at >= end - column.cells && !column.heading.is_empty())
                .then_some(Target::Column(column.heading));
        }
    }
    None
}

/// Draw the headings. That of the column by which rows are ordered, which
/// `order` begins with, has the arrow that `order` ends with.
pub(super) fn draw_headings<Id>(columns: &[Column<Id>], order: &str, canvas: &mut Canvas<'_>) {
    let (sorted, arrow) = match order.char_indices().next_back() {
        Some((at, arrow @ ('▼' | '▲'))) => (order[..at].trim(), Some(arrow)),
        _ => (order, None),
    };
    let mut at = MARKS;
    for column in columns {
        at += column.gap;
        let mut text = column.heading.to_owned();
        let mut style = canvas.style(Role::Faint);
        if !text.is_empty() && text == sorted {
            text.extend(arrow);
            style = canvas.style(Role::Strong);
        }
        if column.right {
            canvas.put_right((at + column.cells, 0), column.cells, &text, style);
        } else {
            canvas.put((at, 0), column.cells, &text, style);
        }
        at += column.cells;
    }
}

/// Draw a row below the headings, the first of which is 0.
pub(super) fn draw_row<R: Row>(
    row: &R,
    columns: &[Column<R::Id>],
    (at, chosen): (usize, bool),
    canvas: &mut Canvas<'_>,
) {
    let line = 1 + at;
    let strong = canvas.style(Role::Strong);
    canvas.put((0, line), 1, if chosen { ">" } else { " " }, strong);
    canvas.put((1, line), 1, if row.found() { "*" } else { " " }, strong);
    let mut at = MARKS;
    for column in columns {
        at += column.gap;
        let entry = row.entry(column.id, column.cells);
        let text = cells::fit(&entry.text, column.cells, entry.cut, canvas.letters());
        let style = entry.role.map_or(Style::new(), |role| canvas.style(role));
        if column.right {
            canvas.put_right((at + column.cells, line), column.cells, &text, style);
        } else {
            canvas.put((at, line), column.cells, &text, style);
        }
        at += column.cells;
    }
    let style = match () {
        () if chosen => bar(),
        () if row.faint() => canvas.style(Role::Faint),
        () if row.found() => strong,
        () => return,
    };
    canvas.tint(line, 0, canvas.width(), style);
}

/// How the row looks that is chosen: a bar of one colour, whatever is in it.
pub(super) fn bar() -> Style {
    let style = Style::new().fg(Color::Reset).bg(Color::Reset);
    style.add_modifier(Modifier::REVERSED).remove_modifier(Modifier::DIM)
}

/// Draw a table, each row of it as `show` shows it.
pub(super) fn draw<'t, T, R: Row>(
    table: &'t Table<T>,
    columns: &[Column<R::Id>],
    order: &str,
    canvas: &mut Canvas<'_>,
    show: impl Fn(&'t T) -> R,
) {
    draw_headings(columns, order, canvas);
    let (top, seen) = (top(table), canvas.height().saturating_sub(1));
    if seen < table.rows.len()
        && let Some(last) = columns.last()
    {
        let end = (top + seen).min(table.rows.len());
        let part = format!("{}-{end}/{}", top + 1, style::count(table.rows.len() as u64));
        // Beside the last heading, if there is room.
        if !last.right && last.heading.len() + 3 + part.len() <= last.cells {
            let style = canvas.style(Role::Faint);
            canvas.put_right((canvas.width().saturating_sub(1), 0), part.len(), &part, style);
        }
    }
    for (at, row) in table.rows.iter().skip(top).take(seen).enumerate() {
        draw_row(&show(row), columns, (at, top + at == table.chosen), canvas);
    }
}

/// The cells that the widest of `texts` takes, but not more than `most`, in
/// steps of four: columns should not move with each new row.
pub(super) fn widest<'a>(texts: impl Iterator<Item = &'a str>, most: usize) -> usize {
    let mut widest = 0;
    for text in texts {
        // No letter has fewer bytes than cells: most texts need no look.
        if text.len() > widest {
            widest = widest.max(cells::measure(text, Letters::Unicode));
        }
        if widest >= most {
            return most;
        }
    }
    widest.next_multiple_of(4).min(most)
}
