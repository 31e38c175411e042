//! The first three lines: who is watched, in what condition, and what is
//! certain of it.

use ratatui::style::{Modifier, Style};

use super::{canvas::Canvas, cells, numbers};
use crate::{
    style::{self, Role},
    tui::screen::{Evidence, Gauges, Moment, Screen, Title},
};

/// The blank cells between the parts of a line.
const GAP: usize = 2;

/// Draw them.
pub(super) fn draw(screen: &Screen, canvas: &mut Canvas<'_>) {
    draw_title(&screen.title, 0, canvas);
    draw_gauges(&screen.gauges, canvas);
    if let Some(evidence) = &screen.evidence {
        draw_evidence(evidence, canvas);
    }
}

/// Draw who is watched, and at the right end how. What is least important goes
/// where there is no room.
pub(super) fn draw_title(title: &Title, row: usize, canvas: &mut Canvas<'_>) {
    let (faint, strong) = (canvas.style(Role::Faint), canvas.style(Role::Strong));
    let urgent = canvas.style(Role::Warning).add_modifier(Modifier::REVERSED);
    let (moment, is_live) = moment(&title.moment);
    let quality = if title.made < 0.9 { canvas.style(Role::Warning) } else { faint };
    let mut parts = vec![
        (0, title.runtime.clone().unwrap_or_default(), faint),
        (2, numbers::clock(title.watched), Style::new()),
        (3, moment, if is_live { strong } else { urgent }),
        (1, format!("{:.0} Hz {}", title.rate, numbers::whole(title.made)), quality),
    ];
    parts.retain(|(_, text, _)| !text.is_empty());
    let command = without_directory(&title.command);
    let who = format!("{} {command}", title.who);
    let letters = canvas.letters();
    let clean = |text: &str| cells::measure(text, letters);
    // Half of the line is for who it is, unless that is shorter.
    let least = clean(&who).min(canvas.width() / 2);
    for unneeded in 0..3 {
        let taken: usize = parts.iter().map(|(_, text, _)| clean(text) + GAP).sum();
        if least + taken < canvas.width() {
            break;
        }
        parts.retain(|(order, _, _)| *order != unneeded);
    }
    let mut end = canvas.width().saturating_sub(1);
    for (_, text, style) in parts.iter().rev() {
        canvas.put_right((end, row), end, text, *style);
        end = end.saturating_sub(clean(text) + GAP);
    }
    let at = canvas.put((1, row), end, &title.who, strong) + 1;
    canvas.put((at, row), end.saturating_sub(at), command, strong);
}

/// A command line with its program alone, not where that is: what comes after
/// it tells more.
fn without_directory(command: &str) -> &str {
    let end = command.find(' ').unwrap_or(command.len());
    match command[..end].rfind('/') {
        Some(slash) if command.starts_with('/') => &command[slash + 1..],
        _ => command,
    }
}

/// What moment is shown, in words, and whether it is now.
pub(super) fn moment(moment: &Moment) -> (String, bool) {
    match moment {
        Moment::Live => ("LIVE".to_owned(), true),
        Moment::Paused(at) => (format!("PAUSED at {}", numbers::clock(*at)), false),
        Moment::Past(at) => (format!("PAST at {}", numbers::clock(*at)), false),
        Moment::Ended(_) => ("ENDED".to_owned(), false),
    }
}

/// How much is told in the line of gauges.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Detail {
    /// All, with units.
    Full,
    /// All, in few letters.
    Short,
    /// Without how long threads are held.
    Unheld,
    /// Without what this program costs.
    Uncosted,
    /// Without what threads do.
    Least,
}

fn draw_gauges(gauges: &Gauges, canvas: &mut Canvas<'_>) {
    let width = canvas.width();
    let details = [Detail::Full, Detail::Short, Detail::Unheld, Detail::Uncosted, Detail::Least];
    for detail in details {
        let parts = parts(gauges, detail, canvas);
        let taken: usize = parts.iter().map(|(text, _)| cells::width(text) + GAP).sum();
        // The history of the processors takes what is left.
        let least = if detail == Detail::Full { 12 } else { 4 };
        let spark = (width.saturating_sub(taken + 1)).min(40);
        if spark < least && detail != Detail::Least {
            continue;
        }
        let mut at = 1;
        for (index, (text, style)) in parts.iter().enumerate() {
            at = canvas.put((at, 1), width, text, *style);
            if index == 0 && spark >= 4 {
                let history = history(gauges, spark.min(gauges.cores_before.len()), canvas);
                at = canvas.put((at + 1, 1), width, &history, canvas.style(Role::Running));
            }
            at += GAP;
        }
        return;
    }
}

/// The use of processors over time. One that is used in full, or all that are
/// used when there are more, is as high as can be.
fn history(gauges: &Gauges, cells: usize, canvas: &Canvas<'_>) -> String {
    let values = gauges.cores_before.iter().copied().filter(|cores| cores.is_finite());
    numbers::spark(&gauges.cores_before, values.fold(1.0, f64::max), cells, canvas.letters())
}

fn parts(gauges: &Gauges, detail: Detail, canvas: &Canvas<'_>) -> Vec<(String, Style)> {
    let full = detail == Detail::Full;
    let plain = Style::new();
    let text = |text: String| {
        let text = if full { text } else { text.replace(" %", "%").replace(" µs", "µs") };
        cells::fit(&text, canvas.width(), cells::Cut::End, canvas.letters())
    };
    let mut parts =
        vec![(text(format!("CPU {:.2}{}", gauges.cores, if full { " cores" } else { "" })), plain)];
    if let Some((held, wanted)) = gauges.lock {
        let held = numbers::whole(held);
        let words = if full { ["held", ",", "waiting"] } else { ["", "", "wait"] };
        let said = format!("GIL {} {held}{} {wanted:.1} {}", words[0], words[1], words[2]);
        let style = if wanted >= 1.0 { canvas.style(Role::Warning) } else { plain };
        parts.push((text(said.replace("  ", " ")), style));
    }
    if detail < Detail::Least {
        let threads = gauges.threads;
        parts.push((
            text(format!(
                "{}{} run {} queue {} lock {} sleep",
                if full { "threads: " } else { "" },
                threads.running,
                threads.queued,
                threads.lock,
                threads.blocked
            )),
            plain,
        ));
    }
    if let Some(lost) = &gauges.lost {
        // Half of the line is for what is known all the same.
        let lost = cells::fit(lost, canvas.width() / 2, cells::Cut::End, canvas.letters());
        parts.push((lost, canvas.style(Role::Warning)));
    } else if detail < Detail::Uncosted {
        let own = numbers::whole(gauges.own);
        let held = gauges.held.filter(|held| held.is_finite() && detail < Detail::Unheld);
        let held = held.map(|micros| {
            let time =
                style::time(std::time::Duration::from_secs_f64(micros.clamp(0.0, 1e12) / 1e6));
            if full { format!(" of a core, holds {time}") } else { format!(" {time}") }
        });
        let said = format!("spy {own}{}", held.unwrap_or_default());
        parts.push((text(said), canvas.style(Role::Faint)));
    }
    parts
}

fn draw_evidence(evidence: &Evidence, canvas: &mut Canvas<'_>) {
    let (mark, style) =
        if evidence.grave { ("!", canvas.style(Role::Warning)) } else { ("", Style::new()) };
    canvas.put((1, 2), 1, mark, style);
    let at = if mark.is_empty() { 1 } else { 3 };
    canvas.put((at, 2), canvas.width().saturating_sub(at + 1), &evidence.text, style);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_without_its_directory() {
        let check = |command, name| assert_eq!(without_directory(command), name);
        check("/usr/bin/python3 /srv/shop/serve.py", "python3 /srv/shop/serve.py");
        check("/usr/sbin/nginx", "nginx");
        check("gunicorn: worker [shop/eu]", "gunicorn: worker [shop/eu]");
        check("./serve /etc/shop", "./serve /etc/shop");
        check("", "");
    }
}
