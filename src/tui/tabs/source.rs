//! A source file, and where in it the time goes.

use std::{collections::BTreeMap, time::Duration};

use rustc_hash::FxHashSet;

use super::place;
use crate::{
    output::Paths,
    tui::{
        population::{Function, Population},
        screen::{Source, SourceLine},
    },
};

/// The most lines that are shown of a file.
const MOST_LINES: usize = 20_000;
/// The most bytes of it that are looked at.
const MOST_BYTES: usize = 2 << 20;
/// The most letters of a line: more than the widest terminals show.
const LONGEST_LINE: usize = 1_000;
/// The columns from one stop of the tabulator to the next, as in terminals.
const TAB: usize = 8;

/// What was seen on a line.
#[derive(Clone, Copy, Default)]
struct Seen {
    own: Duration,
    total: Duration,
    /// Of that, what was seen of the function that was asked for.
    chosen: Duration,
}

/// The file of `function`, which is an index into [`Population::functions`],
/// with the shares of all its lines, and the line chosen on which most of the
/// function's time is spent; without the file's `text` the lines alone on which
/// something was seen.
pub fn source(population: &Population, function: usize, text: Option<&str>) -> Source {
    let Some(known) = population.functions.get(function) else { return Source::default() };
    let Some(file) = &known.file else {
        return Source { title: title(known), ..Source::default() };
    };
    let seen = seen(population, function, file);
    let line = |number: u32, text: String| {
        let seen = seen.get(&number).copied().unwrap_or_default();
        let (own, total) = (population.share(seen.own), population.share(seen.total));
        SourceLine { number, own, total, text }
    };
    let mut lines = Vec::new();
    if let Some(text) = text {
        lines.extend(
            start(text)
                .lines()
                .take(MOST_LINES)
                .zip(1..)
                .map(|(text, number)| line(number, expand(text))),
        );
    }
    let told = lines.last().map_or(0, |it: &SourceLine| it.number);
    let beyond = seen.keys().filter(|&&number| number > told).take(MOST_LINES);
    lines.extend(beyond.map(|&number| line(number, String::new())));
    let hot = |it: &SourceLine| seen.get(&it.number).map_or(Duration::ZERO, |seen| seen.chosen);
    let most = lines.iter().map(hot).max().filter(|most| !most.is_zero());
    let begin = known.line.unwrap_or(0);
    let chosen = match most {
        Some(most) => lines.iter().position(|it| hot(it) == most),
        // It was not seen itself: where it begins.
        None => lines.iter().position(|it| it.number >= begin),
    };
    Source { title: title(known), lines, chosen: chosen.unwrap_or(0), top: 0 }
}

fn title(function: &Function) -> String {
    // Here the whole path is of use: it says which of several it is.
    let place = match &function.file {
        Some(file) => Paths::Full.of(file).to_owned(),
        None => place(function, None),
    };
    if place.is_empty() { function.name.clone() } else { format!("{} ({place})", function.name) }
}

/// What was seen on the lines of `file`; of a function that is several times on
/// a stack, once.
fn seen(population: &Population, function: usize, file: &str) -> BTreeMap<u32, Seen> {
    let inside: FxHashSet<usize> = (0..)
        .zip(&population.functions)
        .filter(|(_, it)| it.file.as_deref() == Some(file))
        .map(|(index, _)| index)
        .collect();
    let mut lines: BTreeMap<u32, Seen> = BTreeMap::new();
    let mut once = FxHashSet::default();
    for path in &population.stacks {
        once.clear();
        for (at, &(index, line)) in path.frames.iter().enumerate().rev() {
            let Some(line) = line.filter(|&line| line > 0 && inside.contains(&index)) else {
                continue;
            };
            let is_innermost = at + 1 == path.frames.len();
            if !once.insert((line, index == function)) {
                continue;
            }
            let is_counted = once.contains(&(line, index != function));
            let seen = lines.entry(line).or_default();
            let add = |to: &mut Duration, when| {
                if when {
                    *to = to.saturating_add(path.time);
                }
            };
            add(&mut seen.own, is_innermost);
            add(&mut seen.total, !is_counted);
            add(&mut seen.chosen, index == function);
        }
    }
    lines
}

/// As much of `text` as is looked at.
fn start(text: &str) -> &str {
    let mut end = MOST_BYTES.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// `line` with blanks in place of tabulators, and without what no terminal
/// shows.
fn expand(line: &str) -> String {
    let mut text = String::with_capacity(line.len().min(LONGEST_LINE) + TAB);
    let mut column = 0;
    for letter in line.chars() {
        if column >= LONGEST_LINE {
            break;
        }
        let blanks = if letter == '\t' { TAB - column % TAB } else { 0 };
        text.extend(std::iter::repeat_n(' ', blanks));
        text.extend((letter != '\t').then_some(letter));
        column += blanks.max(1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::tabs::made;

    /// Lines as `number own total text`, of those that were seen or have text.
    #[track_caller]
    fn check(source: &Source, expected: &[&str]) {
        let text = |it: &SourceLine| {
            format!("{} {:.0} {:.0} {}", it.number, it.own * 100.0, it.total * 100.0, it.text)
        };
        let lines: Vec<_> = source.lines.iter().map(text).collect();
        assert_eq!(lines.iter().map(|it| it.trim_end()).collect::<Vec<_>>(), expected);
    }

    fn example() -> Population {
        made::running(&[
            ("main@a.py:1 f@a.py:3 f@a.py:3 g@b.py:9", 20),
            ("main@a.py:1 f@a.py:3 f@a.py:4", 30),
            ("main@a.py:1 h@a.py:3", 10),
            ("main@a.py:7", 40),
        ])
    }

    #[test]
    fn lines_have_shares_and_recursion_counts_once() {
        let population = example();
        let text = "main()\n\tx\n a\tb\r\nreturn\n";
        let source = source(&population, 1, Some(text));
        let expected =
            ["1 0 60 main()", "2 0 0         x", "3 10 60  a      b", "4 30 30 return", "7 40 40"];
        check(&source, &expected);
        assert_eq!((source.title.as_str(), source.lines[source.chosen].number), ("f (a.py)", 3));
        check(&super::source(&population, 1, None), &["1 0 60", "3 10 60", "4 30 30", "7 40 40"]);
        assert_eq!(super::source(&population, 0, None).chosen, 0);
    }

    #[test]
    fn a_function_that_was_not_seen_is_shown_where_it_begins() {
        let mut population = example();
        let file = Some("a.py".to_owned());
        let name = "new".to_owned();
        population.functions.push(Function { name, file, line: Some(2), ..Function::default() });
        let last = population.functions.len() - 1;
        assert_eq!(source(&population, last, Some("1\n2\n3\n")).chosen, 1);
    }

    #[test]
    fn without_a_file_or_a_function_there_are_no_lines() {
        let mut population = made::running(&[("!deflate", 3)]);
        population.functions[0].module = Some("libz.so.1".to_owned());
        let source = source(&population, 0, Some("text"));
        assert_eq!((source.title.as_str(), source.lines.len()), ("deflate (libz.so.1)", 0));
        assert_eq!(super::source(&Population::default(), 3, None), Source::default());
    }

    #[test]
    fn hostile_files_are_bounded() {
        let mut population = made::running(&[("f@a.py:4294967295", 1), ("f@a.py:0", 1)]);
        let long = source(&population, 0, Some(&"é".repeat(MOST_BYTES)));
        assert_eq!((long.lines.len(), long.lines[0].text.chars().count()), (2, LONGEST_LINE));
        assert_eq!(long.lines[1].number, u32::MAX);
        let many = source(&population, 0, Some(&"\n".repeat(MOST_BYTES * 2)));
        assert_eq!(many.lines.len(), MOST_LINES + 1);
        assert!(expand(&"\t".repeat(9_000)).len() < LONGEST_LINE + TAB);
        for line in 1..40_000 {
            made::add(&mut population, 0, crate::task::State::Running, "", 1);
            population.stacks.last_mut().unwrap().frames = vec![(0, Some(line))];
        }
        assert_eq!(source(&population, 0, None).lines.len(), MOST_LINES);
    }
}
