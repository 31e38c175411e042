//! The live view, drawn.

mod places;
mod screens;

use std::time::Duration;

use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, text::Span};
use spy::{
    style::Paint,
    tui::{
        Screen,
        screen::{Moment, Overlay},
        view::{self, Letters, Look},
    },
};

use crate::golden;

const UTF8: Letters = Letters::Unicode;

/// What stands on a terminal of this size.
fn drawn(screen: &Screen, letters: Letters, (width, height): (u16, u16)) -> String {
    let look = Look { paint: Paint::Plain, letters };
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(screen, look, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    (0..height).map(|row| line(buffer, row).trim_end().to_owned() + "\n").collect()
}

/// A row as a terminal shows it, where a letter of two cells hides the second.
fn line(buffer: &Buffer, row: u16) -> String {
    let (mut text, mut column) = (String::new(), 0);
    while column < buffer.area.width {
        let symbol = buffer[(column, row)].symbol();
        text.push_str(symbol);
        column += u16::try_from(Span::raw(symbol).width().max(1)).unwrap();
    }
    text
}

fn check(name: &str, screen: &Screen, letters: Letters, size: (u16, u16)) {
    let text = drawn(screen, letters, size);
    if letters == Letters::Ascii {
        assert!(text.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)), "{text}");
    }
    golden::check(&format!("view/{name}-{}x{}.txt", size.0, size.1), &text);
}

fn with(mut screen: Screen, overlay: Overlay) -> Screen {
    screen.overlay = Some(overlay);
    screen
}

fn tabs() -> [(&'static str, Screen); 6] {
    [
        ("functions", screens::functions()),
        ("threads", screens::threads()),
        ("flame", screens::flame()),
        ("tree", screens::tree()),
        ("waits", screens::waits()),
        ("source", screens::source()),
    ]
}

fn states() -> [(&'static str, Screen); 11] {
    let ago = Duration::from_secs(125);
    let ended = "exited with status 1 at 12:04:11".to_owned();
    [
        ("paused", screens::at(Moment::Paused(Duration::from_secs(12)))),
        ("past", screens::at(Moment::Past(ago))),
        ("ended", screens::at(Moment::Ended(ended))),
        ("empty", screens::empty()),
        ("filtered", screens::filtered()),
        ("baseline", screens::baseline()),
        ("zoomed", screens::zoomed()),
        ("help", with(screens::functions(), screens::help())),
        ("prompt", with(screens::functions(), screens::prompt())),
        ("picker", with(screens::functions(), screens::picker(40, 25))),
        (
            "message",
            with(
                screens::functions(),
                Overlay::Message(
                    "Saved 2,880 samples of the last 30 s as incident.svg.".to_owned(),
                ),
            ),
        ),
    ]
}

#[test]
fn every_tab_on_a_terminal_of_80x24() {
    for (name, screen) in tabs() {
        check(name, &screen, UTF8, (80, 24));
        check(&format!("{name}-ascii"), &screen, Letters::Ascii, (80, 24));
    }
}

#[test]
fn every_state_on_a_terminal_of_80x24() {
    for (name, screen) in states() {
        check(name, &screen, UTF8, (80, 24));
    }
}

#[test]
fn every_tab_on_larger_terminals() {
    for (name, screen) in tabs() {
        check(name, &screen, UTF8, (120, 40));
    }
    check("functions", &screens::functions(), UTF8, (200, 60));
    check("threads", &screens::threads(), UTF8, (200, 60));
    check("flame", &screens::flame(), UTF8, (200, 60));
}

#[test]
fn every_tab_on_smaller_terminals() {
    for (name, screen) in tabs() {
        check(name, &screen, UTF8, (40, 10));
    }
    check("functions", &screens::functions(), UTF8, (60, 16));
    check("help", &with(screens::functions(), screens::help()), UTF8, (40, 10));
    check("functions", &screens::functions(), UTF8, (20, 5));
    check("flame", &screens::flame(), UTF8, (20, 5));
    check("prompt", &with(screens::functions(), screens::prompt()), UTF8, (20, 5));
}
