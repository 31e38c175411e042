//! A part of the terminal to draw on, in which nothing can be drawn beside it.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};

use super::{
    Letters, Look,
    cells::{self, Cut},
};
use crate::style::{Paint, Role};

/// A part of the terminal. Columns and rows count from its corner. Whatever is
/// put there is made clean first, and what does not fit is not drawn.
pub(super) struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    look: Look,
}

impl<'a> Canvas<'a> {
    /// All of `area`, as far as the buffer has it.
    pub(super) fn new(buffer: &'a mut Buffer, area: Rect, look: Look) -> Self {
        let area = area.intersection(buffer.area);
        Self { buffer, area, look }
    }

    /// The columns that there are.
    pub(super) fn width(&self) -> usize {
        self.area.width.into()
    }

    /// The rows that there are.
    pub(super) fn height(&self) -> usize {
        self.area.height.into()
    }

    /// What letters there are.
    pub(super) const fn letters(&self) -> Letters {
        self.look.letters
    }

    /// Whether there are colours.
    pub(super) const fn paint(&self) -> Paint {
        self.look.paint
    }

    /// How a `role` looks.
    pub(super) fn style(&self, role: Role) -> Style {
        let plain = Style::new();
        match (role, self.look.paint) {
            (Role::Strong, _) => plain.add_modifier(Modifier::BOLD),
            (Role::Faint, _) => plain.add_modifier(Modifier::DIM),
            (Role::Running | Role::Waiting, Paint::Plain) => plain,
            (Role::Error | Role::Warning | Role::Command, Paint::Plain) => {
                plain.add_modifier(Modifier::BOLD)
            }
            (Role::Running, _) => plain.fg(Color::Yellow),
            (Role::Waiting, _) => plain.fg(Color::Cyan),
            (Role::Error, _) => plain.fg(Color::Red).add_modifier(Modifier::BOLD),
            (Role::Warning, _) => plain.fg(Color::Yellow).add_modifier(Modifier::BOLD),
            (Role::Command, _) => plain.fg(Color::Green),
        }
    }

    /// Put `text` at a place, in at most `most` cells, cut at its end.
    ///
    /// Returns the column after it.
    pub(super) fn put(
        &mut self,
        (column, row): (usize, usize),
        most: usize,
        text: &str,
        style: Style,
    ) -> usize {
        let most = most.min(self.width().saturating_sub(column));
        if most == 0 || row >= self.height() {
            return column;
        }
        let text = cells::fit(text, most, Cut::End, self.look.letters);
        let mut at = column;
        for (letter, cells) in cells::split(&text) {
            self.set((at, row), letter, style);
            for rest in 1..cells {
                self.set((at + rest, row), "", style);
            }
            at += cells;
        }
        at
    }

    /// The same, with its end in the column before `end`.
    pub(super) fn put_right(
        &mut self,
        (end, row): (usize, usize),
        most: usize,
        text: &str,
        style: Style,
    ) {
        let text = cells::fit(text, most, Cut::End, self.look.letters);
        let start = end.saturating_sub(cells::width(&text));
        self.put((start, row), end - start, &text, style);
    }

    /// Lay `style` over the cells of a row from one column to another.
    pub(super) fn tint(&mut self, row: usize, from: usize, to: usize, style: Style) {
        for column in from..to.min(self.width()) {
            if let Some(cell) = self.cell((column, row)) {
                cell.set_style(style);
            }
        }
    }

    /// Make a box of cells blank, in which something else is then drawn.
    pub(super) fn blank(&mut self, (column, row): (usize, usize), width: usize, height: usize) {
        for row in row..(row + height).min(self.height()) {
            // A letter of two cells whose second half is in the box.
            if let Some(before) = column.checked_sub(1)
                && let Some(cell) = self.cell((before, row))
                && cells::width(cell.symbol()) > 1
            {
                cell.set_symbol(" ");
            }
            for column in column..(column + width).min(self.width()) {
                if let Some(cell) = self.cell((column, row)) {
                    cell.reset();
                }
            }
        }
    }

    /// The part of it that consists of some rows.
    pub(super) fn rows(&mut self, first: usize, count: usize) -> Canvas<'_> {
        let first = u16::try_from(first).unwrap_or(u16::MAX).min(self.area.height);
        let count = u16::try_from(count).unwrap_or(u16::MAX).min(self.area.height - first);
        let area = Rect { y: self.area.y.saturating_add(first), height: count, ..self.area };
        Canvas { buffer: self.buffer, area, look: self.look }
    }

    fn set(&mut self, place: (usize, usize), letter: &str, style: Style) {
        if let Some(cell) = self.cell(place) {
            cell.reset();
            cell.set_symbol(if letter.is_empty() { " " } else { letter }).set_style(style);
        }
    }

    fn cell(&mut self, (column, row): (usize, usize)) -> Option<&mut ratatui::buffer::Cell> {
        if column >= self.width() || row >= self.height() {
            return None;
        }
        let column = self.area.x.checked_add(u16::try_from(column).ok()?)?;
        let row = self.area.y.checked_add(u16::try_from(row).ok()?)?;
        self.buffer.cell_mut((column, row))
    }
}
