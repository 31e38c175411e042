//! One look at a process: text for people, JSON for programs
//! (`docs/json.md` says what its keys mean).

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Paths, parked};
use crate::{
    stack::{End, Parked, Symbol, Variable},
    style::{Paint, Role, clip_middle, escape},
    task::{Lock, Pid, State, Tid},
    wait::{Futex, Subject, Wait},
};

/// A process, looked at once, with names.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// Its command line, as the target wrote it.
    pub command: String,
    /// The name and version of its language runtime, such as `CPython 3.12.1`.
    pub runtime: Option<String>,
    /// Its threads, by number.
    pub threads: Vec<Thread>,
    /// The stacks that no thread is on.
    pub parked: Vec<Parked>,
    /// What had to be done another way than wanted, a sentence each.
    pub notes: Vec<String>,
}

/// One of its threads.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its number.
    pub tid: Tid,
    /// Its name, as the kernel has it.
    pub name: String,
    /// The name that its language runtime has for it.
    pub given_name: Option<String>,
    /// What it was doing.
    pub state: State,
    /// What it waits for, where that is known.
    pub wait: Option<Wait>,
    /// What it has to do with the lock of its language runtime.
    pub lock: Lock,
    /// Whether it collects the garbage of its language runtime.
    pub collecting: bool,
    /// The function that the greenlet began with that it runs, if any.
    pub greenlet: Option<String>,
    /// Its frames, innermost first, inlined ones among them.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    pub end: End,
}

/// One of its frames.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its names.
    pub symbol: Symbol,
    /// The first and the last column of what it runs on its line, in bytes
    /// from 1, where known.
    pub columns: Option<(u32, u32)>,
    /// Its variables, arguments first; `None` where nobody asked for them, or
    /// it has none that can be told (machine code).
    pub locals: Option<Vec<Variable>>,
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
    let runtime = process.runtime.iter().map(|name| format!(" ({})", escape(name)));
    let head = format!("Process {}{}: ", process.pid, runtime.collect::<String>());
    let command = cut(&command, look.width, head.chars().count());
    writeln!(into, "{head}{}", look.paint.text(Role::Strong, command))?;
    for thread in &process.threads {
        writeln!(into)?;
        write_thread(thread, look, into)?;
    }
    parked::write(&process.parked, look, into)?;
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
        "Thread {} {}: {}{}",
        thread.tid,
        called(thread, look.paint),
        look.paint.text(role, state(thread)),
        busy_with(thread),
    )?;
    let digits = digits(thread.frames.len());
    for (at, Frame { symbol, locals, .. }) in thread.frames.iter().enumerate() {
        write_frame((at, digits), symbol, look, into)?;
        write_locals(locals.as_deref().unwrap_or_default(), digits + 6, look, into)?;
    }
    if thread.end != End::Root {
        let end = format_args!("[{}]", thread.end);
        writeln!(into, "  {:>digits$}  {}", "", look.paint.text(Role::Warning, end))?;
    }
    Ok(())
}

/// The digits of the numbers of `count` frames.
pub(super) fn digits(count: usize) -> usize {
    count.saturating_sub(1).to_string().len()
}

/// Write the frame with the number `at`, in so many digits.
pub(super) fn write_frame(
    (at, digits): (usize, usize),
    symbol: &Symbol,
    look: Look,
    into: &mut dyn Write,
) -> io::Result<()> {
    let function = escape(&symbol.function);
    let place = place(symbol, look.paths);
    // The place is what an editor is told, so it is never cut; a function
    // (C++ has long ones) gives way to it.
    let taken = 4 + digits + place.chars().count();
    let function = cut(&function, look.width.map(|width| width.max(taken + 24)), taken);
    let place = look.paint.text(Role::Faint, place);
    writeln!(into, "  {at:>digits$}  {function}{place}")
}

/// The name that its program knows it by, and the kernel's where that is
/// another one.
fn called(thread: &Thread, paint: Paint) -> String {
    let kernel = escape(&thread.name);
    match thread.given_name.as_deref().map(escape) {
        Some(given) if given != kernel => {
            format!("{} ({kernel})", paint.text(Role::Strong, given))
        }
        _ => paint.text(Role::Strong, kernel).to_string(),
    }
}

/// What is known of a thread besides its state, as the end of a sentence: after
/// a semicolon where a comma would make it a part of what the thread waits for.
fn busy_with(thread: &Thread) -> String {
    let waits_for = thread.wait.as_ref().map(|wait| &wait.subject);
    let is_said = matches!(waits_for, Some(Subject::Futex(Futex::Runtime(_))));
    let lock = match thread.lock {
        Lock::Held => Some("holds the GIL".to_owned()),
        Lock::Wanted if !is_said => Some("waits for the GIL".to_owned()),
        Lock::Without | Lock::Wanted => None,
    };
    let greenlet = thread.greenlet.as_deref().map(|name| format!("in greenlet {}", escape(name)));
    let collecting = thread.collecting.then(|| "collecting garbage".to_owned());
    let mark = if thread.wait.is_some() { ';' } else { ',' };
    let all = [greenlet, lock, collecting].into_iter().flatten();
    all.map(|what| format!("{mark} {what}")).collect()
}

/// What the variables of a frame are called.
const KINDS: [(bool, &str); 2] = [(true, "arguments"), (false, "locals")];

/// The room that a variable is given at least, in letters, however narrow the
/// terminal is.
const NARROWEST: usize = 24;

/// Write variables, `indent` letters in. Values are what was asked for, so they
/// are never cut: one that is longer than a line goes on in the next.
fn write_locals(
    variables: &[Variable],
    indent: usize,
    look: Look,
    into: &mut dyn Write,
) -> io::Result<()> {
    for (is_argument, kind) in KINDS {
        let mut heading = kind;
        for variable in variables.iter().filter(|it| it.is_argument == is_argument) {
            let text = format!("{} = {}", escape(&variable.name), escape(&variable.value));
            // `arguments` is the longer of the two.
            let taken = indent + 11;
            let room = look.width.map(|width| width.saturating_sub(taken).max(NARROWEST));
            for (at, line) in wrapped(&text, room).into_iter().enumerate() {
                let deeper = if at == 0 { "" } else { CONTINUED };
                let shown = look.paint.text(Role::Faint, format!("{heading:9}"));
                writeln!(into, "{:indent$}{shown}  {deeper}{line}", "")?;
                // Said once: what follows stands below it.
                heading = "";
            }
        }
    }
    Ok(())
}

/// What a line begins with that goes on with the one before it.
const CONTINUED: &str = "  ";

/// `text` in lines of at most `room` letters, all but the first of them with
/// room for [`CONTINUED`].
fn wrapped(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room else { return vec![text.to_owned()] };
    let letters: Vec<char> = text.chars().collect();
    let (first, rest) = letters.split_at(room.min(letters.len()));
    let rest = rest.chunks(room.saturating_sub(CONTINUED.len()).max(1));
    std::iter::once(first).chain(rest).map(|line| line.iter().collect()).collect()
}

/// `text` cut to what a line has left after `taken` letters.
pub(super) fn cut(text: &str, width: Option<usize>, taken: usize) -> String {
    match width {
        Some(width) => clip_middle(text, width.saturating_sub(taken)).into_owned(),
        None => text.to_owned(),
    }
}

fn state(thread: &Thread) -> String {
    match thread.state {
        State::Running => "running".to_owned(),
        State::Queued => "waiting for a CPU".to_owned(),
        State::Blocked(call) => match &thread.wait {
            Some(wait) => format!("blocked in {wait}"),
            None => format!("blocked in {call}"),
        },
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
        "runtime": process.runtime,
        "threads": threads,
        "greenlets": parked::greenlets_json(&process.parked),
        "tasks": parked::tasks_json(&process.parked),
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
    let lock = match thread.lock {
        Lock::Without => None,
        Lock::Held => Some("held"),
        Lock::Wanted => Some("wanted"),
    };
    let frames: Vec<Value> = thread.frames.iter().map(frame_json).collect();
    json!({
        "tid": thread.tid.0,
        "name": thread.name,
        "given_name": thread.given_name,
        "state": state,
        "syscall": call,
        "wait": thread.wait.as_ref().map(Wait::json),
        "gil": lock,
        "collecting": thread.collecting,
        "greenlet": thread.greenlet,
        "frames": frames,
        "end": thread.end.key(),
    })
}

fn frame_json(frame: &Frame) -> Value {
    let Frame { symbol, columns, locals } = frame;
    let locals = locals.as_ref().map(|locals| -> Vec<Value> {
        let each = locals.iter().map(|variable| {
            json!({
                "name": variable.name,
                "value": variable.value,
                "argument": variable.is_argument,
            })
        });
        each.collect()
    });
    json!({
        "function": symbol.function,
        "file": symbol.file,
        "line": symbol.line,
        "columns": columns.map(|(first, last)| [first, last]),
        "module": symbol.module,
        "inlined": symbol.inlined,
        "locals": locals,
    })
}
