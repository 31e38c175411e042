//! A terminal too small for everything: who it is, and the hottest row.

use ratatui::style::Style;

use super::{
    canvas::Canvas,
    cells::{self, Cut},
    foot, header, numbers,
};
use crate::{
    style::Role,
    tui::screen::{Body, Overlay, Screen},
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

/// The first row of what is shown: rows are ordered by what is wanted.
fn hottest(screen: &Screen) -> (Option<f64>, String) {
    let none = || (None, String::new());
    match &screen.body {
        Body::Functions(table) => {
            table.rows.first().map_or_else(none, |row| (Some(row.own), row.name.clone()))
        }
        Body::Threads(table) => table
            .rows
            .first()
            .map_or_else(none, |row| (Some(row.cpu), format!("{} {}", row.name, row.frame))),
        Body::Flame(flame) => {
            // The deepest of those that have most of the samples.
            let most = flame.boxes.iter().filter(|shown| shown.depth > 0);
            most.max_by(|a, b| a.share.total_cmp(&b.share).then(a.depth.cmp(&b.depth)))
                .map_or_else(none, |shown| (Some(shown.share), shown.name.clone()))
        }
        Body::Tree(table) => {
            table.rows.first().map_or_else(none, |row| (Some(row.share), row.name.clone()))
        }
        Body::Waits(table) => table
            .rows
            .first()
            .map_or_else(none, |row| (Some(row.share), format!("{} {}", row.call, row.object))),
        Body::Source(source) => (None, source.title.clone()),
        Body::Empty(why) => (None, why.clone()),
    }
}
