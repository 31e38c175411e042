//! The last two lines: the way to what is chosen, and the keys.

use super::{
    Letters,
    canvas::Canvas,
    cells::{self, Cut},
    numbers,
};
use crate::{
    style::Role,
    tui::{
        screen::{HotPath, Moment, Overlay, Screen},
        target::Target,
    },
};

/// More callers than this are never looked at: no terminal shows as many.
const FRAMES: usize = 64;

/// The blank cells between keys.
const GAP: usize = 2;

/// Draw both.
pub(super) fn draw(screen: &Screen, canvas: &mut Canvas<'_>) {
    if let Some(path) = &screen.path {
        draw_path(path, canvas);
    }
    if let Some(Overlay::Prompt { label, text, hint }) = &screen.overlay {
        return draw_prompt((label, text, hint), 1, canvas);
    }
    let (width, letters) = (canvas.width(), canvas.letters());
    if let Some(ending) = ending(screen) {
        let style = canvas.style(Role::Warning);
        canvas.put((1, 1), width.saturating_sub(2), &ending, style);
    }
    let (key, does) = (canvas.style(Role::Strong), canvas.style(Role::Faint));
    for hint in hints(screen, width, letters) {
        let at = canvas.put((hint.from, 1), width, hint.key, key);
        canvas.put((at + 1, 1), width, hint.does, does);
    }
}

/// Functions, the innermost first, in one line.
pub(super) fn path(frames: &[String], letters: Letters) -> String {
    let arrow = match letters {
        Letters::Unicode => " ← ",
        Letters::Ascii => " <- ",
    };
    let shown = frames.iter().take(FRAMES);
    let frames: Vec<_> = shown.map(|frame| cells::fit(frame, 200, Cut::Middle, letters)).collect();
    frames.join(arrow)
}

fn draw_path(path: &HotPath, canvas: &mut Canvas<'_>) {
    let faint = canvas.style(Role::Faint);
    let share = numbers::whole(path.share) + " of its samples";
    let right = canvas.width().saturating_sub(1);
    let room = right.saturating_sub(cells::width(&share) + 4 + 2);
    let rule = match canvas.letters() {
        Letters::Unicode => "──",
        Letters::Ascii => "--",
    };
    canvas.put((1, 0), 2, rule, faint);
    let frames = self::path(&path.frames, canvas.letters());
    canvas.put((4, 0), room, &frames, ratatui::style::Style::new());
    canvas.put_right((right, 0), right, &share, faint);
}

/// Draw a line to type in. What was typed last stays to be seen.
pub(super) fn draw_prompt(
    (label, text, hint): (&str, &str, &str),
    row: usize,
    canvas: &mut Canvas<'_>,
) {
    let (width, letters) = (canvas.width(), canvas.letters());
    let (strong, faint) = (canvas.style(Role::Strong), canvas.style(Role::Faint));
    let cursor = canvas.style(Role::Strong).add_modifier(ratatui::style::Modifier::REVERSED);
    let at = canvas.put((1, row), width, &format!("{label}: "), strong);
    let room = width.saturating_sub(at + 2);
    let typed = cells::fit(text, room, Cut::Start, letters);
    let at = canvas.put((at, row), room, &typed, ratatui::style::Style::new());
    let at = canvas.put((at, row), 1, " ", cursor);
    canvas.put((at + GAP, row), width.saturating_sub(at + GAP + 1), hint, faint);
}

/// How the target ended, and what can be done now, if it has.
fn ending(screen: &Screen) -> Option<String> {
    let Moment::Ended(how) = &screen.title.moment else { return None };
    let recorded = crate::style::time(screen.title.watched);
    Some(format!("{how}, {recorded} recorded: w save, q quit"))
}

/// A key of the last line, and where it stands.
struct Hint {
    key: &'static str,
    does: &'static str,
    from: usize,
    to: usize,
}

/// The keys for which there is room: the first are the most useful.
fn hints(screen: &Screen, width: usize, letters: Letters) -> Vec<Hint> {
    let mut from = 1;
    let mut told: &[&str] = &[];
    if let Some(ending) = ending(screen) {
        from += cells::measure(&ending, letters) + GAP;
        told = &["w", "q"];
    }
    // A label may name several keys that do the same.
    let is_told = |key: &str| key.split(' ').next().is_some_and(|key| told.contains(&key));
    let cells = |&(key, does): &(&str, &str)| {
        cells::measure(key, letters) + 1 + cells::measure(does, letters)
    };
    let mut hints = Vec::new();
    // What tells all other keys has its room for sure.
    let mut help = screen.keys.iter().find(|(key, _)| *key == "?");
    for pair in screen.keys.iter().filter(|(key, _)| !is_told(key)) {
        help = help.filter(|help| help.0 != pair.0);
        let to = from + cells(pair);
        let reserved = help.map_or(0, |help| GAP + cells(help));
        let (pair, to) = match help {
            _ if to + reserved < width => (pair, to),
            Some(help) if from + cells(help) < width => (help, from + cells(help)),
            _ => break,
        };
        hints.push(Hint { key: pair.0, does: pair.1, from, to });
        if help.is_some_and(|help| help.0 == pair.0) {
            break;
        }
        from = to + GAP;
    }
    hints
}

/// What a click on the last line means.
pub(super) fn hit(screen: &Screen, width: usize, column: usize) -> Option<Target> {
    // All letters are as wide in ASCII: the keys are the same.
    let hints = hints(screen, width, Letters::Unicode);
    let hint = hints.iter().find(|hint| (hint.from..hint.to).contains(&column))?;
    Some(Target::Key(hint.key))
}
