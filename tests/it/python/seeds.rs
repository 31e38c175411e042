//! Seeds of the fuzz target `python`: what is read of a live interpreter's
//! memory, piece by piece. `SPY_RECORD_SEEDS=1` records them anew.

use std::{cell::RefCell, collections::BTreeMap, fs, process::Command};

use spy::{
    memory::{Address, Fault, Memory},
    process::LiveMemory,
    runtime::{
        Detail, Places, Runtime, Trace,
        python::{Python, detect, tables},
    },
    task::{Pid, Tid},
};

use super::stacks::find;
use crate::{
    interpreters::{interpreters, project},
    target::{Target, together},
};

/// Live memory that remembers what was read of it.
struct Recording<'a> {
    live: &'a LiveMemory,
    bytes: RefCell<BTreeMap<u64, u8>>,
}

impl Memory for Recording<'_> {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.live.read(at, into)?;
        self.bytes.borrow_mut().extend((at.0..).zip(into.iter().copied()));
        Ok(())
    }
}

impl Recording<'_> {
    /// In the form that the target reads, behind `head`.
    fn seed(self, mut head: Vec<u8>) -> Vec<u8> {
        let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
        for (at, byte) in self.bytes.into_inner() {
            match pieces.last_mut() {
                Some((start, bytes)) if *start + bytes.len() as u64 == at => bytes.push(byte),
                _ => pieces.push((at, vec![byte])),
            }
        }
        for (start, bytes) in pieces {
            let len = u16::try_from(bytes.len()).unwrap();
            head.extend(start.to_le_bytes().into_iter().chain(len.to_le_bytes()).chain(bytes));
        }
        head
    }
}

#[test]
fn seeds_are_recorded() {
    if std::env::var_os("SPY_RECORD_SEEDS").is_none() {
        return;
    }
    let _together = together();
    for interpreter in interpreters() {
        let text = fs::read_to_string(project("fixtures/python/kinds.py")).unwrap();
        let run = "import sys; exec(compile(sys.argv[1], 'kinds.py', 'exec'))";
        let mut command = Command::new(&interpreter.program);
        let target = Target::run({
            command.args(["-B", "-c", run, &text]);
            command
        });
        let live = LiveMemory::new(Pid(target.pid()));
        let found = find(target.pid(), &live);
        let memory = Recording { live: &live, bytes: RefCell::default() };
        // A number that no table has stands for a layout that is published.
        let version = (found.version.major, found.version.minor);
        let table = tables::VERSIONS.iter().position(|known| *known == version);
        let table = u8::try_from(table.unwrap_or(99)).unwrap();
        let head = [table, 6].into_iter().chain(found.runtime.0.to_le_bytes()).collect();
        let _ = spy::runtime::python::offsets::Offsets::read(found.runtime, &memory);
        assert!(detect::trial(&found.layout, found.runtime, &memory));
        let mut python = Python::new(found);
        let (thread, mut trace) = (Tid(target.pid()), Trace::default());
        python.expect(thread, &memory);
        assert!(python.trace(thread, &memory, &mut trace));
        python.resolve(&trace, Places::Columns, &memory);
        python.locals(&trace, Detail { characters: 128, fields: true }, &memory);
        let seeds = project("fuzz/seeds/python");
        fs::create_dir_all(&seeds).unwrap();
        let debug = if interpreter.debug { "d" } else { "" };
        let name = format!("{}{debug}", interpreter.full_version.replace('.', "-"));
        fs::write(seeds.join(name), memory.seed(head)).unwrap();
    }
}
