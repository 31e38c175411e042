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

/// All keys, in as many columns of groups as there must be for them to be seen,
/// or as have room.
fn help(
    groups: &[(&'static str, Vec<(&'static str, &'static str)>)],
    room: (usize, usize),
) -> Sheet {
    let keys = |group: &[(&'static str, &'static str)]| {
        group.iter().map(|(key, _)| cells::width(key)).max().unwrap_or(0)
    };
    let blocks: Vec<Vec<Line>> = groups
        .iter()
        .map(|(title, pairs)| {
            let wide = keys(pairs);
            let mut lines = vec![vec![((*title).to_owned(), Some(Role::Strong))]];
            lines.extend(pairs.iter().map(|(key, does)| {
                let blank = wide - cells::width(key);
                vec![
                    (format!("{key}{:blank$}  ", ""), Some(Role::Command)),
                    ((*does).to_owned(), None),
                ]
            }));
            lines
        })
        .collect();
    let mut chosen = side_by_side(&blocks, 1);
    for columns in 2..=4 {
        if chosen.len() <= room.1 {
            break;
        }
        let next = side_by_side(&blocks, columns);
        if next.iter().map(width_of).max().unwrap_or(0) > room.0 {
            break;
        }
        chosen = next;
    }
    let width = chosen.iter().map(width_of).max().unwrap_or(0).min(room.0);
    Sheet { title: "Keys".to_owned(), lines: chosen, top: 0, chosen: None, width }
}

/// Blocks of lines in `columns` columns that are about as high as each other.
fn side_by_side(blocks: &[Vec<Line>], columns: usize) -> Vec<Line> {
    let all: usize = blocks.iter().map(|block| block.len() + 1).sum();
    let high = all.div_ceil(columns);
    let mut stacks: Vec<Vec<Line>> = vec![Vec::new()];
    for block in blocks {
        let is_full =
            |stack: &Vec<Line>| !stack.is_empty() && stack.len() + block.len() / 2 >= high;
        if stacks.len() < columns && stacks.last().is_some_and(is_full) {
            stacks.push(Vec::new());
        }
        if let Some(stack) = stacks.last_mut() {
            if !stack.is_empty() {
                stack.push(Vec::new());
            }
            stack.extend(block.iter().cloned());
        }
    }
    let mut lines: Vec<Line> = vec![Vec::new(); stacks.iter().map(Vec::len).max().unwrap_or(0)];
    let mut left = 0;
    for stack in stacks {
        let wide = stack.iter().map(width_of).max().unwrap_or(0);
        for (line, part) in lines.iter_mut().zip(stack) {
            let blank = left - width_of(line);
            if !part.is_empty() {
                line.push((" ".repeat(blank), None));
                line.extend(part);
            }
        }
        left += wide + 4;
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
