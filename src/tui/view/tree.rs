//! Rows of a tree, to be opened and closed.

use super::{
    Letters,
    canvas::Canvas,
    cells::Cut,
    table::{self, Column, Entry, Row},
};
use crate::{
    style::Role,
    tui::screen::{Table, TreeRow},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Share,
    Own,
    Name,
    Place,
}

/// From this width there are places.
const PLACES: usize = 60;

/// The columns on a terminal of this width.
pub(super) fn columns(_: &[TreeRow], width: usize) -> Vec<Column<Id>> {
    let mut columns =
        vec![Column::number(Id::Share, "total", 6), Column::number(Id::Own, "self", 5)];
    let left = width.saturating_sub(table::taken(&columns) + 2);
    if width < PLACES {
        columns.push(Column::text(Id::Name, "function", left));
    } else {
        let place = ((left - 2) * 2 / 5).min(48);
        columns.push(Column::text(Id::Name, "function", left - 2 - place));
        columns.push(Column::text(Id::Place, "place", place));
    }
    columns
}

/// Draw the rows of `table`.
pub(super) fn draw(table: &Table<TreeRow>, order: &str, canvas: &mut Canvas<'_>) {
    let columns = columns(&table.rows, canvas.width());
    let name = columns.iter().find(|column| column.id == Id::Name).map_or(0, |column| column.cells);
    let seen =
        || table.rows.iter().skip(table::top(table)).take(canvas.height()).map(|row| row.depth);
    let indent = Indent::new(seen().min().unwrap_or(0), seen().max().unwrap_or(0), name / 2);
    let letters = canvas.letters();
    table::draw(table, &columns, order, canvas, |row| Shown { row, indent, letters });
}

/// How far rows are moved in.
#[derive(Clone, Copy)]
struct Indent {
    /// The depth that is not moved in at all.
    from: usize,
    /// The cells for each further one.
    step: usize,
    /// As far as any is moved in.
    most: usize,
}

impl Indent {
    /// For depths from `least` to `deepest`, and up to `most` cells. Where not
    /// all of the way from the root has room, it is what the rows that are seen
    /// have in common that is left out.
    const fn new(least: usize, deepest: usize, most: usize) -> Self {
        let step = if deepest.saturating_mul(2) <= most { 2 } else { 1 };
        let from = if deepest.saturating_mul(step) <= most { 0 } else { least };
        Self { from, step, most }
    }

    fn cells(self, depth: usize) -> usize {
        (depth.saturating_sub(self.from).saturating_mul(self.step)).min(self.most)
    }
}

struct Shown<'a> {
    row: &'a TreeRow,
    indent: Indent,
    letters: Letters,
}

impl Row for Shown<'_> {
    type Id = Id;

    fn entry(&self, id: Id, cells: usize) -> Entry {
        let row = self.row;
        match id {
            Id::Share => Entry::share(row.share),
            Id::Own => Entry::share(row.own),
            Id::Name => {
                let mark = match (row.open, self.letters) {
                    (Some(true), Letters::Unicode) => '▾',
                    (Some(false), Letters::Unicode) => '▸',
                    (Some(true), Letters::Ascii) => '-',
                    (Some(false), Letters::Ascii) => '+',
                    (None, _) => ' ',
                };
                let indent = self.indent.cells(row.depth);
                let name = cells.saturating_sub(indent + 2);
                let name = super::cells::fit(&row.name, name, Cut::Middle, self.letters);
                Entry::new(format!("{:indent$}{mark} {name}", ""))
            }
            Id::Place => Entry::new(&*row.place).cut(Cut::Path).role(Role::Faint),
        }
    }

    fn found(&self) -> bool {
        self.row.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_tree_keeps_room_for_names() {
        let cells = |indent: Indent, depths: &[usize]| -> Vec<usize> {
            depths.iter().map(|&depth| indent.cells(depth)).collect()
        };
        assert_eq!(cells(Indent::new(0, 5, 20), &[0, 1, 5]), [0, 2, 10]);
        assert_eq!(cells(Indent::new(0, 15, 20), &[0, 1, 15]), [0, 1, 15]);
        assert_eq!(cells(Indent::new(90, 100, 20), &[90, 100]), [0, 10]);
        assert_eq!(cells(Indent::new(0, usize::MAX, 20), &[0, usize::MAX]), [0, 20]);
    }
}
