//! Every interpreter's frames are what the program itself says that they are:
//! functions, files and lines, of all that can call a function.

use std::{fs, sync::Arc};

use spy::{
    memory::Address,
    module::{AddressSpace, Modules},
    process::{LiveMemory, Process},
    runtime::{
        Detected, Entry, Managed, Places, Trace,
        python::{
            code::Codes,
            detect::{self, Found},
            threads::Threads,
            walk,
        },
    },
    task::{Pid, Tid},
};

use crate::{
    interpreters::{Interpreter, interpreters},
    target::{Target, together, until},
};

/// A frame, as the program says it.
type Said = (String, String, Option<u32>);

/// What a program says of its own stack, innermost first.
fn heard(target: &Target) -> Vec<Said> {
    let mut said = Vec::new();
    loop {
        let line = target.hear();
        if line == "end" {
            break;
        }
        let words: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |word: usize| words[word].as_str().unwrap().to_owned();
        let number = words[2].as_u64().and_then(|number| u32::try_from(number).ok());
        said.push((text(0), text(1), number));
    }
    // It has said it, but may not have come to where it waits for its input.
    until("the target waits", || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", target.pid())).unwrap();
        call.starts_with(&format!("{} 0x0 ", libc::SYS_read)).then_some(())
    });
    said
}

pub(super) fn find(pid: i32, memory: &LiveMemory) -> Found {
    let process = Process::open(Pid(pid)).unwrap();
    let mut space = AddressSpace::new(process.mappings().unwrap(), process.root());
    match detect::look(&mut space, &mut Modules::default(), memory) {
        Detected::Found(found) => *found,
        other => panic!("{other:?}"),
    }
}

fn found(managed: &Managed) -> Vec<Said> {
    let frames = managed.segments.iter().flat_map(|segment| &segment.frames);
    frames.map(|frame| (frame.function.clone(), frame.file.clone(), frame.line)).collect()
}

/// The entries of frames that lie in native frames: each is farther out than
/// the one before it.
fn check_entries(name: &str, managed: &Managed, pid: i32) {
    let mappings = Process::open(Pid(pid)).unwrap().mappings().unwrap();
    let mut last = Address(0);
    for segment in &managed.segments {
        match segment.entry {
            Some(Entry::Within(at)) => {
                assert!(at > last, "{name}: {at} behind {last}");
                last = at;
                let mut stacks = mappings.iter().filter(|mapping| !mapping.executable);
                assert!(stacks.any(|mapping| mapping.range.contains(&at)), "{name}: {at}");
            }
            Some(Entry::Holds(at)) => assert!(segment.frames.len() == 1 && at != Address(0)),
            None => panic!("{name}: a segment without its native frame"),
        }
    }
}

fn check(interpreter: &Interpreter) {
    let Interpreter { name, version, .. } = interpreter;
    let target = Target::run(interpreter.command("stacks.py"));
    let said = heard(&target);
    let memory = LiveMemory::new(Pid(target.pid()));
    let python = find(target.pid(), &memory);
    let thread = Threads::new(&python).state(Tid(target.pid()), &memory).unwrap();

    let mut trace = Trace::default();
    let layout = &python.layout;
    assert_eq!(walk::trace(layout, thread, &memory, &mut trace.frames), None, "{name}");
    let mut codes = Codes::default();
    let managed = codes.resolve(layout, (&trace, None), Places::Lines, &memory);
    let names = found(&managed);
    let wrong = names.iter().zip(&said).position(|(found, said)| found != said);
    if let Some(wrong) = wrong {
        panic!("{name}: frame {wrong} is {:?}, not {:?}", names[wrong], said[wrong]);
    }
    assert_eq!(names.len(), said.len(), "{name}");
    assert!(names.len() > 2000, "{name}");
    assert!(!managed.unreadable, "{name}");
    check_entries(name, &managed, target.pid());

    // Which of them Python shows can be asked one by one: the loop of 3.13 and
    // later has the frame that it runs `__init__` from.
    assert_eq!(trace.frames.len() - said.len(), usize::from(*version >= (3, 13)), "{name}");
    let shown = trace.frames.iter().filter(|raw| codes.is_shown(layout, raw, &memory).unwrap());
    assert_eq!(shown.count(), said.len(), "{name}");

    // And again, by what is remembered.
    let again = codes.resolve(layout, (&trace, None), Places::Lines, &memory);
    let frames = |managed: &Managed| -> Vec<_> {
        managed.segments.iter().flat_map(|segment| segment.frames.clone()).collect()
    };
    let same = frames(&managed).iter().zip(&frames(&again)).all(|(a, b)| Arc::ptr_eq(a, b));
    assert!(same, "{name}");
}

#[test]
fn stacks_are_what_the_program_says() {
    let _together = together();
    for interpreter in interpreters() {
        check(interpreter);
    }
    assert!(interpreters().len() >= 4);
}
