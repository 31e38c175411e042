//! The layouts, derived again from the headers of every version.

use std::{collections::BTreeMap, fs, process::Command};

use spy::runtime::python::{
    layout::{Chain, Collecting, Dict, Gil, Instruction, Integer, Layout, Text},
    tables,
    threads::LOCK_SIZE,
};

use super::threads::Live;
use crate::{
    interpreters::{Interpreter, fixture, interpreters},
    target::together,
};

/// What the headers of an interpreter say; `None` if there are none.
fn by_headers(interpreter: &Interpreter) -> Option<BTreeMap<String, u64>> {
    let headers = interpreter.headers.as_ref()?;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("layout");
    let mut compiler = Command::new("cc");
    // Headers of several distributions keep one for each machine beside them.
    let folders = [headers.clone(), headers.join("internal"), headers.parent()?.to_owned()];
    compiler.args(folders.iter().map(|folder| format!("-I{}", folder.display())));
    let made =
        compiler.arg("-w").arg("-o").arg(&program).arg(fixture("layout.c")).output().unwrap();
    assert!(
        made.status.success(),
        "{}: {}",
        interpreter.name,
        String::from_utf8_lossy(&made.stderr)
    );
    let said = Command::new(&program).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let pair = |line: &str| {
        let (name, number) = line.split_once(' ').unwrap();
        (name.to_owned(), number.parse().unwrap())
    };
    Some(said.lines().map(pair).collect())
}

/// The numbers of a layout, by the names that `layout.c` has for them.
#[derive(Default)]
struct Numbers(BTreeMap<String, u64>);

impl Numbers {
    fn of(layout: &Layout) -> BTreeMap<String, u64> {
        let mut numbers = Self::default();
        numbers.process(layout);
        numbers.thread(layout);
        numbers.frame(layout);
        numbers.code(layout);
        numbers.objects(layout);
        numbers.values(layout);
        numbers.0
    }

    fn add(&mut self, name: &str, number: u32) {
        self.0.insert(name.to_owned(), number.into());
    }

    fn maybe(&mut self, name: &str, number: Option<u32>) {
        if let Some(number) = number {
            self.add(name, number);
        }
    }

    fn process(&mut self, layout: &Layout) {
        let interpreter = &layout.interpreter;
        self.add("interpreter.next", interpreter.next.offset);
        self.add("interpreter.threads_head", interpreter.threads_head.offset);
        self.add("interpreter.modules", interpreter.modules.offset);
        let size = u32::try_from(LOCK_SIZE).unwrap();
        let head = layout.runtime.interpreters_head.offset;
        match interpreter.gil {
            Gil::Global { holder, absolute: false, lock } => {
                self.add("runtime.interpreters_head", head);
                self.add("gil.holder", holder.offset);
                self.add("gil.lock", lock.unwrap().offset);
                self.add("gil.size", size);
            }
            // Nothing of these is in any header.
            Gil::Global { absolute: true, .. } => assert_eq!(head, 0),
            Gil::Each { pointer, last_holder, locked, enabled } => {
                assert!(enabled.is_none(), "no interpreter of these is free-threaded");
                self.add("runtime.interpreters_head", head);
                self.add("gil.pointer", pointer.offset);
                self.add("gil.last_holder", last_holder.offset);
                self.add("gil.locked", locked.offset);
                self.add("gil.size", size);
            }
            Gil::None => panic!("an interpreter has no lock"),
        }
        match interpreter.collecting {
            Collecting::Interpreter(flag) | Collecting::Runtime(flag) => {
                self.add("collecting", flag.offset);
            }
            Collecting::Unknown => {}
        }
        self.maybe("collects_for", interpreter.collects_for.map(|field| field.offset));
    }

    fn thread(&mut self, layout: &Layout) {
        let thread = &layout.thread;
        self.add("thread.next", thread.next.offset);
        self.add("thread.interpreter", thread.interpreter.offset);
        self.add("thread.thread_id", thread.thread_id.offset);
        self.add("thread.frame", thread.frame.offset);
        for (name, field) in [
            ("thread.native_thread_id", thread.native_thread_id.map(|field| field.offset)),
            ("thread.holds_gil", thread.holds_gil.map(|field| field.offset)),
            ("thread.gil_requested", thread.gil_requested.map(|field| field.offset)),
        ] {
            self.maybe(name, field);
        }
    }

    fn frame(&mut self, layout: &Layout) {
        let frame = &layout.frame;
        if let Some(cframe) = frame.chain.cframe() {
            self.add("cframe.current_frame", cframe.current_frame.offset);
            self.add("cframe.previous", cframe.previous.offset);
        }
        if let Chain::CFrames { is_entry, .. } = frame.chain {
            self.add("frame.is_entry", is_entry.offset);
        }
        self.add("frame.previous", frame.previous.offset);
        self.add("frame.code", frame.code.offset);
        self.add("frame.locals", frame.locals.offset);
        let instruction = match frame.instruction {
            Instruction::Bytes(field) | Instruction::Units(field) => field.offset,
            Instruction::Pointer(field) => field.offset,
        };
        self.add("frame.instruction", instruction);
        self.maybe("frame.owner", frame.owner.map(|owner| owner.offset));
    }

    fn code(&mut self, layout: &Layout) {
        let code = &layout.code;
        self.add("code.filename", code.filename.offset);
        self.add("code.name", code.name.offset);
        self.add("code.lines", code.lines.offset);
        self.add("code.first_line", code.first_line.offset);
        self.add("code.arguments", code.arguments.offset);
        self.add("code.flags", code.flags.offset);
        self.add("code.local_names", code.local_names.offset);
        let cells = code.cell_names.map(|names| names.map(|field| field.offset));
        for (name, field) in [
            ("code.qualname", code.qualname.map(|field| field.offset)),
            ("code.keyword_only", code.keyword_only.map(|field| field.offset)),
            ("code.version", code.version.map(|field| field.offset)),
            ("code.local_kinds", code.local_kinds.map(|field| field.offset)),
            ("code.cell_names", cells.map(|[cells, _]| cells)),
            ("code.free_names", cells.map(|[_, free]| free)),
            ("code.instructions", code.instructions.map(|field| field.offset)),
            ("code.first_traceable", code.first_traceable.map(|field| field.offset)),
            ("code.copies", code.copies.map(|field| field.offset)),
        ] {
            self.maybe(name, field);
        }
    }

    fn objects(&mut self, layout: &Layout) {
        let objects = &layout.objects;
        self.add("objects.class", objects.class.offset);
        self.add("objects.size", objects.size.offset);
        self.add("objects.type_name", objects.type_name.offset);
        self.add("objects.type_flags", objects.type_flags.offset);
        self.add("objects.type_size", objects.type_size.offset);
        self.add("objects.type_dict", objects.type_dict.offset);
        self.add("objects.type_base", objects.type_base.offset);
        self.maybe("objects.type_keys", objects.type_keys.map(|keys| keys.offset));
        self.add("objects.bytes", objects.bytes.offset);
        self.add("objects.tuple_items", objects.tuple_items.offset);
        self.add("objects.list_items", objects.list_items.offset);
        self.add("set.used", objects.set.0.offset);
        self.add("set.mask", objects.set.1.offset);
        self.add("set.table", objects.set.2.offset);
        self.add("objects.float", objects.float.offset);
    }

    fn values(&mut self, layout: &Layout) {
        match layout.objects.text {
            Text::Compact { length, state, ascii, compact, data, .. } => {
                self.add("text.length", length.offset);
                self.add("text.state", state.offset);
                self.add("text.ascii", ascii);
                self.add("text.compact", compact);
                self.maybe("text.data", data.map(|data| data.offset));
            }
            Text::Wide { length, data, unit } => {
                self.add("text.length", length.offset);
                self.add("text.data", data.offset);
                self.add("text.unit", unit);
            }
        }
        match layout.objects.dict {
            Dict::Open { mask, table } => {
                self.add("dict.mask", mask.offset);
                self.add("dict.table", table.offset);
            }
            Dict::Compact { used, keys, values, .. } => {
                self.add("dict.used", used.offset);
                self.add("dict.keys", keys.offset);
                self.add("dict.values", values.offset);
            }
        }
        match layout.objects.integer {
            Integer::Sized { digits, bits, machine } => {
                self.add("integer.digits", digits.offset);
                self.add("integer.bits", bits);
                self.maybe("integer.machine", machine.map(|machine| machine.offset));
            }
            Integer::Tagged { tag, digits } => {
                self.add("integer.tag", tag.offset);
                self.add("integer.digits", digits.offset);
            }
        }
    }
}

/// Compare a layout with the headers of the interpreter that it is of, and say
/// whether there were any.
fn check(interpreter: &Interpreter, layout: &Layout) -> bool {
    let Some(expected) = by_headers(interpreter) else {
        eprintln!("skipped: the layout of {}: it has no headers", interpreter.name);
        return false;
    };
    assert_eq!(Numbers::of(layout), expected, "{}", interpreter.name);
    true
}

#[test]
fn tables_are_what_the_headers_say() {
    let (mut checked, mut debug) = (0, 0);
    for interpreter in interpreters() {
        let Some(layout) = tables::layout(interpreter.version) else { continue };
        let compared = check(interpreter, layout);
        checked += usize::from(compared);
        debug += usize::from(compared && interpreter.debug);
    }
    assert!(checked > debug, "no interpreter has headers");
}

#[test]
fn every_version_of_the_tables_is_there() {
    for version in tables::VERSIONS {
        assert!(tables::layout(version).is_some(), "{version:?}");
    }
    assert!(tables::layout((3, 13)).is_none() && tables::layout((3, 5)).is_none());
}

#[test]
fn published_layouts_are_what_the_headers_say() {
    let _together = together();
    let newer = interpreters().iter().filter(|found| tables::layout(found.version).is_none());
    for interpreter in newer {
        let live = Live::start(interpreter.command("sleepers.py"));
        check(interpreter, &live.find().unwrap().layout);
    }
}

/// What the comparison is worth: it must tell versions apart.
#[test]
fn the_comparison_tells_layouts_apart() {
    let mut numbers: Vec<_> = tables::VERSIONS
        .iter()
        .map(|&version| Numbers::of(tables::layout(version).unwrap()))
        .collect();
    numbers.sort();
    let all = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), all);
    assert!(fs::exists(fixture("layout.c")).unwrap());
}
