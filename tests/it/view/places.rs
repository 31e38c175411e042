//! Where things stand on terminals of every size, and what a click there means.

use ratatui::{
    buffer::{Buffer, Cell},
    layout::Rect,
    text::Span,
};
use spy::{
    style::Paint,
    tui::{
        Screen, Target,
        screen::{Body, Flame, FlameBox, FunctionRow, Moment, Overlay, Tab, Table, TreeRow},
        view::{self, Letters, Look},
    },
};

use super::{drawn, line, screens, states, tabs, with};

/// What a target may call itself and its functions.
const HOSTILE: [&str; 8] = [
    "\x1b]0;pwned\x07\x1b[2J\r\n",
    "\u{202e}gnp.exe\u{200d}\u{feff}",
    "東京都千代田区丸の内一丁目九番一号東京駅八重洲口",
    "e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}",
    "\u{301}\u{fe0f}",
    "👩‍👩‍👧‍👦🇩🇪👍🏽☺️ｶﾞ",
    "",
    "/////////////////////////////////////////////////////////////////////////////",
];

/// Every text of a screen hostile, and every number out of its bounds.
fn hostile(screen: &mut Screen) {
    let long = "長い名前".repeat(600);
    let mut texts = HOSTILE.iter().copied().chain([long.as_str()]).cycle();
    let mut text = || texts.next().unwrap().to_owned();
    let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300, 0.5, f64::MIN_POSITIVE];
    let mut numbers = numbers.into_iter().cycle();
    let mut number = || numbers.next().unwrap();
    (screen.title.command, screen.title.who) = (text(), text());
    screen.title.runtime = Some(text());
    (screen.title.rate, screen.title.made) = (number(), number());
    screen.gauges.cores = number();
    screen.gauges.cores_before.iter_mut().for_each(|cores| *cores = number());
    screen.gauges.lock = Some((number(), number()));
    screen.gauges.held = Some(number());
    screen.gauges.threads.running = usize::MAX;
    screen.evidence.iter_mut().for_each(|evidence| evidence.text = text());
    (screen.tabs.population, screen.tabs.order) = (text(), text());
    screen.filter = Some(text());
    screen.path.iter_mut().for_each(|path| {
        path.share = number();
        path.frames.iter_mut().for_each(|frame| *frame = text());
    });
    match &mut screen.body {
        Body::Functions(table) => {
            (table.chosen, table.top) = (usize::MAX, usize::MAX);
            for row in &mut table.rows {
                (row.own, row.total, row.margin) = (number(), number(), number());
                row.change = Some(number());
                row.trend.iter_mut().for_each(|share| *share = number());
                (row.name, row.place) = (text(), text());
            }
        }
        Body::Threads(table) => {
            for row in &mut table.rows {
                (row.name, row.frame, row.wait) = (text(), text(), Some((text(), None)));
                (row.tid, row.pid, row.state) = (i32::MIN, Some(i32::MIN), "\x1b[2J");
                (row.cpu, row.queued, row.lock) = (number(), number(), Some((number(), number())));
            }
        }
        Body::Flame(flame) => {
            flame.above = vec![text(), text()];
            for (at, shown) in flame.boxes.iter_mut().enumerate() {
                (shown.name, shown.share) = (text(), number());
                (shown.from, shown.to) = (number(), number());
                shown.depth = if at % 5 == 4 { usize::MAX } else { at };
            }
        }
        Body::Tree(table) => {
            for row in &mut table.rows {
                (row.name, row.place, row.depth) = (text(), text(), row.depth * (usize::MAX / 8));
            }
        }
        Body::Waits(table) => {
            for row in &mut table.rows {
                (row.call, row.object, row.stack) = (text(), text(), vec![text(), text()]);
                (row.threads, row.share) = (usize::MAX, number());
                row.longest = Some(std::time::Duration::MAX);
            }
        }
        Body::Source(source) => {
            (source.title, source.top) = (text(), 3);
            for line in &mut source.lines {
                (line.text, line.number) = (text() + "\t\t\t", u32::MAX);
                (line.own, line.total) = (number(), number());
            }
        }
        Body::Empty(why) => *why = text() + "\n" + &text(),
    }
}

/// Draw in the middle of a larger buffer, and see that what is drawn is there
/// alone, and that it is letters.
fn draw_framed(screen: &Screen, letters: Letters, (width, height): (u16, u16)) {
    let look = Look { paint: Paint::Coloured, letters };
    let outside = Cell::new("╳");
    let mut buffer = Buffer::filled(Rect::new(0, 0, width + 4, height + 4), outside.clone());
    let area = Rect::new(2, 2, width, height);
    for place in area.positions() {
        buffer[place].reset();
    }
    view::draw_at(screen, look, area, &mut buffer);
    for place in buffer.area.positions() {
        let cell = &buffer[place];
        if !area.contains(place) {
            assert_eq!(*cell, outside, "{place} is outside of {width}x{height}");
            continue;
        }
        let symbol = cell.symbol();
        let cells = u16::try_from(Span::raw(symbol).width()).unwrap();
        assert!((1..=2).contains(&cells), "{symbol:?} at {place}");
        assert!(place.x + cells <= area.right(), "{symbol:?} stands half outside");
        assert!(symbol.len() <= 16 && !symbol.contains(char::is_control), "{symbol:?}");
        if letters == Letters::Ascii {
            assert!(symbol.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{symbol:?}");
        } else if cells == 2 {
            assert_eq!(buffer[(place.x + 1, place.y)].symbol(), " ", "hidden by {symbol:?}");
        }
    }
}

/// Sizes up to 45x12, and some up to 300x100, the extremes among them.
fn sizes() -> Vec<(u16, u16)> {
    let mut sizes: Vec<_> = (1..=45).flat_map(|w| (1..=12).map(move |h| (w, h))).collect();
    let wide = [46, 59, 60, 61, 79, 80, 99, 100, 119, 120, 139, 140, 200, 300];
    let high = [10, 13, 24, 40, 100];
    sizes.extend(wide.into_iter().enumerate().map(|(at, w)| (w, high[at % high.len()])));
    sizes.extend([(300, 1), (1, 100), (300, 100), (40, 100), (300, 10)]);
    sizes
}

#[test]
fn nothing_is_drawn_outside_on_a_terminal_of_any_size() {
    let mut all: Vec<Screen> =
        tabs().into_iter().chain(states()).map(|(_, screen)| screen).collect();
    let ended = "was killed by SIGSEGV at 12:04:11".repeat(9);
    all.push(screens::at(Moment::Ended(ended)));
    let mut bad = all.clone();
    bad.iter_mut().for_each(hostile);
    let message = Overlay::Message(HOSTILE.join(" ").repeat(20));
    bad.push(with(screens::functions(), message));
    let (label, text, hint) = ("save as", HOSTILE.concat().repeat(9), HOSTILE.concat());
    bad.push(with(screens::functions(), Overlay::Prompt { label, text, hint }));
    let choices = HOSTILE.iter().map(|&text| text.to_owned()).collect();
    bad.push(with(screens::functions(), Overlay::Picker { label, choices, chosen: usize::MAX }));
    let nobody = Overlay::Picker { label, choices: Vec::new(), chosen: 3 };
    bad.push(with(screens::functions(), nobody));
    for size in sizes() {
        for (at, screen) in all.iter().chain(&bad).enumerate() {
            // Where only two lines are drawn screens differ little: each is drawn
            // at every seventh of those sizes, and at every third large one.
            let every = match size {
                (..40, _) | (_, ..10) => 7,
                (150.., 40..) => 3,
                _ => 1,
            };
            if (usize::from(size.0 + 3 * size.1) + at) % every != 0 {
                continue;
            }
            let letters = if at % 2 == 0 { Letters::Unicode } else { Letters::Ascii };
            draw_framed(screen, letters, size);
            let (width, height) = (usize::from(size.0), usize::from(size.1));
            for column in [0, width / 2, width, usize::MAX] {
                for row in [0, 3, 4, 5, height / 2, height - 1, usize::MAX] {
                    let _ = view::hit(screen, (width, height), (column, row));
                }
            }
        }
    }
}

#[test]
fn the_body_is_as_high_as_is_said() {
    assert_eq!(view::body_height(80, 24), 17);
    assert_eq!(view::body_height(40, 10), 3);
    assert_eq!(view::body_height(39, 24), 1);
    assert_eq!(view::body_height(80, 9), 1);
    for (width, height) in [(80, 24), (40, 10), (200, 60)] {
        let text = drawn(&many(0), Letters::Unicode, (width, height));
        let rows = text.lines().filter(|line| line.contains("row-")).count();
        assert_eq!(rows, view::body_height(width.into(), height.into()));
    }
}

/// Ten thousand functions, of which the first that is seen is `top`.
fn many(top: usize) -> Screen {
    let row = |at| FunctionRow { name: format!("row-{at}!"), ..FunctionRow::default() };
    let rows = (0..10_000).map(row).collect();
    let table = Table { sorted: "self", rows, chosen: top + 1, top };
    screens::screen(Tab::Functions, "self▼", Body::Functions(table))
}

/// That every cell in which something is drawn of what `mark` begins and a
/// number ends means that number.
fn hits_are_what_is_drawn(screen: &Screen, mark: &str, target: impl Fn(usize) -> Target) -> usize {
    let mut found = 0;
    for size in [(40, 10), (80, 24), (120, 40), (200, 60)] {
        let text = drawn(screen, Letters::Ascii, size);
        for (row, line) in text.lines().enumerate() {
            for (column, _) in line.match_indices(mark) {
                let rest = &line[column + mark.len()..];
                let Some((number, _)) = rest.split_once('!') else { continue };
                for column in column..column + mark.len() + number.len() + 1 {
                    let hit = view::hit(screen, (size.0.into(), size.1.into()), (column, row));
                    assert_eq!(hit, Some(target(number.parse().unwrap())), "{size:?}\n{text}");
                }
                found += 1;
            }
        }
    }
    found
}

#[test]
fn a_click_on_a_row_means_that_row() {
    let seen = 3 + 17 + 33 + 53;
    assert_eq!(hits_are_what_is_drawn(&many(0), "row-", Target::Row), seen);
    assert_eq!(hits_are_what_is_drawn(&many(5000), "row-", Target::Row), seen);
    assert_eq!(hits_are_what_is_drawn(&many(9998), "row-", Target::Row), 2 * 4);
    assert_eq!(hits_are_what_is_drawn(&many(20_000), "row-", Target::Row), 4, "the last stays");

    let row =
        |at: usize| TreeRow { depth: at * 3, name: format!("row-{at}!"), ..TreeRow::default() };
    let table = Table { sorted: "total", rows: (0..60).map(row).collect(), chosen: 9, top: 7 };
    let tree = screens::screen(Tab::Tree, "total▼", Body::Tree(table));
    assert_eq!(hits_are_what_is_drawn(&tree, "row-", Target::Row), seen);

    let mut source = screens::source();
    if let Body::Source(source) = &mut source.body {
        for (at, line) in source.lines.iter_mut().enumerate() {
            line.text = format!("row-{at}!");
        }
        source.top = 4;
    }
    assert_eq!(hits_are_what_is_drawn(&source, "row-", Target::Row), 3 + 6 * 3);
}

#[test]
fn a_click_in_the_graph_means_the_box_that_is_there() {
    let mut boxes = Vec::new();
    for depth in 0_u32..6 {
        let across = 1 << depth.min(3);
        for at in 0..across {
            let (from, to) =
                (f64::from(at) / f64::from(across), f64::from(at + 1) / f64::from(across));
            let name = format!("box-{}!", boxes.len());
            let depth = depth as usize;
            boxes.push(FlameBox { name, depth, from, to, share: to - from, ..FlameBox::default() });
        }
    }
    let flame = Flame { boxes, chosen: 4, top: 1, ..Flame::default() };
    let screen = screens::screen(Tab::Flame, "", Body::Flame(flame));
    let found = hits_are_what_is_drawn(&screen, "box-", Target::FlameBox);
    assert!(found >= 2 + 4 + 3 * (2 + 4 + 3 * 8), "{found} boxes");
}

/// Where `text` stands on the screen.
fn find(screen: &Screen, text: &str) -> (usize, usize) {
    let all = drawn(screen, Letters::Ascii, (80, 24));
    let mut lines = all.lines().enumerate();
    lines
        .find_map(|(row, line)| Some((line.find(text)?, row)))
        .unwrap_or_else(|| panic!("{text}: {all}"))
}

#[test]
fn a_click_on_what_has_a_name_means_it() {
    let check = |screen: &Screen, text, target| {
        assert_eq!(view::hit(screen, (80, 24), find(screen, text)), target, "{text}");
    };
    let functions = screens::functions();
    check(&functions, "Functions", Some(Target::Tab(Tab::Functions)));
    check(&functions, "3Flame", Some(Target::Tab(Tab::Flame)));
    check(&functions, "Source", Some(Target::Tab(Tab::Source)));
    check(&functions, "+-", Some(Target::Column("±")));
    check(&functions, "total", Some(Target::Column("total")));
    check(&functions, "Space pause", Some(Target::Key("Space")));
    check(&functions, "help", Some(Target::Key("?")));
    check(&functions, "4182", None);
    check(&functions, "-- tokenize", None);

    let picker = with(screens::functions(), screens::picker(40, 25));
    check(&picker, "worker-25", Some(Target::Choice(25)));
    check(&picker, "worker-12", Some(Target::Choice(12)));
    check(&picker, " thread ", None);
    check(&picker, "4182", Some(Target::Outside));
    let message = Overlay::Message("Saved.".to_owned());
    check(&with(screens::functions(), message.clone()), "4182", Some(Target::Outside));
    check(&with(screens::functions(), message), "Saved", None);
}

#[test]
fn what_is_chosen_is_marked_without_colours_too() {
    for (name, screen) in tabs() {
        let text = drawn(&screen, Letters::Ascii, (80, 24));
        let marked = text.lines().filter(|line| line.starts_with('>')).count();
        assert_eq!(marked, 1, "{name}\n{text}");
    }
}

#[test]
fn there_are_no_colours_where_none_are_wanted() {
    for (_, screen) in tabs().into_iter().chain(states()) {
        for (paint, coloured) in [(Paint::Plain, false), (Paint::Coloured, true)] {
            let area = Rect::new(0, 0, 80, 24);
            let mut buffer = Buffer::empty(area);
            let look = Look { paint, letters: Letters::Unicode };
            view::draw_at(&screen, look, area, &mut buffer);
            let is_coloured = buffer.content.iter().any(|cell| {
                [cell.fg, cell.bg].iter().any(|&colour| colour != ratatui::style::Color::Reset)
            });
            assert_eq!(is_coloured, coloured, "{}", line(&buffer, 3));
        }
    }
}
