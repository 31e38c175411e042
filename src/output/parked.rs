//! The stacks that no thread is on: for people in groups of equal ones, for
//! programs all.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use super::dump::{self, Look};
use crate::{
    memory::Address,
    stack::{ManagedFrame, Parked, ParkedKind, ParkedState, Symbol},
    style::{Role, escape},
};

/// The most groups that are written for people.
const GROUPS: usize = 50;

/// The most names of a group that are written.
const NAMES: usize = 3;

/// Those with the same stack.
type Group<'a> = Vec<&'a Parked>;

/// Write those that wait, and those that have not begun: the largest groups
/// first. One that runs is on the stack of its thread.
pub(super) fn write(parked: &[Parked], look: Look, into: &mut dyn Write) -> io::Result<()> {
    let groups = groups(parked);
    let by_address = parked.iter().map(|one| (one.at, one)).collect();
    for group in groups.iter().take(GROUPS) {
        writeln!(into)?;
        write_group(group, &by_address, look, into)?;
    }
    let left: usize = groups.iter().skip(GROUPS).map(Vec::len).sum();
    if left > 0 {
        let more = groups.len() - GROUPS;
        let stacks = if more == 1 { "stack" } else { "stacks" };
        let text = format_args!("and {left} more in {more} other {stacks}, which -j shows");
        writeln!(into, "\n{}", look.paint.text(Role::Faint, text))?;
    }
    Ok(())
}

fn groups(parked: &[Parked]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known = FxHashMap::default();
    for one in parked.iter().filter(|one| one.state != ParkedState::Running) {
        let key = (one.kind, one.state, &one.frames, one.is_cut);
        let group = *known.entry(key).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    // Those of one size stay in the order in which they were found.
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    groups
}

fn write_group(
    group: &Group<'_>,
    by_address: &FxHashMap<Address, &Parked>,
    look: Look,
    into: &mut dyn Write,
) -> io::Result<()> {
    let Some(first) = group.first() else { return Ok(()) };
    let head = head(group, first);
    let mut names = names(group);
    if !names.is_empty() {
        names.insert_str(0, ": ");
    }
    let names = dump::cut(&names, look.width, head.chars().count());
    writeln!(into, "{}{names}", look.paint.text(Role::Strong, head))?;
    let digits = dump::digits(first.frames.len());
    let awaited: BTreeSet<Address> = group.iter().flat_map(|one| &one.waits_for).copied().collect();
    let awaited: Group<'_> = awaited.iter().filter_map(|at| by_address.get(at).copied()).collect();
    let list = self::names(&awaited);
    if !list.is_empty() {
        let text = format!("waits for {list}");
        let text = dump::cut(&text, look.width, digits + 4);
        writeln!(into, "  {:>digits$}  {}", "", look.paint.text(Role::Faint, text))?;
    }
    for (at, frame) in first.frames.iter().enumerate() {
        dump::write_frame((at, digits), &symbol(frame), look, into)?;
    }
    if first.is_cut {
        let end = look.paint.text(Role::Warning, "[the rest cannot be read]");
        writeln!(into, "  {:>digits$}  {end}", "")?;
    }
    Ok(())
}

/// How many of what: `44 greenlets`.
fn head(group: &Group<'_>, first: &Parked) -> String {
    let count = group.len();
    let (one, many) = match first.kind {
        ParkedKind::Greenlet => ("greenlet", "greenlets"),
        ParkedKind::Main => ("main greenlet", "main greenlets"),
        ParkedKind::Hub => ("hub", "hubs"),
        ParkedKind::Task => ("task", "tasks"),
    };
    // A library's type has its module in its name; a type of the program's own
    // has not.
    let is_own = |one: &&Parked| one.class == first.class && !one.class.contains('.');
    let class = match first.kind {
        ParkedKind::Greenlet if group.iter().all(is_own) => {
            format!(" ({})", escape(&first.class))
        }
        _ => String::new(),
    };
    let state = match first.state {
        ParkedState::New => ", not begun",
        ParkedState::Running | ParkedState::Waiting => "",
    };
    format!("{count} {}{class}{state}", if count == 1 { one } else { many })
}

/// The first few names, as the end of a sentence; nothing if there are none.
fn names(group: &Group<'_>) -> String {
    let mut names = group.iter().filter_map(|one| one.name.as_deref());
    let shown: Vec<_> = names.by_ref().take(NAMES).map(escape).collect();
    match (shown.is_empty(), group.len() - shown.len()) {
        (true, _) => String::new(),
        (false, 0) => shown.join(", "),
        (false, left) => format!("{} and {left} more", shown.join(", ")),
    }
}

fn symbol(frame: &ManagedFrame) -> Symbol {
    let file = (!frame.file.is_empty()).then(|| frame.file.clone());
    Symbol { function: frame.function.clone(), file, line: frame.line, ..Symbol::default() }
}

/// The greenlets among `parked`, for programs.
pub(super) fn greenlets_json(parked: &[Parked]) -> Value {
    parked.iter().filter(|one| one.kind != ParkedKind::Task).map(greenlet_json).collect()
}

/// The tasks among `parked`, for programs.
pub(super) fn tasks_json(parked: &[Parked]) -> Value {
    parked.iter().filter(|one| one.kind == ParkedKind::Task).map(task_json).collect()
}

fn task_json(one: &Parked) -> Value {
    let waits_for: Vec<String> = one.waits_for.iter().map(ToString::to_string).collect();
    json!({
        "at": one.at.to_string(),
        "class": one.class,
        "name": one.name,
        "state": state(one.state),
        "waits_for": waits_for,
        "frames": frames(one),
        "complete": !one.is_cut,
    })
}

fn greenlet_json(one: &Parked) -> Value {
    let kind = match one.kind {
        ParkedKind::Main => "main",
        ParkedKind::Hub => "hub",
        ParkedKind::Greenlet | ParkedKind::Task => "greenlet",
    };
    json!({
        "at": one.at.to_string(),
        "kind": kind,
        "class": one.class,
        "name": one.name,
        "state": state(one.state),
        "frames": frames(one),
        "complete": !one.is_cut,
    })
}

const fn state(state: ParkedState) -> &'static str {
    match state {
        ParkedState::New => "new",
        ParkedState::Running => "running",
        ParkedState::Waiting => "waiting",
    }
}

fn frames(one: &Parked) -> Vec<Value> {
    let frame = |frame: &std::sync::Arc<ManagedFrame>| {
        json!({
            "function": frame.function,
            "file": frame.file,
            "line": frame.line,
            "columns": frame.columns.map(|(first, last)| [first, last]),
        })
    };
    one.frames.iter().map(frame).collect()
}
