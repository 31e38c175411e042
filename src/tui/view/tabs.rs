//! The line of tabs, and of what everything below is a share.

use super::{Letters, canvas::Canvas, cells, cells::Cut};
use crate::{
    style::Role,
    tui::{
        screen::{Screen, Tab},
        target::Target,
    },
};

/// How many letters of the names of those tabs are told that are not chosen,
/// from the most to the least.
const NAMES: [usize; 3] = [usize::MAX, 3, 0];

/// Draw it.
pub(super) fn draw(screen: &Screen, canvas: &mut Canvas<'_>) {
    let (width, letters) = (canvas.width(), canvas.letters());
    let (strong, faint) = (canvas.style(Role::Strong), canvas.style(Role::Faint));
    let labels = labels(screen, width);
    for (label, _) in &labels {
        let style = if label.chosen { strong } else { faint };
        canvas.put((label.from, 0), width, &label.text, style);
    }
    let from = labels.last().map_or(0, |(label, _)| label.from + label.text.len()) + 1;
    let right = width.saturating_sub(1);
    let room = right.saturating_sub(from);
    let [filter, population, order] = told(screen);
    let all = format!("{filter}{population}{order}");
    let most = cells::measure(&all, letters);
    // What rows are ordered by is seen in their headings too.
    let text = if most <= room { all } else { format!("{filter}{population}") };
    let text = cells::fit(text.trim_end(), room, Cut::End, letters);
    canvas.put_right((right, 0), room, &text, ratatui::style::Style::new());
}

/// What is told at the right: the filter, the population, the order.
fn told(screen: &Screen) -> [String; 3] {
    let filter = screen
        .filter
        .as_ref()
        .map(|filter| format!("/{}/  ", cells::fit(filter, 24, Cut::Middle, Letters::Unicode)));
    let order = &screen.tabs.order;
    let order = if order.is_empty() { String::new() } else { format!("  {order}") };
    [filter.unwrap_or_default(), screen.tabs.population.clone(), order]
}

/// A tab's name as it is written, and where.
struct Label {
    text: String,
    from: usize,
    chosen: bool,
}

/// The names of the tabs: of those that are not chosen as much as leaves room
/// for the population.
fn labels(screen: &Screen, width: usize) -> Vec<(Label, Tab)> {
    let [filter, population, _] = told(screen);
    let told = cells::measure(&(filter + &population), Letters::Unicode);
    let mut labels = Vec::new();
    for letters in NAMES {
        labels = labels_of(screen.tabs.chosen, letters);
        let end = labels.last().map_or(0, |(label, _)| label.from + label.text.len());
        if end + 2 + told < width {
            break;
        }
    }
    labels
}

fn labels_of(chosen: Tab, letters: usize) -> Vec<(Label, Tab)> {
    let mut from = 0;
    let mut labels = Vec::new();
    for (digit, tab) in (1..).zip(Tab::ALL) {
        let name = tab.name();
        // All names are ASCII.
        let text = if tab == chosen {
            format!("[{digit}{name}]")
        } else {
            format!(" {digit}{} ", &name[..letters.min(name.len())])
        };
        let next = from + text.len();
        labels.push((Label { text, from, chosen: tab == chosen }, tab));
        from = next;
    }
    labels
}

/// What a click on it means.
pub(super) fn hit(screen: &Screen, width: usize, column: usize) -> Option<Target> {
    let labels = labels(screen, width);
    let at = |label: &Label| (label.from..label.from + label.text.len()).contains(&column);
    labels.iter().find(|(label, _)| at(label)).map(|&(_, tab)| Target::Tab(tab))
}
