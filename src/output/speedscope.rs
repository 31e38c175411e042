//! The format of speedscope, a viewer in a browser: each thread's stacks in
//! the order of time. The format is that of the JSON schema which the npm
//! package `speedscope` brings with it (`file-format-schema.json`, 1.25.0).
//!
//! The viewer puts samples one after the other, each as long as its weight. So
//! a thread's line is its CPU time, without what lies between; or its wall
//! time, in which a sample without a frame is a time that is not shown.

use std::io::{self, Write};

use super::{Mode, Named, Options, order::Order, title};
use crate::{profile::ThreadId, style};

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

const EXPORTER: &str = concat!("spy@", env!("CARGO_PKG_VERSION"));

/// Write `recording` for speedscope.
pub(super) fn write(
    recording: Named<'_>,
    options: &Options,
    into: &mut dyn Write,
) -> io::Result<()> {
    let order = Order::new(recording, options);
    write!(into, "{{\"$schema\":\"{SCHEMA}\",\"exporter\":\"{EXPORTER}\",\"name\":")?;
    json(into, &title(recording))?;
    into.write_all(b",\"activeProfileIndex\":0,\"shared\":{\"frames\":[")?;
    for (at, place) in order.places().iter().enumerate() {
        into.write_all(between(at == 0, b"\n"))?;
        write!(into, "{{\"name\":")?;
        json(into, &place.name)?;
        // The schema has no null.
        if let Some(file) = &place.file {
            into.write_all(b",\"file\":")?;
            json(into, file)?;
        }
        if let Some(line) = place.line {
            write!(into, ",\"line\":{line}")?;
        }
        into.write_all(b"}")?;
    }
    into.write_all(b"]},\"profiles\":[")?;
    let threads = order.threads();
    for (at, (id, thread, process)) in threads.iter().enumerate() {
        into.write_all(between(at == 0, b"\n"))?;
        let name = style::escape(&thread.name);
        let name = format!("process {} thread {name} ({})", process.pid, thread.tid);
        write_thread(&order, *id, &name, into)?;
    }
    if threads.is_empty() {
        // The viewer takes a file without a profile for a damaged one.
        write_thread(&order, ThreadId(u32::MAX), "nothing to be shown", into)?;
    }
    into.write_all(b"]}\n")
}

/// One thread, as a profile of its own.
fn write_thread(
    order: &Order<'_>,
    id: ThreadId,
    name: &str,
    into: &mut dyn Write,
) -> io::Result<()> {
    let start = match order.mode() {
        Mode::OnCpu => 0,
        Mode::Wall => order.records(id).next().map_or(0, |(record, _)| record.since),
    };
    write!(into, "{{\"type\":\"sampled\",\"name\":")?;
    json(into, name)?;
    write!(into, ",\"unit\":\"microseconds\",\"startValue\":{start},\"samples\":[")?;
    let mut first = true;
    each(order, id, |stack, _| {
        into.write_all(between(first, b""))?;
        first = false;
        serde_json::to_writer(&mut *into, stack).map_err(io::Error::from)
    })?;
    into.write_all(b"],\"weights\":[")?;
    let (mut first, mut end) = (true, start);
    each(order, id, |_, weight| {
        into.write_all(between(first, b""))?;
        first = false;
        end += weight;
        write!(into, "{weight}")
    })?;
    write!(into, "],\"endValue\":{end}}}")
}

/// The samples of a thread: the stack, outermost place first, and its weight.
fn each(
    order: &Order<'_>,
    id: ThreadId,
    mut then: impl FnMut(&[u32], u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut until = None;
    for (record, stack) in order.records(id) {
        match (order.mode(), stack) {
            (Mode::OnCpu, Some(stack)) if record.cpu > 0 => then(stack, record.cpu)?,
            (Mode::OnCpu, _) => {}
            (Mode::Wall, stack) => {
                let unseen = until.map_or(0, |until| record.since - until);
                if unseen > 0 {
                    then(&[], unseen)?;
                }
                if record.wall > 0 {
                    then(stack.unwrap_or_default(), record.wall)?;
                }
                until = Some(record.since + record.wall);
            }
        }
    }
    Ok(())
}

/// What stands before an element of an array.
fn between(first: bool, line: &[u8]) -> &[u8] {
    match (first, line) {
        (true, line) => line,
        (false, b"\n") => b",\n",
        (false, _) => b",",
    }
}

fn json(into: &mut dyn Write, text: &str) -> io::Result<()> {
    serde_json::to_writer(into, text).map_err(io::Error::from)
}
