//! The collector of garbage stands where it was begun: between the function
//! that did so and what it calls itself, and on no other thread.

use spy::{process::LiveMemory, task::Pid};

use super::stacks::find;
use crate::{
    interpreters::{Interpreter, free_threaded, program, versions},
    observer::{Collapsed, run},
    target::{Target, together},
};

/// What the collector calls.
const CALLED: [&str; 3] = ["forgotten", "__del__", "Finalized.__del__"];

/// Whether it is known of an interpreter where its collector was begun.
fn is_known(target: &Target) -> bool {
    let found = find(target.pid(), &LiveMemory::new(Pid(target.pid())));
    found.layout.interpreter.collects_for.is_some() || !found.collector.is_empty()
}

fn check(interpreter: &Interpreter) -> bool {
    let name = &interpreter.name;
    let target = Target::run(program(&interpreter.program, "finalizers.py", &[]));
    if !is_known(&target) {
        eprintln!("skipped: {name}: it does not say which of its functions collects");
        return false;
    }
    let number = target.number();
    let how = ["-d", "2", "-r", "500", "--nolineno", "-f", "raw", "-o", "-", "-p", &number];
    let seen = Collapsed::read(&run(&[&["record"], &how[..]].concat()).expect(0).stdout);
    let (mut alone, mut called) = (0, 0);
    for (frames, _) in &seen.stacks {
        let functions: Vec<_> = frames
            .iter()
            .map(|frame| frame.rsplit_once(" (").map_or(&**frame, |(function, _)| function))
            .collect();
        let collector = functions.iter().position(|function| *function == "<gc>");
        let inner = functions.iter().position(|function| CALLED.contains(function));
        if let Some(collector) = collector {
            assert_eq!(functions[collector - 1], "collects", "{name}: {functions:#?}");
            assert!(!functions[collector + 1..].contains(&"<gc>"), "{name}: {functions:#?}");
            assert!(!functions.contains(&"computes"), "{name}: {functions:#?}");
        }
        match (collector, inner) {
            (Some(_), None) => alone += 1,
            (Some(collector), Some(inner)) => {
                assert_eq!(collector + 1, inner, "{name}: {functions:#?}");
                called += 1;
            }
            (None, Some(_)) => panic!("{name}: without its collector: {functions:#?}"),
            (None, None) => {}
        }
    }
    assert!(alone > 0 && called > 0, "{name}: {alone} and {called}: {seen:#?}");
    true
}

#[test]
fn the_collector_stands_between_its_caller_and_what_it_calls() {
    let _together = together();
    let built = free_threaded();
    let checked = versions().filter(|interpreter| check(interpreter)).count();
    assert!(checked > 0);
    assert!(built.as_ref().is_none_or(check));
}
