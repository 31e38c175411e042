//! Rows of threads.

use super::{
    canvas::Canvas,
    cells::Cut,
    numbers,
    table::{self, Column, Entry, Row},
};
use crate::{
    style::Role,
    tui::screen::{Table, ThreadRow},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Name,
    Pid,
    Tid,
    State,
    Cpu,
    Queued,
    Held,
    Wanted,
    Now,
    Frame,
    Wait,
    Since,
}

/// At this width what a thread waits for has a column of its own.
const WIDE: usize = 100;

/// Fewer cells than this are not enough to say what a thread does.
const NOW: usize = 16;

/// The columns on a terminal of this width.
pub(super) fn columns(rows: &[ThreadRow], width: usize) -> Vec<Column<Id>> {
    let most = if width < WIDE { 16 } else { 24 };
    let name = table::widest(rows.iter().map(|row| row.name.as_str()), most).max(8);
    let mut columns = vec![Column { gap: 0, ..Column::text(Id::Name, "thread", name) }];
    if rows.iter().any(|row| row.pid.is_some()) {
        // As many digits as the kernel's numbers have (`man 5 proc`, pid_max).
        columns.push(Column::number(Id::Pid, "pid", 7));
    }
    let digits = rows.iter().map(|row| row.tid).max().map_or(0, |tid| tid.to_string().len());
    columns.push(Column::number(Id::Tid, "tid", digits.max(5)));
    columns.push(Column::text(Id::State, "state", 5));
    columns.push(Column::number(Id::Cpu, "cpu", 5));
    if width >= WIDE {
        columns.push(Column::number(Id::Queued, "queue", 6));
    }
    if rows.iter().any(|row| row.lock.is_some()) {
        columns.push(Column::number(Id::Held, "held", 5));
        columns.push(Column::number(Id::Wanted, "want", 5));
    }
    for least in [Id::Queued, Id::Pid, Id::Wanted, Id::Held, Id::Tid, Id::Cpu] {
        if width < table::taken(&columns) + 2 + NOW {
            columns.retain(|column| column.id != least);
        }
    }
    let left = width.saturating_sub(table::taken(&columns) + 2);
    if width < WIDE {
        columns.push(Column::text(Id::Now, "now", left));
    } else {
        let texts = left.saturating_sub(7 + 2);
        let frame = table::widest(rows.iter().map(|row| row.frame.as_str()), texts * 2 / 5).max(8);
        columns.push(Column::text(Id::Frame, "in", frame));
        columns.push(Column::number(Id::Since, "since", 7));
        columns.push(Column::text(Id::Wait, "waits for", texts.saturating_sub(frame)));
    }
    columns
}

/// Draw the rows of `table`.
pub(super) fn draw(table: &Table<ThreadRow>, order: &str, canvas: &mut Canvas<'_>) {
    let columns = columns(&table.rows, canvas.width());
    table::draw(table, &columns, order, canvas, Shown);
}

struct Shown<'a>(&'a ThreadRow);

impl Row for Shown<'_> {
    type Id = Id;

    fn entry(&self, id: Id, _: usize) -> Entry {
        let row = self.0;
        let since = row.wait.as_ref().and_then(|(_, since)| *since).map(numbers::ago);
        let lock = |part: fn((f64, f64)) -> f64| match row.lock {
            Some(lock) => Entry::share(part(lock)),
            None => Entry::new(""),
        };
        match id {
            Id::Name => Entry::new(&*row.name).cut(Cut::Middle),
            Id::Pid => Entry::new(row.pid.map(|pid| pid.to_string()).unwrap_or_default()),
            Id::Tid => Entry::new(row.tid.to_string()).role(Role::Faint),
            Id::State => Entry::new(row.state).role(state_role(row.state)),
            Id::Cpu => Entry::share(row.cpu),
            Id::Queued => Entry::share(row.queued),
            Id::Held => lock(|(held, _)| held),
            Id::Wanted => lock(|(_, wanted)| wanted),
            Id::Now => match &row.wait {
                // Of a thread that waits that is what is to be known first.
                Some((wait, _)) => {
                    let since = since.map(|since| since + "  ").unwrap_or_default();
                    Entry::new(since + wait).role(Role::Waiting)
                }
                None => Entry::new(&*row.frame).cut(Cut::Middle),
            },
            Id::Frame => Entry::new(&*row.frame).cut(Cut::Middle),
            Id::Wait => {
                Entry::new(row.wait.as_ref().map(|(wait, _)| wait.as_str()).unwrap_or_default())
                    .role(Role::Waiting)
            }
            Id::Since => Entry::new(since.unwrap_or_default()),
        }
    }

    fn found(&self) -> bool {
        self.0.found
    }
}

/// How a thread's state looks.
fn state_role(state: &str) -> Role {
    match state {
        "run" => Role::Running,
        "queue" | "lock" | "fault" => Role::Warning,
        "sleep" => Role::Waiting,
        _ => Role::Faint,
    }
}
