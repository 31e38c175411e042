//! Collapsed stacks: one line a stack, `outermost;…;innermost microseconds`, in the
//! order of their bytes. Other tools read it (`inferno-flamegraph`,
//! speedscope, the Firefox profiler, grep).

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{Named, Options, stacks::stacks};

/// Write `recording` as collapsed stacks.
pub(super) fn write(
    recording: Named<'_>,
    options: &Options,
    into: &mut dyn Write,
) -> io::Result<()> {
    // Stacks that differ only in what is not written are one line.
    let mut lines = BTreeMap::<String, u64>::new();
    for (shown, micros) in stacks(recording, options) {
        let frames = shown.roots.iter().chain(&shown.frames);
        let texts: Vec<&str> = frames.map(|label| &*label.text).collect();
        *lines.entry(texts.join(";")).or_default() += micros;
    }
    // The count is part of what other tools sort by.
    let mut lines: Vec<String> =
        lines.into_iter().map(|(stack, micros)| format!("{stack} {micros}")).collect();
    lines.sort_unstable();
    for line in lines {
        writeln!(into, "{line}")?;
    }
    Ok(())
}
