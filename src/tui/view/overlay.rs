//! What stands before everything else, in a box in the middle.

use ratatui::style::Style;

use super::{
    Letters,
    canvas::Canvas,
    cells::{self, Cut},
    table,
};
use crate::{
    style::Role,
    tui::{screen::Overlay, target::Target},
};

/// The cells between a box and what is in it, at each side.
const PAD: usize = 2;

/// The widest that a line of a message becomes.
const MESSAGE: usize = 64;

/// A line in a box: parts of it, and how they look.
type Line = Vec<(String, Option<Role>)>;

/// A column of keys is at least as wide.
const NARROWEST: usize = 34;

/// The most things to choose from that are seen at once.
const CHOICES: usize = 16;

/// A box: its title, its lines, which choice the first of these is, and which
/// choice is chosen.
struct Sheet {
    title: String,
    lines: Vec<Line>,
    top: usize,
    chosen: Option<usize>,
    /// The cells of its lines.
    width: usize,
}

/// Where a box stands: the column and the row of its corner, its width and its
/// height.
struct Place {
    column: usize,
    row: usize,
    width: usize,
    height: usize,
}

impl Sheet {
    fn new(overlay: &Overlay, (width, height): (usize, usize)) -> Option<Self> {
        // Its edges and their distance.
        let room = width.saturating_sub(2 + 2 * PAD);
        match overlay {
            Overlay::Help(groups) => Some(help(groups, (room, height.saturating_sub(2)))),
            Overlay::Picker { label, choices, chosen } => {
                let high = height.saturating_sub(2).min(CHOICES);
                Some(picker(label, choices, *chosen, (room, high)))
            }
            Overlay::Message(text) => {
                let lines: Vec<Line> = wrapped(text, room.min(MESSAGE))
                    .into_iter()
                    .map(|line| vec![(line, None)])
                    .collect();
                let widest = lines.iter().map(width_of).max().unwrap_or(0);
                Some(Self { title: String::new(), lines, top: 0, chosen: None, width: widest })
            }
            // It is on the last line.
            Overlay::Prompt { .. } => None,
        }
    }

    fn place(&self, (width, height): (usize, usize)) -> Place {
        let title = cells::width(&self.title) + 2;
        let wanted = self.width.max(title) + 2 + 2 * PAD;
        let (wide, high) = (wanted.min(width), (self.lines.len() + 2).min(height));
        Place { column: (width - wide) / 2, row: (height - high) / 2, width: wide, height: high }
    }
}

/// Draw it.
pub(super) fn draw(overlay: &Overlay, canvas: &mut Canvas<'_>) {
    let size = (canvas.width(), canvas.height());
    let Some(sheet) = Sheet::new(overlay, size) else { return };
    let place = sheet.place(size);
    canvas.blank((place.column, place.row), place.width, place.height);
    draw_edges(&place, &sheet.title, canvas);
    let seen = place.height.saturating_sub(2);
    if seen < sheet.lines.len() {
        let (row, end) = (place.row + place.height - 1, place.column + place.width);
        let room = place.width.saturating_sub(4);
        canvas.put_right(
            (end.saturating_sub(2), row),
            room,
            " the rest has no room ",
            Style::new(),
        );
    }
    let room = place.width.saturating_sub(2 + 2 * PAD);
    for (at, line) in sheet.lines.iter().take(seen).enumerate() {
        let row = place.row + 1 + at;
        let left = place.column + 1 + PAD;
        let mut column = left;
        for (text, role) in line {
            let style = role.map_or(Style::new(), |role| canvas.style(role));
            column = canvas.put((column, row), (left + room).saturating_sub(column), text, style);
        }
        if sheet.chosen == Some(sheet.top + at) {
            canvas.put((left - PAD + 1, row), 1, ">", canvas.style(Role::Strong));
            canvas.tint(row, left - PAD, left + room + PAD, table::bar());
        }
    }
}

fn draw_edges(place: &Place, title: &str, canvas: &mut Canvas<'_>) {
    let [across, down, corners @ ..] = match canvas.letters() {
        Letters::Unicode => ["─", "│", "┌", "┐", "└", "┘"],
        Letters::Ascii => ["-", "|", "+", "+", "+", "+"],
    };
    if place.width < 2 || place.height < 2 {
        return;
    }
    let (right, bottom) = (place.column + place.width - 1, place.row + place.height - 1);
    let plain = Style::new();
    for (row, left, end) in [(place.row, corners[0], corners[1]), (bottom, corners[2], corners[3])]
    {
        canvas.put((place.column, row), 1, left, plain);
        canvas.put(
            (place.column + 1, row),
            place.width - 2,
            &across.repeat(place.width - 2),
            plain,
        );
        canvas.put((right, row), 1, end, plain);
    }
    for row in place.row + 1..bottom {
        canvas.put((place.column, row), 1, down, plain);
        canvas.put((right, row), 1, down, plain);
    }
    if !title.is_empty() {
        let style = canvas.style(Role::Strong);
        let room = place.width.saturating_sub(4);
        canvas.put((place.column + 2, place.row), room, &format!(" {title} "), style);
    }
}

fn width_of(line: &Line) -> usize {
    line.iter().map(|(text, _)| cells::width(text)).sum()
}

/// The blank cells between columns.
const GAP: usize = 3;

/// All keys, in as many columns of groups as there must be for them to be seen.
fn help(
    groups: &[(&'static str, Vec<(&'static str, &'static str)>)],
    (room, high): (usize, usize),
) -> Sheet {
    let blocks: Vec<Vec<Line>> = groups.iter().map(|(title, keys)| block(title, keys)).collect();
    let mut lines = Vec::new();
    for columns in 1..=4 {
        let stacks = stacks(&blocks, columns);
        let is_seen = stacks.iter().all(|stack| stack.len() <= high);
        let fair = (room + GAP) / columns;
        // One that cannot be read helps nobody.
        if columns > 1 && fair < NARROWEST {
            break;
        }
        lines = side_by_side(stacks, room);
        if is_seen {
            break;
        }
    }
    let width = lines.iter().map(width_of).max().unwrap_or(0).min(room);
    Sheet { title: "Keys".to_owned(), lines, top: 0, chosen: None, width }
}

/// A group of keys.
fn block(title: &str, keys: &[(&'static str, &'static str)]) -> Vec<Line> {
    let wide = keys.iter().map(|(key, _)| cells::width(key)).max().unwrap_or(0);
    let mut lines = vec![vec![(title.to_owned(), Some(Role::Strong))]];
    lines.extend(keys.iter().map(|(key, does)| {
        let blank = wide - cells::width(key);
        let key = format!("{key}{:blank$}  ", "");
        vec![(key, Some(Role::Command)), ((*does).to_owned(), None)]
    }));
    lines
}

/// Blocks of lines in columns, each below those of the column that is the
/// shortest so far.
fn stacks(blocks: &[Vec<Line>], columns: usize) -> Vec<Vec<Line>> {
    let mut stacks: Vec<Vec<Line>> = vec![Vec::new(); columns];
    for block in blocks {
        if let Some(stack) = stacks.iter_mut().min_by_key(|stack| stack.len()) {
            if !stack.is_empty() {
                stack.push(Vec::new());
            }
            stack.extend(block.iter().cloned());
        }
    }
    stacks
}

/// Columns beside each other, in at most `room` cells: where there are too few
/// the widest of them give.
fn side_by_side(stacks: Vec<Vec<Line>>, room: usize) -> Vec<Line> {
    let mut widths: Vec<usize> =
        stacks.iter().map(|stack| stack.iter().map(width_of).max().unwrap_or(0)).collect();
    let gaps = GAP * stacks.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > 0 => *widest -= 1,
            _ => break,
        }
    }
    let mut lines: Vec<Line> = vec![Vec::new(); stacks.iter().map(Vec::len).max().unwrap_or(0)];
    let mut left = 0;
    for (stack, wide) in stacks.into_iter().zip(widths) {
        for (line, part) in lines.iter_mut().zip(stack) {
            let (blank, mut most) = (left - width_of(line), wide);
            line.push((" ".repeat(blank), None));
            for (text, role) in part {
                let text = cells::fit(&text, most, Cut::End, Letters::Unicode);
                most -= cells::width(&text);
                line.push((text, role));
            }
        }
        left += wide + GAP;
    }
    lines
}

/// The choices around the one that is chosen.
fn picker(label: &str, choices: &[String], chosen: usize, (room, high): (usize, usize)) -> Sheet {
    let chosen = chosen.min(choices.len().saturating_sub(1));
    let top = (chosen + 1).saturating_sub(high.max(1));
    let text = |text: &String| cells::fit(text, room, Cut::Middle, Letters::Unicode);
    let seen = choices.iter().skip(top).take(high).map(text);
    let lines: Vec<Line> = seen.map(|choice| vec![(choice, None)]).collect();
    let width = lines.iter().map(width_of).max().unwrap_or(0);
    Sheet { title: label.to_owned(), lines, top, chosen: Some(chosen), width }
}

/// `text` in lines of at most `most` cells, broken at blanks.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines().take(64) {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let word = cells::fit(word, most, Cut::Middle, Letters::Unicode);
            if !line.is_empty() && cells::width(&line) + 1 + cells::width(&word) > most {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        lines.push(line);
    }
    lines
}

/// What a click means while it is there.
pub(super) fn hit(
    overlay: &Overlay,
    size: (usize, usize),
    (column, row): (usize, usize),
) -> Option<Target> {
    let Some(sheet) = Sheet::new(overlay, size) else { return Some(Target::Outside) };
    let place = sheet.place(size);
    let inside = (place.column..place.column + place.width).contains(&column)
        && (place.row..place.row + place.height).contains(&row);
    if !inside {
        return Some(Target::Outside);
    }
    let is_edge = row == place.row || row + 1 == place.row + place.height;
    if sheet.chosen.is_none() || is_edge || column == place.column {
        return None;
    }
    let line = row - place.row - 1;
    (line < sheet.lines.len()).then_some(Target::Choice(sheet.top + line))
}
