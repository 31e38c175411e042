//! An icicle graph: the root on top, callees below their callers.

use ratatui::style::{Modifier, Style};

use super::{
    Letters,
    canvas::Canvas,
    cells::{self, Cut},
    numbers,
};
use crate::{
    style::{Paint, Role},
    tui::{
        screen::{Flame, FlameBox},
        target::Target,
    },
};

/// More callers than this are never looked at: no terminal shows as many.
const CALLERS: usize = 64;

/// In a box of fewer cells than this a name is not cut in the middle: there
/// would be nothing left at either end.
const MIDDLE: usize = 12;

/// In a box of fewer cells than this no part of a name says anything.
const READABLE: usize = 4;

/// A box of fewer cells than this has room for its name, but not for its share.
const SHARE: usize = 24;

/// The columns of a box on a terminal of this width: from the first, to before
/// the last. Boxes that touch have an edge in common, and so do not overlap.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "terminals have fewer than 2^16 columns, and what is no share becomes one"
)]
fn columns(shown: &FlameBox, width: usize) -> (usize, usize) {
    let column = |share: f64| (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    (column(shown.from), column(shown.to))
}

/// Draw `flame`.
pub(super) fn draw(flame: &Flame, canvas: &mut Canvas<'_>) {
    draw_heading(flame, canvas);
    let (width, height) = (canvas.width(), canvas.height());
    for (index, shown) in flame.boxes.iter().enumerate() {
        let row = shown.depth.checked_sub(flame.top).map(|row| row.saturating_add(1));
        let Some(row) = row.filter(|&row| row < height) else { continue };
        let (from, to) = columns(shown, width);
        if from < to {
            draw_box(shown, index == flame.chosen, (row, from, to), canvas);
        }
    }
}

fn draw_heading(flame: &Flame, canvas: &mut Canvas<'_>) {
    let faint = canvas.style(Role::Faint);
    let (width, letters) = (canvas.width(), canvas.letters());
    let mut left = 1;
    if !flame.above.is_empty() {
        let arrow = match letters {
            Letters::Unicode => " → ",
            Letters::Ascii => " -> ",
        };
        let hidden = flame.above.len().saturating_sub(CALLERS);
        let above = flame.above[hidden..].join(arrow) + arrow;
        let text = cells::fit(&above, width.saturating_sub(2), Cut::Start, letters);
        left = canvas.put((1, 0), width, text.trim_end(), faint) + 2;
    }
    let mut legend = String::new();
    if flame.top > 0 {
        legend = format!("{} rows above", flame.top);
    }
    if flame.boxes.iter().any(|shown| shown.asleep) {
        legend += if legend.is_empty() { "~ asleep" } else { "  ~ asleep" };
    }
    if left + legend.len() < width {
        canvas.put_right((width - 1, 0), width, &legend, faint);
    }
}

/// Draw a box: its left edge, and its name and share as far as there is room.
fn draw_box(
    shown: &FlameBox,
    chosen: bool,
    (row, from, to): (usize, usize, usize),
    canvas: &mut Canvas<'_>,
) {
    let letters = canvas.letters();
    let mark = match () {
        () if chosen => ">",
        () if shown.found => "*",
        () if letters == Letters::Ascii => "|",
        () => "▏",
    };
    let style = style(shown, chosen, canvas);
    let room = to - from - 1;
    canvas.put((from, row), 1, mark, style);
    canvas.put((from + 1, row), room, &label(shown, room, letters), style);
    canvas.tint(row, from, to, style);
    // Where there are no colours only this says where the box ends. The box
    // beside it, if there is one, is drawn later.
    if canvas.paint() == Paint::Plain {
        let edge = if letters == Letters::Ascii { "|" } else { "▏" };
        canvas.put((to, row), 1, edge, Style::new());
    }
}

/// The name in a box, and its share where there is room for both.
fn label(shown: &FlameBox, room: usize, letters: Letters) -> String {
    let asleep = if shown.asleep { "~" } else { "" };
    let share = numbers::percent(shown.share);
    let left = room.saturating_sub(asleep.len());
    let short = left.saturating_sub(share.len() + 1);
    let cut = if room < MIDDLE { Cut::End } else { Cut::Middle };
    let name = cells::fit(&shown.name, left, cut, letters);
    if cells::width(&name) <= short {
        format!("{asleep}{name} {share}")
    } else if room >= SHARE {
        format!("{asleep}{} {share}", cells::fit(&shown.name, short, cut, letters))
    } else if name == shown.name || left >= READABLE {
        format!("{asleep}{name}")
    } else {
        asleep.to_owned()
    }
}

/// Warm for what runs, cool for what sleeps.
fn style(shown: &FlameBox, chosen: bool, canvas: &Canvas<'_>) -> Style {
    let role = if shown.asleep { Role::Waiting } else { Role::Running };
    let mut style = match canvas.paint() {
        // The terminal's own foreground is unlike every other box.
        _ if chosen => canvas.style(Role::Strong).add_modifier(Modifier::REVERSED),
        Paint::Coloured => canvas.style(role).add_modifier(Modifier::REVERSED),
        Paint::Plain => Style::new().add_modifier(Modifier::UNDERLINED),
    };
    if shown.found {
        style = style.add_modifier(Modifier::BOLD);
    }
    if shown.native {
        style = style.add_modifier(Modifier::ITALIC);
    }
    style
}

/// What a click in the graph means, in a row of the body. Of boxes in one
/// place it is the last that is seen.
pub(super) fn hit(flame: &Flame, width: usize, (column, row): (usize, usize)) -> Option<Target> {
    let depth = flame.top.checked_add(row)?;
    let at = |shown: &FlameBox| {
        let (from, to) = columns(shown, width);
        shown.depth == depth && (from..to).contains(&column)
    };
    flame.boxes.iter().rposition(at).map(Target::FlameBox)
}
