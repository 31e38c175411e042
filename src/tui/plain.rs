//! What a screen says, as text for a pipe, a ticket or a chat: 80 columns, no
//! colours, and an end.

use std::time::Duration;

use ratatui::text::Span;

use super::{
    screen::{Body, Evidence, FunctionRow, Gauges, HotPath, Moment, Screen, Title},
    view::Letters,
};
use crate::style;

/// Columns of a terminal, and of a mail.
const WIDTH: usize = 80;

/// How many functions are told: the rest is noise to whoever reads a table.
const ROWS: usize = 20;

/// `screen` as lines, each of which ends.
pub fn text(screen: &Screen, letters: Letters) -> String {
    let mut lines = vec![title(&screen.title)];
    lines.extend(gauges(&screen.gauges));
    if let Some(Evidence { text, grave }) = &screen.evidence {
        lines.push(if *grave { format!("! {text}") } else { text.clone() });
    }
    lines.push(String::new());
    lines.push(format!("{}:", screen.tabs.population));
    match &screen.body {
        Body::Functions(table) => {
            lines.push(" self %     ±  total %  function".to_owned());
            lines.extend(table.rows.iter().take(ROWS).map(row));
            if let Some(more @ 1..) = table.rows.len().checked_sub(ROWS) {
                lines.push(format!("{:>26}{more} more", ""));
            }
        }
        Body::Empty(why) => lines.push(format!("  {why}")),
        _ => {}
    }
    if let Some(path) = &screen.path {
        lines.push(String::new());
        lines.extend(hottest(path));
    }
    let mut text = String::new();
    for line in lines {
        let line = style::escape(&line);
        let line = match letters {
            Letters::Unicode => clip(line.trim_end()),
            Letters::Ascii => clip(&ascii(line.trim_end())).replace('…', "~"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn title(title: &Title) -> String {
    let runtime = title.runtime.as_ref().map(|it| format!("  {it}")).unwrap_or_default();
    let moment = match &title.moment {
        Moment::Ended(how) => format!("  {how}"),
        Moment::Live | Moment::Paused(_) | Moment::Past(_) => String::new(),
    };
    // What matters most is at the end, so the command makes room for it.
    let rest = format!(
        "{runtime}{moment}  {}  {} Hz, {:.1} % made",
        style::time(round(title.watched)),
        title.rate,
        title.made * 100.0
    );
    let room = WIDTH.saturating_sub(width(&rest) + width(&title.who) + 1);
    let command = style::clip(&title.command, room.max(12));
    format!("{} {command}{rest}", title.who)
}

/// To a tenth of a second.
fn round(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX) / 100 * 100)
}

fn gauges(gauges: &Gauges) -> [String; 2] {
    let lock = gauges
        .lock
        .map(|(held, waiting)| format!("  GIL held {:.0} %, wanted by {waiting:.1}", held * 100.0));
    let threads = gauges.threads;
    let lock_waiters = gauges.lock.map(|_| format!(", {} wait for the GIL", threads.lock));
    let held = gauges.held.map(|micros| format!(", holds a thread for {micros:.0} µs"));
    let lost = gauges.lost.as_ref().map(|lost| format!("  ({lost})"));
    [
        format!(
            "CPU {:.2} cores{}  spy {:.1} % of a core{}",
            gauges.cores,
            lock.unwrap_or_default(),
            gauges.own * 100.0,
            held.unwrap_or_default()
        ),
        format!(
            "threads: {} run, {} wait for a CPU{}, {} sleep{}",
            threads.running,
            threads.queued,
            lock_waiters.unwrap_or_default(),
            threads.blocked,
            lost.unwrap_or_default()
        ),
    ]
}

fn row(row: &FunctionRow) -> String {
    let numbers = format!(
        "{:>7.1} {:>5.1} {:>8.1}  ",
        row.own * 100.0,
        row.margin * 100.0,
        row.total * 100.0
    );
    let room = WIDTH - numbers.len();
    let place = if row.place.is_empty() { String::new() } else { format!("  {}", row.place) };
    // A function's name has the room that its place leaves, or half of it.
    let half = room / 2;
    let name = style::clip_middle(&row.name, room.saturating_sub(width(&place)).max(half));
    format!("{numbers}{name}{place}")
}

fn hottest(path: &HotPath) -> Vec<String> {
    let mut lines = vec![format!("hottest path, {:.0} % of the first:", path.share * 100.0)];
    let mut line = String::from(" ");
    for (at, frame) in path.frames.iter().enumerate() {
        let arrow = if at == 0 { "" } else { "← " };
        if width(&line) + width(frame) + 3 > WIDTH && !line.trim().is_empty() {
            lines.push(std::mem::replace(&mut line, String::from("   ")));
        }
        line.push_str(&format!(" {arrow}{frame}"));
    }
    lines.push(line);
    lines
}

/// Columns that `text` takes.
fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// `text` cut to the width of a line.
fn clip(text: &str) -> String {
    if width(text) <= WIDTH {
        return text.to_owned();
    }
    let mut kept = String::new();
    for letter in text.chars() {
        if width(&kept) + width(letter.encode_utf8(&mut [0; 4])) >= WIDTH {
            break;
        }
        kept.push(letter);
    }
    kept + "…"
}

/// `text` for who reads ASCII alone.
fn ascii(text: &str) -> String {
    let letter = |letter: char| match letter {
        '±' => "+-".to_owned(),
        '←' => "<-".to_owned(),
        'µ' => "u".to_owned(),
        '…' => "~".to_owned(),
        _ if letter.is_ascii() => letter.to_string(),
        _ => "?".to_owned(),
    };
    // The head of the column stays where it is.
    text.replace("    ±", "   +-").chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::screen::{Table, Tabs};

    fn screen(rows: Vec<FunctionRow>) -> Screen {
        Screen {
            title: Title {
                command: "gunicorn: worker [shop] with many words after it, more than fit".into(),
                who: "4182".into(),
                runtime: Some("CPython 3.12.4".into()),
                watched: Duration::from_millis(5043),
                moment: Moment::Live,
                rate: 100.0,
                made: 0.994,
            },
            gauges: Gauges { cores: 1.43, lock: Some((0.91, 2.1)), ..Gauges::default() },
            evidence: Some(Evidence { grave: true, text: "GIL-bound: 91 % held".into() }),
            tabs: Tabs { population: "on-CPU, last 5 s".into(), ..Tabs::default() },
            body: Body::Functions(Table { sorted: "self", rows, chosen: 0, top: 0 }),
            path: Some(HotPath {
                frames: (0..9).map(|at| format!("function_{at}")).collect(),
                share: 0.72,
            }),
            keys: Vec::new(),
            overlay: None,
            filter: None,
        }
    }

    fn row(name: &str, place: &str) -> FunctionRow {
        let (name, place) = (name.to_owned(), place.to_owned());
        FunctionRow { own: 0.412, total: 0.63, margin: 0.018, name, place, ..Default::default() }
    }

    #[test]
    fn it_reads_as_a_table() {
        let rows = vec![row("tokenize", "shop/parser.py:118"), row("\x1b[2J", "")];
        let expected = "\
4182 gunicorn: worker [shop] with m…  CPython 3.12.4  5.0 s  100 Hz, 99.4 % made
CPU 1.43 cores  GIL held 91 %, wanted by 2.1  spy 0.0 % of a core
threads: 0 run, 0 wait for a CPU, 0 wait for the GIL, 0 sleep
! GIL-bound: 91 % held

on-CPU, last 5 s:
 self %     ±  total %  function
   41.2   1.8     63.0  tokenize  shop/parser.py:118
   41.2   1.8     63.0  \\x1b[2J

hottest path, 72 % of the first:
  function_0 ← function_1 ← function_2 ← function_3 ← function_4 ← function_5
    ← function_6 ← function_7 ← function_8
";
        assert_eq!(text(&screen(rows), Letters::Unicode), expected);
    }

    #[test]
    fn every_line_fits_and_is_of_the_letters_that_are_wanted() {
        let long = "東京".repeat(60);
        let rows: Vec<_> = (0..30).map(|_| row(&long, &long)).collect();
        for letters in [Letters::Unicode, Letters::Ascii] {
            let text = text(&screen(rows.clone()), letters);
            assert!(text.contains("10 more"), "{text}");
            for line in text.lines() {
                assert!(width(line) <= WIDTH, "{line}");
                assert!(letters == Letters::Unicode || line.is_ascii(), "{line}");
            }
        }
    }
}
