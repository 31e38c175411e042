//! Rows of functions, lines or modules.

use super::{
    canvas::Canvas,
    cells::Cut,
    numbers,
    table::{self, Column, Entry, Row},
};
use crate::{
    style::Role,
    tui::{
        screen::{FunctionRow, Table},
        view::Letters,
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Own,
    Change,
    Margin,
    Total,
    Trend,
    Name,
    Place,
}

/// Fewer cells than this for names and places together are for names alone.
const NAME_AND_PLACE: usize = 28;

/// The columns on a terminal of this width.
pub(super) fn columns(rows: &[FunctionRow], width: usize) -> Vec<Column<Id>> {
    let trend = match width {
        ..100 => 8,
        100..140 => 12,
        _ => 20,
    };
    let mut columns = vec![Column::number(Id::Own, "self", 5)];
    if rows.iter().any(|row| row.change.is_some()) {
        columns.push(Column::number(Id::Change, "change", 7));
    }
    columns.push(Column::number(Id::Margin, "±", 4));
    columns.push(Column::number(Id::Total, "total", 6));
    columns.push(Column::text(Id::Trend, "trend", trend));
    // The least important go first.
    for least in [Id::Trend, Id::Margin, Id::Total] {
        if width < table::taken(&columns) + 4 + NAME_AND_PLACE {
            columns.retain(|column| column.id != least || least == Id::Total && width >= 40);
        }
    }
    let left = width.saturating_sub(table::taken(&columns) + 2);
    let name = match left {
        ..NAME_AND_PLACE => left,
        _ => table::widest(rows.iter().map(|row| row.name.as_str()), (left - 2) * 11 / 20),
    };
    // A heading fits above it.
    let name = name.max(8).min(left);
    columns.push(Column::text(Id::Name, "function", name));
    if left >= NAME_AND_PLACE {
        columns.push(Column::text(Id::Place, "place", left - name - 2));
    }
    columns
}

/// Draw the rows of `table`.
pub(super) fn draw(table: &Table<FunctionRow>, order: &str, canvas: &mut Canvas<'_>) {
    let columns = columns(&table.rows, canvas.width());
    let letters = canvas.letters();
    table::draw(table, &columns, order, canvas, |row| Shown { row, letters });
}

/// The height of a row's trend, of which the numbers beside it say how much it
/// is: what does not change stands half as high as can be, and what is little is
/// not made to look like much.
#[expect(clippy::cast_precision_loss, reason = "there are some hundred at most")]
fn scale(trend: &[f64]) -> f64 {
    const LITTLE: f64 = 0.05;
    let shares = || trend.iter().copied().filter(|share| share.is_finite());
    let mean = shares().sum::<f64>() / trend.len().max(1) as f64;
    shares().fold(LITTLE, f64::max).max(2.0 * mean)
}

struct Shown<'a> {
    row: &'a FunctionRow,
    letters: Letters,
}

impl Row for Shown<'_> {
    type Id = Id;

    fn entry(&self, id: Id, cells: usize) -> Entry {
        let row = self.row;
        match id {
            Id::Own => Entry::share(row.own),
            Id::Change => Entry::new(row.change.map(numbers::change).unwrap_or_default()),
            Id::Margin => Entry::new(numbers::margin(row.margin)).role(Role::Faint),
            Id::Total => Entry::share(row.total),
            Id::Trend => {
                Entry::new(numbers::spark(&row.trend, scale(&row.trend), cells, self.letters))
                    .role(Role::Running)
            }
            Id::Name => Entry::new(&*row.name).cut(Cut::Middle),
            Id::Place => Entry::new(&*row.place).cut(Cut::Path).role(Role::Faint),
        }
    }

    fn found(&self) -> bool {
        self.row.found
    }

    fn faint(&self) -> bool {
        self.row.faint
    }
}
