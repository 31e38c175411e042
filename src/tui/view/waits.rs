//! Rows of places where threads sleep.

use super::{
    Letters,
    canvas::Canvas,
    numbers,
    table::{self, Column, Entry, Row},
};
use crate::{
    style::Role,
    tui::screen::{Table, WaitRow},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Share,
    Threads,
    Since,
    Call,
    Object,
    Stack,
}

/// The columns on a terminal of this width.
pub(super) fn columns(rows: &[WaitRow], width: usize) -> Vec<Column<Id>> {
    let call = table::widest(rows.iter().map(|row| row.call.as_str()), 16).max(8);
    let mut columns = vec![
        Column::number(Id::Share, "share", 6),
        Column::number(Id::Threads, "threads", 8),
        Column::number(Id::Since, "since", 7),
        Column::text(Id::Call, "call", call),
    ];
    if width < 60 {
        columns.retain(|column| !matches!(column.id, Id::Threads | Id::Since));
    }
    let left = width.saturating_sub(table::taken(&columns) + 4);
    let object = table::widest(rows.iter().map(|row| row.object.as_str()), left / 2).max(8);
    columns.push(Column::text(Id::Object, "for", object));
    columns.push(Column::text(Id::Stack, "in", left.saturating_sub(object)));
    columns
}

/// Draw the rows of `table`.
pub(super) fn draw(table: &Table<WaitRow>, order: &str, canvas: &mut Canvas<'_>) {
    let columns = columns(&table.rows, canvas.width());
    let letters = canvas.letters();
    table::draw(table, &columns, order, canvas, |row| Shown { row, letters });
}

struct Shown<'a> {
    row: &'a WaitRow,
    letters: Letters,
}

impl Row for Shown<'_> {
    type Id = Id;

    fn entry(&self, id: Id, _: usize) -> Entry {
        let row = self.row;
        match id {
            Id::Share => Entry::share(row.share),
            Id::Threads => Entry::new(row.threads.to_string()),
            Id::Since => Entry::new(row.longest.map(numbers::ago).unwrap_or_default()),
            Id::Call => Entry::new(&*row.call).role(Role::Waiting),
            Id::Object => Entry::new(&*row.object),
            Id::Stack => Entry::new(super::foot::path(&row.stack, self.letters)).role(Role::Faint),
        }
    }

    fn found(&self) -> bool {
        self.row.found
    }
}
