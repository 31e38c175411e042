//! What a screen says, as JSON. `docs/json.md` says what the keys mean.

use serde_json::{Value, json};

use super::screen::{Body, FunctionRow, Moment, Screen};

/// How many functions are told. A program has more of them than anybody asks
/// for twice a second.
const ROWS: usize = 200;

/// `screen` as one object, in a line.
///
/// Names are the target's. What a terminal could take for a command is escaped
/// in them, also where JSON need not.
pub fn text(screen: &Screen) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for letter in value(screen).to_string().chars() {
        match letter {
            '\u{7f}'..='\u{9f}' => {
                // To write to a string does not fail.
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            _ => text.push(letter),
        }
    }
    text + "\n"
}

fn value(screen: &Screen) -> Value {
    let Screen { title, gauges, .. } = screen;
    let functions: Vec<Value> = match &screen.body {
        Body::Functions(table) => table.rows.iter().take(ROWS).map(function).collect(),
        _ => Vec::new(),
    };
    json!({
        "watched_seconds": title.watched.as_secs_f64(),
        "who": title.who,
        "command": title.command,
        "runtime": title.runtime,
        "ended": match &title.moment {
            Moment::Ended(how) => Some(how),
            Moment::Live | Moment::Paused(_) | Moment::Past(_) => None,
        },
        "rate": { "wanted_hz": title.rate, "made": title.made },
        "cpu_cores": gauges.cores,
        "gil": gauges.lock.map(|(held, waiting)| json!({ "held": held, "waiting": waiting })),
        "threads": {
            "running": gauges.threads.running,
            "queued": gauges.threads.queued,
            "gil": gauges.threads.lock,
            "blocked": gauges.threads.blocked,
        },
        "own": { "cpu_cores": gauges.own, "held_microseconds": gauges.held },
        "lost": gauges.lost,
        "evidence": screen.evidence.as_ref().map(|evidence| {
            json!({ "grave": evidence.grave, "text": evidence.text })
        }),
        "shown": screen.tabs.population,
        "functions": functions,
        "path": screen.path.as_ref().map(|path| {
            json!({ "frames": path.frames, "share": path.share })
        }),
    })
}

fn function(row: &FunctionRow) -> Value {
    json!({
        "function": row.name,
        "place": row.place,
        "native": row.native,
        "self": row.own,
        "total": row.total,
        "margin": row.margin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::screen::{Gauges, Tabs, Title};

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_means_the_same() {
        let command = "a\u{9b}31m\u{7f}\u{80}\u{9f}\u{a0}ä\u{1b}\n".to_owned();
        let screen = Screen {
            title: Title { command: command.clone(), ..Title::default() },
            gauges: Gauges::default(),
            evidence: None,
            tabs: Tabs::default(),
            body: Body::Empty(String::new()),
            path: None,
            keys: Vec::new(),
            overlay: None,
            filter: None,
        };
        let text = text(&screen);
        assert_eq!(text.chars().filter(|letter| letter.is_control()).collect::<String>(), "\n");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["command"], command);
    }
}
