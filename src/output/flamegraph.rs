//! A flame graph: an SVG to look at, zoom and search in a browser.
//!
//! Stacks of running threads are warm and stacks of waiting ones cool, also
//! where the same function is in both: in a recording that has both, each has
//! a root frame of its own, so that their shares can be read off. Colours are
//! no decoration: functions of one image share a hue, and a function has the
//! same colour in every graph.

use std::{
    collections::BTreeMap,
    hash::Hasher,
    io::{self, Write},
};

use inferno::flamegraph::{
    self as graph, TextTruncateDirection,
    color::{BackgroundColor, Color, PaletteMap},
};
use rustc_hash::FxHasher;

use super::{
    Locks, Mode, Named, Options, View, cut, samples,
    stacks::{Kind, Label, Part, Shown, stacks},
    text, title, waits,
};
use crate::style;

/// Inferno shows a frame without this suffix, but looks its colour up with it.
const COOL: &str = "_[w]";

const WIDTH: u32 = 1200;

/// Write `recording` as a flame graph.
pub(super) fn write(
    recording: Named<'_>,
    options: &Options,
    into: &mut dyn Write,
) -> io::Result<()> {
    let stacks = stacks(recording, options);
    if stacks.is_empty() {
        return write_empty(recording, options, into);
    }
    let mut palette = Palette::default();
    // Inferno's own order is that of bytes, in which `main` alone and what
    // `main` calls can lie apart, and be two frames. In the mode for charts it
    // keeps the order that it is given, from the last to the first.
    let lines: Vec<String> =
        stacks.iter().map(|(shown, micros)| line(shown, *micros, options, &mut palette)).collect();
    let mut palette = palette.finish();

    let mut graph = graph::Options::default();
    graph.title = title(recording);
    graph.subtitle = Some(subtitle(recording, options));
    graph.flame_chart = true;
    graph.palette_map = Some(&mut palette);
    graph.bgcolors = Some(BackgroundColor::Flat(Color { r: 252, g: 252, b: 252 }));
    graph.text_truncate_direction = TextTruncateDirection::Right;
    graph.count_name = "µs".to_owned();
    graph.name_type = String::new();
    graph.min_width = 0.02;
    graph::from_lines(&mut graph, lines.iter().rev().map(String::as_str), into)
}

/// A line for inferno, its frames entered in `palette`.
fn line(shown: &Shown, micros: u64, options: &Options, palette: &mut Palette) -> String {
    let mut frames = Vec::with_capacity(shown.roots.len() + shown.frames.len() + 1);
    frames.extend(shown.roots.iter().map(|label| palette.enter(label, Part::Running)));
    if options.mode == Mode::Wall {
        let text = match shown.part {
            Part::Running => "running",
            Part::Waiting => "waiting",
        };
        let label = Label { text: text.into(), kind: Kind::Function(text.into()) };
        frames.push(palette.enter(&label, shown.part));
    }
    frames.extend(shown.frames.iter().map(|label| palette.enter(label, shown.part)));
    format!("{} {micros}", frames.join(";"))
}

/// The colours of frames by their texts.
#[derive(Default)]
struct Palette {
    colours: BTreeMap<String, (u8, u8, u8)>,
}

impl Palette {
    /// The frame's text as inferno is to have it, with its colour entered.
    fn enter(&mut self, label: &Label, part: Part) -> String {
        let mut text = label.text.to_string();
        if part == Part::Waiting {
            text.push_str(COOL);
        } else if let Some(open) = text.strip_suffix(']')
            && open.len() > 2
            && open.get(..open.len() - 1).is_some_and(|rest| rest.ends_with("_["))
        {
            // A function that really is called so must not lose its end.
            text = format!("{open} ]");
        }
        let colour = colour(label, part);
        // Two images may each have a function of this text: the same one wins
        // whatever the order of the stacks.
        let entry = self.colours.entry(text.clone()).or_insert(colour);
        *entry = (*entry).min(colour);
        text
    }

    fn finish(self) -> PaletteMap {
        let mut map = PaletteMap::default();
        map.insert("", Color { r: 236, g: 236, b: 232 });
        for (text, (r, g, b)) in self.colours {
            map.insert(text, Color { r, g, b });
        }
        map
    }
}

fn colour(label: &Label, part: Part) -> (u8, u8, u8) {
    match (&label.kind, part) {
        (Kind::Root, _) => hsl(50, 12, 86),
        (Kind::Cut, _) => hsl(0, 0, 78),
        (Kind::Wait, Part::Running) => hsl(46, 45, 84),
        (Kind::Wait, Part::Waiting) => hsl(228, 62, 76),
        // The image chooses the hue, the function its shade.
        (Kind::Function(home), Part::Running) => {
            hsl(10 + hash(home) % 40, 88, 62 + hash(&label.text) % 11)
        }
        (Kind::Function(home), Part::Waiting) => {
            hsl(182 + hash(home) % 32, 50, 70 + hash(&label.text) % 10)
        }
    }
}

/// The same number for the same text, in every recording.
fn hash(text: &str) -> u16 {
    let mut hasher = FxHasher::default();
    hasher.write(text.as_bytes());
    let [high, low, ..] = hasher.finish().to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// A colour by hue (degrees, below 240), saturation and lightness (percent).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "each part is between 0 and 255"
)]
fn hsl(hue: u16, saturation: u16, lightness: u16) -> (u8, u8, u8) {
    let (hue, saturation, lightness) =
        (f64::from(hue), f64::from(saturation) / 100.0, f64::from(lightness) / 100.0);
    let part = |at: f64| {
        let at = (at + hue / 30.0) % 12.0;
        let chroma = saturation * lightness.min(1.0 - lightness);
        let value = lightness - chroma * (at - 3.0).min(9.0 - at).clamp(-1.0, 1.0);
        (value * 255.0).round().clamp(0.0, 255.0) as u8
    };
    (part(0.0), part(8.0), part(4.0))
}

/// How it was watched, what was lost, and how it compares with what the kernel
/// counted.
fn subtitle(recording: Named<'_>, options: &Options) -> String {
    let costs = recording.costs;
    let lost = costs.caught.missed;
    let (cut, looked_at) = cut(recording.profile, options);
    format!(
        "{}, {} at {} Hz: {} samples, {} lost, {} cut; CPU {} sampled, {} by the kernel",
        options.kind(),
        style::time(costs.duration),
        options.rate,
        style::count(samples(recording.profile, options)),
        style::share(lost, costs.caught.total()),
        style::share(cut, looked_at),
        style::time(costs.sampled_cpu),
        style::time(costs.kernel_cpu),
    )
}

/// Inferno makes an error of a graph without a frame. It is none: a process
/// that does nothing is worth knowing of.
fn write_empty(recording: Named<'_>, options: &Options, into: &mut dyn Write) -> io::Result<()> {
    let mut lines = vec![nothing(options).to_owned()];
    let waits = waits(recording.profile);
    let all = waits.iter().map(|(_, micros)| micros).sum();
    for (state, micros) in waits.iter().take(3) {
        let wait = text::wait(*state).unwrap_or_default();
        lines.push(format!("{} of the time in {wait}", style::share(*micros, all)));
    }
    if options.mode == Mode::OnCpu && !waits.is_empty() {
        lines.push("spy record --wall shows where.".to_owned());
    }
    let height = 110 + 20 * lines.len();
    let middle = WIDTH / 2;
    let title = xml(&title(recording));
    let subtitle = xml(&subtitle(recording, options));
    write!(
        into,
        r##"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg">
<style type="text/css">text {{ font-family:monospace; font-size:12px; text-anchor:middle }}</style>
<rect width="100%" height="100%" fill="#fcfcfc"/>
<text x="{middle}" y="24" style="font-size:17px">{title}</text>
<text x="{middle}" y="48" fill="#606060">{subtitle}</text>
"##
    )?;
    for (at, line) in lines.iter().enumerate() {
        let y = 96 + 20 * at;
        writeln!(into, r#"<text x="{middle}" y="{y}">{}</text>"#, xml(line))?;
    }
    writeln!(into, "</svg>")
}

/// Why there is nothing to show.
fn nothing(options: &Options) -> &'static str {
    match (options.locks, options.view, options.mode) {
        (Locks::Held, ..) => "Nothing to show: no thread was seen to hold the interpreter lock.",
        (_, View::Managed, _) => "Nothing to show: no thread was seen to run a language runtime.",
        (_, _, Mode::OnCpu) => "Nothing ran: no thread used a CPU while it was watched.",
        (_, _, Mode::Wall) => "Nothing was seen: no thread was there while it was watched.",
    }
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_what_they_are_called() {
        assert_eq!(hsl(0, 100, 50), (255, 0, 0));
        assert_eq!(hsl(120, 100, 50), (0, 255, 0));
        assert_eq!(hsl(60, 100, 25), (128, 128, 0));
        assert_eq!(hsl(0, 0, 78), (199, 199, 199));
        let label = |kind| Label { text: "f".into(), kind };
        for home in ["", "libc.so.6", "python3", "node", "/a/b/c.py"] {
            let (r, _, b) = colour(&label(Kind::Function(home.into())), Part::Running);
            assert!(r > b, "{home}: a running frame is warm");
            let (r, _, b) = colour(&label(Kind::Function(home.into())), Part::Waiting);
            assert!(r < b, "{home}: a waiting frame is cool");
        }
    }
}
