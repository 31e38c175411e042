//! A source file, and where in it the time goes.

use ratatui::style::Style;

use super::{
    canvas::Canvas,
    cells::{self, Cut},
    numbers, table,
};
use crate::{
    style::Role,
    tui::{
        screen::{Source, SourceLine},
        target::Target,
    },
};

/// The columns between which tabs move text.
const TAB: usize = 4;

/// More letters of a line than this are never looked at.
const LONGEST: usize = 1024;

/// Where the columns of a line end: its number, its own share, its total, and
/// how much of all that is; text begins after that.
const NUMBER: usize = 8;
const OWN: usize = 14;
const TOTAL: usize = 20;
const HEAT: usize = 21;
const TEXT: usize = 23;

/// Draw `source`.
pub(super) fn draw(source: &Source, canvas: &mut Canvas<'_>) {
    let (width, letters) = (canvas.width(), canvas.letters());
    let faint = canvas.style(Role::Faint);
    for (end, text) in [(NUMBER, "line"), (OWN, "self"), (TOTAL, "total")] {
        canvas.put_right((end, 0), end, text, faint);
    }
    let title = cells::fit(&source.title, width.saturating_sub(TEXT + 1), Cut::Middle, letters);
    canvas.put((TEXT, 0), width, &title, canvas.style(Role::Strong));
    let hottest = source.lines.iter().map(|line| line.own);
    let hottest = hottest.filter(|own| own.is_finite()).fold(0.0, f64::max);
    let seen = canvas.height().saturating_sub(1);
    for (at, line) in source.lines.iter().skip(top(source)).take(seen).enumerate() {
        draw_line(line, hottest, 1 + at, canvas);
        if top(source) + at == source.chosen {
            canvas.put((0, 1 + at), 1, ">", canvas.style(Role::Strong));
            canvas.tint(1 + at, 0, width, table::bar());
        }
    }
}

fn draw_line(line: &SourceLine, hottest: f64, row: usize, canvas: &mut Canvas<'_>) {
    let faint = canvas.style(Role::Faint);
    canvas.put_right((NUMBER, row), NUMBER - table::MARKS, &line.number.to_string(), faint);
    // Most lines have no share: nothing stands there, and the others stand out.
    if line.own > 0.0 {
        canvas.put_right((OWN, row), 5, &numbers::percent(line.own), Style::new());
    }
    if line.total > 0.0 {
        canvas.put_right((TOTAL, row), 5, &numbers::percent(line.total), Style::new());
    }
    let heat = numbers::step(line.own, hottest, canvas.letters());
    canvas.put((HEAT, row), 1, &heat.to_string(), canvas.style(Role::Running));
    let style = match () {
        () if line.own > 0.0 && line.own >= hottest / 2.0 => canvas.style(Role::Strong),
        () => Style::new(),
    };
    canvas.put((TEXT, row), canvas.width(), &untabbed(&line.text), style);
}

/// `text` with blanks for tabs.
fn untabbed(text: &str) -> String {
    let mut blank = String::new();
    let mut column = 0_usize;
    for letter in text.trim_end().chars().take(LONGEST) {
        if letter == '\t' {
            let next = (column + 1).next_multiple_of(TAB);
            blank.extend(std::iter::repeat_n(' ', next - column));
            column = next;
        } else {
            blank.push(letter);
            column += 1;
        }
    }
    blank
}

fn top(source: &Source) -> usize {
    source.top.min(source.lines.len().saturating_sub(1))
}

/// What a click in a row of the body means.
pub(super) fn hit(source: &Source, row: usize) -> Option<Target> {
    let row = top(source) + row;
    (row < source.lines.len()).then_some(Target::Row(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_move_text_to_the_next_stop() {
        assert_eq!(untabbed("\tif x:\ty \n"), "    if x:   y");
    }
}
