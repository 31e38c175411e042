//! Drawing: what of a [`Screen`] stands where, and what a click there means.
//!
//! ```text
//!  who                         runtime  watched  LIVE  rate
//!  CPU  interpreter lock  threads  what this program costs
//!  ! what is certain
//! [1Functions] 2Threads  3Flame …      of what  ordered by what
//!   headings
//! > rows                                      body_height rows
//!  ── the way to what is chosen
//!  keys
//! ```
//!
//! The lines stand where they stand whether or not there is something to say
//! in them, so that nothing jumps. Below 40x10 there are two lines: who, and
//! the hottest row.

mod canvas;
mod cells;
mod flame;
mod foot;
mod functions;
mod header;
mod numbers;
mod overlay;
mod small;
mod source;
mod table;
mod tabs;
mod threads;
mod tree;
mod waits;

use ratatui::{Frame, buffer::Buffer, layout::Rect};

use self::canvas::Canvas;
use super::{
    screen::{Body, Screen},
    target::Target,
};
use crate::style::{Paint, Role};

/// Which letters may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    /// All.
    Unicode,
    /// Those of ASCII, whatever the target wrote.
    Ascii,
}

/// How the screen looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether there are colours. Nothing is told by colour alone.
    pub paint: Paint,
    /// Which letters there are.
    pub letters: Letters,
}

/// The smallest terminal on which everything has its place.
const SMALLEST: (usize, usize) = (40, 10);

/// The rows above the body, its headings among them, and below it.
const ABOVE: usize = 5;
const BELOW: usize = 2;

/// The row of tabs, and that of headings.
const TABS: usize = 3;
const HEADINGS: usize = 4;

/// Draw `screen`.
pub fn draw(screen: &Screen, look: Look, frame: &mut Frame<'_>) {
    let area = frame.area();
    draw_at(screen, look, area, frame.buffer_mut());
}

/// Draw `screen` in `area`, and nothing outside it.
pub fn draw_at(screen: &Screen, look: Look, area: Rect, buffer: &mut Buffer) {
    let mut canvas = Canvas::new(buffer, area, look);
    let (width, height) = (canvas.width(), canvas.height());
    if is_small(width, height) {
        return small::draw(screen, &mut canvas);
    }
    header::draw(screen, &mut canvas.rows(0, TABS));
    tabs::draw(screen, &mut canvas.rows(TABS, 1));
    draw_body(screen, &mut canvas.rows(HEADINGS, 1 + body_height(width, height)));
    foot::draw(screen, &mut canvas.rows(height - BELOW, BELOW));
    if let Some(overlay) = &screen.overlay {
        overlay::draw(overlay, &mut canvas);
    }
}

/// Draw the headings, and the rows below them.
fn draw_body(screen: &Screen, canvas: &mut Canvas<'_>) {
    let order = &screen.tabs.order;
    match &screen.body {
        Body::Functions(table) => functions::draw(table, order, canvas),
        Body::Threads(table) => threads::draw(table, order, canvas),
        Body::Flame(flame) => flame::draw(flame, canvas),
        Body::Tree(table) => tree::draw(table, order, canvas),
        Body::Waits(table) => waits::draw(table, order, canvas),
        Body::Source(source) => source::draw(source, canvas),
        Body::Empty(why) => draw_empty(why, canvas),
    }
}

/// A third of the way down, in the middle, in as many lines as it has.
fn draw_empty(why: &str, canvas: &mut Canvas<'_>) {
    let style = canvas.style(Role::Faint);
    let first = canvas.height() / 3;
    for (line, text) in why.lines().take(canvas.height()).enumerate() {
        let text = cells::fit(text, canvas.width(), cells::Cut::End, canvas.letters());
        let left = (canvas.width() - cells::width(&text)) / 2;
        canvas.put((left, first + line), canvas.width(), &text, style);
    }
}

/// How many rows of a table are seen on a terminal of this size. At least one:
/// where there is no room for a table the hottest row is still told.
pub const fn body_height(width: usize, height: usize) -> usize {
    if is_small(width, height) { 1 } else { height - ABOVE - BELOW }
}

/// What a click in this column and row means, on a terminal of this size.
pub fn hit(
    screen: &Screen,
    (width, height): (usize, usize),
    (column, row): (usize, usize),
) -> Option<Target> {
    if column >= width || row >= height || is_small(width, height) {
        return None;
    }
    if let Some(overlay) = &screen.overlay {
        return overlay::hit(overlay, (width, height), (column, row));
    }
    let body = body_height(width, height);
    match row {
        TABS => tabs::hit(screen, width, column),
        HEADINGS => hit_heading(screen, width, column),
        _ if row == height - 1 => foot::hit(screen, width, column),
        _ if row > HEADINGS && row <= HEADINGS + body => {
            let row = row - HEADINGS - 1;
            match &screen.body {
                Body::Functions(table) => table::row_at(table, row),
                Body::Threads(table) => table::row_at(table, row),
                Body::Tree(table) => table::row_at(table, row),
                Body::Waits(table) => table::row_at(table, row),
                Body::Flame(flame) => flame::hit(flame, width, (column, row)),
                Body::Source(source) => source::hit(source, row),
                Body::Empty(_) => None,
            }
        }
        _ => None,
    }
}

fn hit_heading(screen: &Screen, width: usize, column: usize) -> Option<Target> {
    match &screen.body {
        Body::Functions(table) => {
            table::heading_at(&functions::columns(&table.rows, width), column)
        }
        Body::Threads(table) => table::heading_at(&threads::columns(&table.rows, width), column),
        Body::Tree(table) => table::heading_at(&tree::columns(&table.rows, width), column),
        Body::Waits(table) => table::heading_at(&waits::columns(&table.rows, width), column),
        Body::Flame(_) | Body::Source(_) | Body::Empty(_) => None,
    }
}

const fn is_small(width: usize, height: usize) -> bool {
    width < SMALLEST.0 || height < SMALLEST.1
}
