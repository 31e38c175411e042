//! A terminal too small for everything: who it is, and what is hottest.

use ratatui::style::Style;

use super::{
    canvas::Canvas,
    cells::{self, Cut},
    foot, header, numbers,
};
use crate::{
    style::Role,
    tui::screen::{Body, FlameBox, Overlay, Screen},
};

/// Draw two lines, or what there is room for.
pub(super) fn draw(screen: &Screen, canvas: &mut Canvas<'_>) {
    header::draw_title(&screen.title, 0, canvas);
    let (share, name) = hottest(screen);
    let text = match share {
        Some(share) => format!("{} {name}", numbers::percent(share)),
        None => name,
    };
    let room = canvas.width().saturating_sub(1);
    let text = cells::fit(&text, room, Cut::End, canvas.letters());
    canvas.put((1, 1), room, &text, Style::new());
    let last = canvas.height().saturating_sub(1);
    match &screen.overlay {
        Some(Overlay::Prompt { label, text, hint }) => {
            canvas.blank((0, last), canvas.width(), 1);
            foot::draw_prompt((label, text, hint), last, canvas);
        }
        Some(Overlay::Message(text)) => {
            canvas.blank((0, last), canvas.width(), 1);
            canvas.put((1, last), room, text, canvas.style(Role::Strong));
        }
        Some(Overlay::Picker { choices, chosen, .. }) => {
            canvas.blank((0, last), canvas.width(), 1);
            let choice = choices.get(*chosen).map_or("", String::as_str);
            canvas.put((0, last), room, &format!(">{choice}"), canvas.style(Role::Strong));
        }
        // There is no room for it, and it says nothing of the target.
        Some(Overlay::Help(_)) | None => {}
    }
}

/// Of what is shown, that which has the most.
fn hottest(screen: &Screen) -> (Option<f64>, String) {
    let told = match &screen.body {
        Body::Functions(table) => {
            most(&table.rows, |row| row.own).map(|row| (row.own, row.name.clone()))
        }
        Body::Threads(table) => most(&table.rows, |row| row.cpu)
            .map(|row| (row.cpu, format!("{} {}", row.name, row.frame))),
        Body::Flame(flame) => in_graph(&flame.boxes).map(|shown| (shown.share, shown.name.clone())),
        Body::Tree(table) => {
            most(&table.rows, |row| row.own).map(|row| (row.own, row.name.clone()))
        }
        Body::Waits(table) => most(&table.rows, |row| row.share)
            .map(|row| (row.share, format!("{} {}", row.call, row.object))),
        Body::Source(source) => return (None, source.title.clone()),
        Body::Empty(why) => return (None, why.clone()),
    };
    told.map_or((None, String::new()), |(share, name)| (Some(share), name))
}

/// The row with the largest share: the first one need not be it.
fn most<T>(rows: &[T], share: impl Fn(&T) -> f64) -> Option<&T> {
    // Of equal ones the first.
    rows.iter().rev().max_by(|a, b| share(a).total_cmp(&share(b)))
}

/// From the root down, as long as one callee has most of its caller's samples.
fn in_graph(boxes: &[FlameBox]) -> Option<&FlameBox> {
    let mut hot = boxes.first()?;
    for depth in 1..boxes.len() {
        let callees = boxes
            .iter()
            .filter(|shown| shown.depth == depth && shown.from >= hot.from && shown.to <= hot.to);
        match callees.max_by(|a, b| a.share.total_cmp(&b.share)) {
            Some(callee) if callee.share > hot.share / 2.0 => hot = callee,
            _ => break,
        }
    }
    Some(hot)
}
