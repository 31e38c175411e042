//! One look at a process: text for people, JSON for programs
//! (`docs/json.md` says what its keys mean).

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Paths;
use crate::{
    stack::{End, Symbol},
    style::{Paint, Role, clip_middle, escape},
    task::{Pid, State, Tid},
};

/// A process, looked at once, with names.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// Its command line, as the target wrote it.
    pub command: String,
    /// Its threads, by number.
    pub threads: Vec<Thread>,
    /// What had to be done another way than wanted, a sentence each.
    pub notes: Vec<String>,
}

/// One of its threads.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its number.
    pub tid: Tid,
    /// Its name, as the target wrote it.
    pub name: String,
    /// What it was doing.
    pub state: State,
    /// Its frames, innermost first, inlined ones among them.
    pub frames: Vec<Symbol>,
    /// Why there are no more.
    pub end: End,
}

/// How a process is shown to people.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Colours.
    pub paint: Paint,
    /// Source files.
    pub paths: Paths,
    /// The letters of a line of the terminal; longer lines are cut. `None`
    /// cuts nothing.
    pub width: Option<usize>,
}

/// Write `process` for people.
///
/// # Errors
/// Those of writing to `into`.
pub fn write(process: &Process, look: Look, into: &mut dyn Write) -> io::Result<()> {
    let command = escape(process.command.trim());
    let head = format!("Process {}: ", process.pid);
    let command = cut(&command, look.width, head.len());
    writeln!(into, "{head}{}", look.paint.text(Role::Strong, command))?;
    for thread in &process.threads {
        writeln!(into)?;
        write_thread(thread, look, into)?;
    }
    for note in &process.notes {
        writeln!(
            into,
            "\n{}",
            look.paint.text(Role::Faint, format_args!("note: {}", escape(note)))
        )?;
    }
    Ok(())
}

fn write_thread(thread: &Thread, look: Look, into: &mut dyn Write) -> io::Result<()> {
    let role = if thread.state.is_runnable() { Role::Running } else { Role::Waiting };
    writeln!(
        into,
        "Thread {} {}: {}",
        thread.tid,
        look.paint.text(Role::Strong, escape(&thread.name)),
        look.paint.text(role, state(thread.state)),
    )?;
    let digits = thread.frames.len().saturating_sub(1).to_string().len();
    for (at, symbol) in thread.frames.iter().enumerate() {
        let function = escape(&symbol.function);
        let place = place(symbol, look.paths);
        // The place is what an editor is told, so it is never cut; a function
        // (C++ has long ones) gives way to it.
        let taken = 4 + digits + place.chars().count();
        let function = cut(&function, look.width.map(|width| width.max(taken + 24)), taken);
        let place = look.paint.text(Role::Faint, place);
        writeln!(into, "  {at:>digits$}  {function}{place}")?;
    }
    if thread.end != End::Root {
        let end = format_args!("[{}]", thread.end);
        writeln!(into, "  {:>digits$}  {}", "", look.paint.text(Role::Warning, end))?;
    }
    Ok(())
}

/// `text` cut to what a line has left after `taken` letters.
fn cut(text: &str, width: Option<usize>, taken: usize) -> String {
    match width {
        Some(width) => clip_middle(text, width.saturating_sub(taken)).into_owned(),
        None => text.to_owned(),
    }
}

fn state(state: State) -> String {
    match state {
        State::Running => "running".to_owned(),
        State::Queued => "waiting for a CPU".to_owned(),
        State::Blocked(call) => format!("blocked in {call}"),
        State::Faulting => "blocked in a page fault".to_owned(),
        State::Halted => "stopped".to_owned(),
    }
}

/// Where a function is: ` (app.py:12)`, or the image that holds it; and
/// whether it was inlined.
fn place(symbol: &Symbol, paths: Paths) -> String {
    let inlined = if symbol.inlined { ", inlined" } else { "" };
    let home = match (&symbol.file, symbol.line, &symbol.module) {
        (Some(file), Some(line), _) => format!("{}:{line}", escape(paths.of(file))),
        (Some(file), None, _) => escape(paths.of(file)).into_owned(),
        (None, _, Some(module)) if !symbol.function.starts_with(module.as_str()) => {
            escape(module).into_owned()
        }
        (None, ..) => return if symbol.inlined { " (inlined)".to_owned() } else { String::new() },
    };
    format!(" ({home}{inlined})")
}

/// `processes` for programs.
pub fn json(processes: &[Process]) -> Value {
    processes.iter().map(process_json).collect()
}

fn process_json(process: &Process) -> Value {
    let threads: Vec<Value> = process.threads.iter().map(thread_json).collect();
    json!({
        "pid": process.pid.0,
        "command": process.command,
        "threads": threads,
        "notes": process.notes,
    })
}

fn thread_json(thread: &Thread) -> Value {
    let (state, call) = match thread.state {
        State::Running => ("running", None),
        State::Queued => ("queued", None),
        State::Blocked(call) => ("blocked", Some(call.to_string())),
        State::Faulting => ("faulting", None),
        State::Halted => ("stopped", None),
    };
    let frames: Vec<Value> = thread
        .frames
        .iter()
        .map(|symbol| {
            json!({
                "function": symbol.function,
                "file": symbol.file,
                "line": symbol.line,
                "module": symbol.module,
                "inlined": symbol.inlined,
            })
        })
        .collect();
    json!({
        "tid": thread.tid.0,
        "name": thread.name,
        "state": state,
        "syscall": call,
        "frames": frames,
        "end": thread.end.key(),
    })
}
