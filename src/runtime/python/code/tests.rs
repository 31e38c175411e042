use std::cell::Cell;

use super::*;
use crate::{
    memory::Fault,
    runtime::{
        Entry,
        python::{
            layout::Field,
            made::{Made, layout, layout_311, layout_old},
        },
    },
};

const CLASS: u64 = 0x9000;

/// Counts what is read.
struct Counted<'a> {
    made: &'a Made,
    reads: Cell<usize>,
}

impl Memory for Counted<'_> {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.reads.set(self.reads.get() + 1);
        self.made.read(at, into)
    }
}

/// A code object at `at`, of as many lines as it has units.
fn code(made: &mut Made, at: u64, name: &str, first: i32) {
    made.word(CLASS + 24, 0x9100).bytes(0x9100, &[0; 32]).bytes(0x9100, b"code\0");
    made.bytes(at, &[0; 208]).word(at + 8, CLASS).bytes(at + 68, &first.to_le_bytes());
    let (file, short, long, table) = (at + 0x400, at + 0x500, at + 0x600, at + 0x700);
    made.word(at + 112, file).text(file, 1, true, b"app.py");
    made.word(at + 120, short).text(short, 1, true, name.as_bytes());
    made.word(at + 128, long).text(long, 1, true, format!("Class.{name}").as_bytes());
    let lines = [0x80 | 1 << 3, 1 << 4 | 3, 0x80 | 11 << 3, 4, 9, 0x80 | 13 << 3, 2];
    made.word(at + 136, table).blob(table, &lines);
}

fn frame(code: u64, instruction: u64, entry: Option<Entry>) -> RawFrame {
    RawFrame { at: Address(0x40), code: Address(code), instruction, entry }
}

fn named(codes: &mut Codes, layout: &Layout, frames: &[RawFrame], made: &Made) -> Managed {
    let trace = Trace { frames: frames.to_vec(), ..Trace::default() };
    codes.resolve(layout, (&trace, None), Places::Lines, made)
}

fn short(managed: &Managed) -> Vec<String> {
    let frames = managed.segments.iter().map(|segment| {
        let frames = segment.frames.iter().map(|frame| {
            let line = frame.line.map_or_else(|| "?".into(), |line| line.to_string());
            format!("{} {}:{line}", frame.function, frame.file)
        });
        let end = if segment.entry.is_some() { " |" } else { "" };
        frames.collect::<Vec<_>>().join(" < ") + end
    });
    frames.collect()
}

const ENTRY: Option<Entry> = Some(Entry::Within(Address(0x7000)));

#[test]
fn frames_are_named_and_put_into_segments() {
    let mut made = Made::default();
    code(&mut made, 0x1000, "inner", 10);
    code(&mut made, 0x2000, "outer", 20);
    let frames = [
        frame(0x1000, 0x1000 + 200, None),
        frame(0x2000, 0x2000 + 202, ENTRY),
        frame(0x2000, 0x2000 + 204, None),
    ];
    let mut codes = Codes::default();
    let managed = named(&mut codes, &layout(), &frames, &made);
    let wanted = ["Class.inner app.py:10 < Class.outer app.py:21 |", "Class.outer app.py:22"];
    assert_eq!(short(&managed), wanted);
    assert_eq!((codes.known.len(), managed.unreadable), (2, false));
}

#[test]
fn columns_are_told_apart_only_where_they_are_wanted() {
    let mut made = Made::default();
    code(&mut made, 0x1000, "f", 10);
    let trace = Trace { frames: vec![frame(0x1000, 0x1000 + 202, ENTRY)], ..Trace::default() };
    let mut codes = Codes::default();
    for (places, columns) in [(Places::Columns, Some((5, 9))), (Places::Lines, None)] {
        let managed = codes.resolve(&layout(), (&trace, None), places, &made);
        let found = &managed.segments[0].frames[0];
        assert_eq!((found.line, found.columns), (Some(11), columns));
    }
}

#[test]
fn a_frame_met_again_costs_one_read_and_nothing_new() {
    let mut made = Made::default();
    code(&mut made, 0x1000, "f", 10);
    let trace = Trace { frames: vec![frame(0x1000, 0x1000 + 202, ENTRY)], ..Trace::default() };
    let memory = Counted { made: &made, reads: Cell::new(0) };
    let mut codes = Codes::default();
    let first = codes.resolve(&layout(), (&trace, None), Places::Lines, &memory);
    memory.reads.set(0);
    let again = codes.resolve(&layout(), (&trace, None), Places::Lines, &memory);
    assert_eq!(memory.reads.get(), 1);
    assert!(Arc::ptr_eq(&first.segments[0].frames[0], &again.segments[0].frames[0]));
}

#[test]
fn an_address_that_comes_to_mean_another_function_is_read_anew() {
    let mut made = Made::default();
    code(&mut made, 0x1000, "old", 10);
    let frames = [frame(0x1000, 0x1000 + 200, ENTRY)];
    let mut codes = Codes::default();
    assert_eq!(short(&named(&mut codes, &layout(), &frames, &made)), ["Class.old app.py:10 |"]);
    let weight = codes.weight;
    // Only the first line is another; then only the name.
    made.bytes(0x1000 + 68, &30_i32.to_le_bytes());
    assert_eq!(short(&named(&mut codes, &layout(), &frames, &made)), ["Class.old app.py:30 |"]);
    made.word(0x1000 + 128, 0x6000).text(0x6000, 1, true, b"new");
    assert_eq!(short(&named(&mut codes, &layout(), &frames, &made)), ["new app.py:30 |"]);
    assert_eq!(codes.known.len(), 1);
    assert!(codes.weight < weight, "the old one's weight is gone: {weight}");
}

#[test]
fn what_is_no_code_object_cuts_the_stack() {
    let mut made = Made::default();
    code(&mut made, 0x1000, "f", 10);
    code(&mut made, 0x2000, "g", 20);
    made.word(0x2008, 0x9800).word(0x9818, 0x9900).bytes(0x9900, &[0; 32]).bytes(0x9900, b"dict");
    let good = frame(0x1000, 0x1000 + 200, None);
    let mut codes = Codes::default();
    for bad in [0x2000, 0x3000, 0, u64::MAX] {
        let bad = frame(bad, 0, ENTRY);
        let managed = named(&mut codes, &layout(), &[good, bad, good], &made);
        assert!(managed.unreadable);
        assert_eq!(short(&managed), ["Class.f app.py:10"]);
        // At the beginning of a segment.
        let end = RawFrame { entry: ENTRY, ..good };
        let managed = named(&mut codes, &layout(), &[end, bad], &made);
        assert_eq!(short(&managed), ["Class.f app.py:10 |", ""]);
    }
    // Nor is a type believed to be that of code by being the first.
    let mut codes = Codes::default();
    let managed = named(&mut codes, &layout(), &[frame(0x2000, 0, ENTRY), good], &made);
    assert_eq!(short(&managed), [""]);
    assert_eq!(short(&named(&mut codes, &layout(), &[good], &made)), ["Class.f app.py:10"]);
}

#[test]
fn frames_that_python_does_not_show_are_not_shown() {
    let mut made = Made::default();
    code(&mut made, 0x1000, "f", 10);
    made.bytes(0x1000 + 152, &1_i32.to_le_bytes());
    let layout = layout_311();
    let mut codes = Codes::default();
    let caller = frame(0x1000, 0x1000 + 204, ENTRY);
    for (before, shown) in [(198, false), (200, false), (202, true)] {
        let raw = frame(0x1000, 0x1000 + before, ENTRY);
        assert_eq!(codes.is_shown(&layout, &raw, &made), Some(shown));
        let managed = named(&mut codes, &layout, &[raw, caller], &made);
        assert_eq!(managed.segments.len(), 1 + usize::from(shown), "an empty one is none");
    }
    // What `__init__` is run from: one string for all names, and no lines.
    made.word(0x1000 + 112, 0x1500).word(0x1000 + 136, 0x1800).blob(0x1800, b"");
    assert_eq!(codes.is_shown(&layout, &caller, &made), Some(false));
    assert_eq!(codes.is_shown(&layout, &frame(0x5000, 0, None), &made), None);
}

#[test]
fn older_code_counts_from_its_beginning() {
    let mut made = Made::default();
    code(&mut made, 0x1000, "f", 10);
    made.blob(0x1700, &[4, 1, 4, 0xfd]);
    let mut layout = layout_old();
    let line = |layout: &Layout, last: i32| {
        let raw = frame(0x1000, i64::from(last).cast_unsigned(), ENTRY);
        short(&named(&mut Codes::default(), layout, &[raw], &made)).concat()
    };
    assert_eq!(line(&layout, -1), "f app.py:10 |");
    assert_eq!(line(&layout, 4), "f app.py:11 |");
    assert_eq!(line(&layout, 8), "f app.py:8 |");
    layout.frame.instruction = Instruction::Units(Field::at(104));
    assert_eq!(line(&layout, -1), "f app.py:10 |");
    assert_eq!(line(&layout, 2), "f app.py:11 |");
    assert_eq!(line(&layout, 4), "f app.py:8 |");
}

#[test]
fn a_copy_of_the_code_is_as_good() {
    let mut made = Made::default();
    code(&mut made, 0x1000, "f", 10);
    let mut layout = layout();
    layout.code.copies = Some(Field::at(184));
    let mut codes = Codes::default();
    let mut line = |made: &Made, at| {
        short(&named(&mut codes, &layout, &[frame(0x1000, at, ENTRY)], made)).concat()
    };
    assert_eq!(line(&made, 0x8002), "Class.f app.py:? |");
    made.word(0x1000 + 184, 0x7000);
    assert_eq!(line(&made, 0x8002), "Class.f app.py:? |", "copies that cannot be read");
    made.word(0x7000, 3).word(0x7008, 0x10c8).word(0x7010, 0).word(0x7018, 0x8000);
    assert_eq!(line(&made, 0x8002), "Class.f app.py:11 |");
    assert_eq!(line(&made, 0x8006), "Class.f app.py:? |", "behind its end");
    assert_eq!(line(&made, 0x10ca), "Class.f app.py:11 |");
    // More than there can be, of which the rest cannot be read.
    made.word(0x7000, u64::MAX);
    assert_eq!(line(&made, 0x9000), "Class.f app.py:? |");
}

#[test]
fn not_more_is_kept_than_is_allowed() {
    let mut made = Made::default();
    code(&mut made, 0x1000, "f", 10);
    code(&mut made, 0x2000, "g", 20);
    let frames = [frame(0x1000, 0x1000 + 200, None), frame(0x2000, 0x2000 + 200, ENTRY)];
    let mut codes = Codes::default();
    named(&mut codes, &layout(), &frames[..1], &made);
    codes.weight = Codes::HEAVIEST;
    let managed = named(&mut codes, &layout(), &frames, &made);
    assert_eq!(short(&managed), ["Class.f app.py:10 < Class.g app.py:20 |"]);
    assert_eq!(codes.known.len(), 1);
    assert!(codes.weight < 4096);
}

/// Whatever the target's memory says, there is an answer, and no panic.
#[test]
fn damaged_code_objects_do_no_harm() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut shown = 0;
    for _ in 0..2000 {
        let mut made = Made::default();
        code(&mut made, 0x1000, "f", 10);
        // The type is left as it is, so that all else is looked at.
        for _ in 0..random.u32(1..6) {
            let near = [0x1000 + random.u64(24..208), 0x1400 + random.u64(16..0x330)];
            made.bytes(near[random.usize(..2)], &[random.u8(..)]);
        }
        let (mut layout, at) = (layout_311(), random.u64(0x10c0..0x10e0));
        layout.code.copies = Some(Field::at(184));
        let trace = Trace { frames: vec![frame(0x1000, at, ENTRY)], ..Trace::default() };
        let managed = Codes::default().resolve(&layout, (&trace, None), Places::Columns, &made);
        assert!(managed.segments.len() <= 1);
        shown += managed.segments.iter().map(|segment| segment.frames.len()).sum::<usize>();
    }
    assert!(shown > 200, "most were read: {shown}");
}
