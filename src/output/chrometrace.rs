//! The trace event format of Chrome, which Perfetto, `chrome://tracing` and
//! others read: an array of events, in which each function of a thread begins
//! (`B`) and ends (`E`) at a time. Functions that successive samples have in
//! common are one event.
//!
//! The format is described in the document "Trace Event Format", which Perfetto's
//! documentation links. Times are microseconds since the recording began, and
//! are wall time in every mode: between two events of a thread is what is not
//! shown of it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{
    Named, Options,
    order::{Order, Place},
    text,
};
use crate::{
    profile::{Process, Thread, ThreadId},
    style,
};

/// Write `recording` as a trace.
pub(super) fn write(
    recording: Named<'_>,
    options: &Options,
    into: &mut dyn Write,
) -> io::Result<()> {
    let order = Order::new(recording, options);
    let mut events = Events { into, first: true };
    let mut threads = order.threads();
    // One that executes another program is another thread from then on, with
    // the number that it had: each number's events are to be in order.
    threads.sort_by_cached_key(|&(id, thread, process)| {
        let began = order.records(id).next().map(|(record, _)| record.since);
        (process.pid, thread.tid, began)
    });
    let mut processes: Vec<&Process> = threads.iter().map(|&(_, _, process)| process).collect();
    processes.dedup_by_key(|process| process.pid);
    for process in processes {
        events.metadata("process_name", process, process.pid.0, &text::process(process))?;
    }
    for (_, thread, process) in &threads {
        events.metadata("thread_name", process, thread.tid.0, &style::escape(&thread.name))?;
    }
    // An event's name and arguments are written often, and made once.
    let told: Vec<String> = order.places().iter().map(told).collect();
    for (id, thread, process) in threads {
        Line { told: &told, thread, process, open: Vec::new() }.write(&order, id, &mut events)?;
    }
    events.into.write_all(if events.first { b"[]\n" } else { b"\n]\n" })
}

/// What an event says of its place, as it stands in the file.
fn told(place: &Place) -> String {
    let name = Value::from(place.name.as_str());
    let mut arguments = serde_json::Map::new();
    if let Some(file) = &place.file {
        arguments.insert("filename".to_owned(), file.as_str().into());
    }
    if let Some(line) = place.line {
        arguments.insert("line".to_owned(), line.into());
    }
    format!("\"name\":{name},\"args\":{}", Value::Object(arguments))
}

struct Events<'a> {
    into: &'a mut dyn Write,
    first: bool,
}

impl Events<'_> {
    fn separate(&mut self) -> io::Result<()> {
        self.into.write_all(if self.first { b"[\n" } else { b",\n" })?;
        self.first = false;
        Ok(())
    }

    fn metadata(&mut self, what: &str, process: &Process, tid: i32, name: &str) -> io::Result<()> {
        self.separate()?;
        let event = json!({
            "ph": "M", "name": what, "pid": process.pid.0, "tid": tid, "args": { "name": name },
        });
        write!(self.into, "{event}")
    }
}

/// The events of one thread.
struct Line<'a> {
    told: &'a [String],
    thread: &'a Thread,
    process: &'a Process,
    /// What has begun and has not ended, outermost first.
    open: Vec<u32>,
}

impl Line<'_> {
    fn write(mut self, order: &Order<'_>, id: ThreadId, events: &mut Events<'_>) -> io::Result<()> {
        let mut until = 0;
        for (record, stack) in order.records(id).filter(|(record, _)| record.wall > 0) {
            if record.since > until {
                self.change(&[], until, events)?;
            }
            self.change(stack.unwrap_or_default(), record.since, events)?;
            until = record.since + record.wall;
        }
        self.change(&[], until, events)
    }

    /// At `at` the thread goes from what is open to `stack`.
    fn change(&mut self, stack: &[u32], at: u64, events: &mut Events<'_>) -> io::Result<()> {
        let common = self.open.iter().zip(stack).take_while(|(open, next)| open == next).count();
        while self.open.len() > common
            && let Some(place) = self.open.pop()
        {
            self.event('E', place, at, events)?;
        }
        for &place in stack.iter().skip(common) {
            self.event('B', place, at, events)?;
            self.open.push(place);
        }
        Ok(())
    }

    fn event(&self, phase: char, place: u32, at: u64, events: &mut Events<'_>) -> io::Result<()> {
        events.separate()?;
        let told = self.told.get(place as usize).map_or("\"name\":\"?\"", String::as_str);
        let (pid, tid) = (self.process.pid, self.thread.tid);
        write!(
            events.into,
            "{{\"ph\":\"{phase}\",\"cat\":\"spy\",\"pid\":{pid},\"tid\":{tid},\"ts\":{at},{told}}}"
        )
    }
}
