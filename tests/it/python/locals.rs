//! Variables, names of threads and columns, as `spy dump` shows them.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use super::dumped::{dump, frames, function, is_managed, with_function};
use crate::{
    interpreters::{Interpreter, interpreter, project, versions},
    observer::run,
    target::{Target, together},
};

/// A version of each way in which frames hold variables.
const VERSIONS: [(u8, u8); 4] = [(2, 7), (3, 9), (3, 11), (3, 15)];

/// What a function has, with the first of a value's letters; whether it is an
/// argument.
type Known = (&'static str, &'static str, bool);

const INNERMOST: &[Known] = &[
    ("name", "'a'", true),
    ("number", "42", true),
    ("text", "'xxx", true),
    ("empty", "None", false),
];
const KEYED: &[Known] =
    &[("name", "'a'", true), ("account", "<Account at 0x", true), ("doubled", "42", false)];
const OUTERMOST: &[Known] =
    &[("account", "<Account at 0x", true), ("rate", "2.5", false), ("names", "['a', 'b']", false)];

/// The variables of the frame of a function.
fn variables(thread: &Value, wanted: &str) -> BTreeMap<String, (String, bool)> {
    let frame = frames(thread).iter().find(|frame| function(frame) == wanted).unwrap();
    let each = frame["locals"].as_array().unwrap().iter().map(|variable| {
        let text = |key: &str| variable[key].as_str().unwrap().to_owned();
        (text("name"), (text("value"), variable["argument"].as_bool().unwrap()))
    });
    each.collect()
}

fn check(name: &str, thread: &Value) {
    for (wanted, known) in [("innermost", INNERMOST), ("keyed", KEYED), ("outermost", OUTERMOST)] {
        let shown = variables(thread, wanted);
        for (variable, begin, is_argument) in known {
            let (value, argument) = &shown[*variable];
            assert!(value.starts_with(begin), "{name}: {wanted}: {variable} = {value}");
            assert_eq!(argument, is_argument, "{name}: {wanted}: {variable}");
        }
    }
    for frame in frames(thread).iter().filter(|frame| !is_managed(frame)) {
        assert!(frame["locals"].is_null(), "{name}: {frame:#}");
    }
}

#[test]
fn variables_stand_at_their_frames_whatever_else_is_shown() {
    let _together = together();
    for Interpreter { name, program, .. } in VERSIONS.into_iter().filter_map(interpreter) {
        let target = Target::run(crate::interpreters::program(program, "variables.py", &[]));
        for view in [&[][..], &["-n"], &["--no-native"]] {
            let process = dump(target.pid(), &[&["-l"], view].concat());
            let thread = with_function(&process, "innermost");
            check(name, thread);
            let text = &variables(thread, "innermost")["text"].0;
            assert!(text.len() == 128 && text.ends_with("..."), "{name}: {text}");

            let process = dump(target.pid(), &[&["-ll"], view].concat());
            let thread = with_function(&process, "innermost");
            check(name, thread);
            let text = &variables(thread, "innermost")["text"].0;
            assert_eq!(*text, format!("'{}'", "x".repeat(200)), "{name}");
            let account = &variables(thread, "keyed")["account"].0;
            assert!(account.contains("cents=21"), "{name}: {account}");
            assert!(account.contains("owner='Ada'"), "{name}: {account}");
        }
        let process = dump(target.pid(), &[]);
        let all = frames(with_function(&process, "innermost"));
        assert!(all.iter().all(|frame| frame["locals"].is_null()), "{name}: {process:#}");
    }
}

#[test]
fn threads_have_the_name_that_python_gave_them_and_the_kernels() {
    let _together = together();
    for interpreter in versions() {
        let Interpreter { name, version, .. } = interpreter;
        let target = Target::run(interpreter.run("variables.py", &[]));
        let process = dump(target.pid(), &["--no-native"]);
        let thread = with_function(&process, "innermost");
        assert_eq!(thread["given_name"], "ledger", "{name}");
        let main = with_function(&process, "converse");
        assert_eq!(main["given_name"], "MainThread", "{name}");
        let kernel = |tid: &Value| {
            let path = format!("/proc/{}/task/{tid}/comm", target.pid());
            fs::read_to_string(path).unwrap().trim_end().to_owned()
        };
        let told = run(&["dump", "--no-native", "-p", &target.number()]).expect(0);
        for (thread, given) in [(thread, "ledger"), (main, "MainThread")] {
            let kernel = kernel(&thread["tid"]);
            assert_eq!(thread["name"], *kernel, "{name}");
            // From 3.14 on Python tells the kernel, too.
            let both =
                if kernel == given { format!("{given}:") } else { format!("{given} ({kernel}):") };
            let line = format!("Thread {} {both}", thread["tid"]);
            assert!(told.stdout.contains(&line), "{name}: {line}: {told:#?}");
        }
        assert_eq!(kernel(&thread["tid"]) == "ledger", *version >= (3, 14), "{name}");
    }
}

/// The place of a call in a source: its line, and its first and last column.
fn place(source: &str, call: &str) -> (usize, [usize; 2]) {
    let mut lines = (1..).zip(source.lines());
    let found = lines.find_map(|(number, line)| Some((number, line.find(call)?)));
    let (line, column) = found.unwrap();
    (line, [column + 1, column + call.len()])
}

#[test]
fn columns_are_those_of_the_call() {
    let _together = together();
    let source = fs::read_to_string(project("fixtures/python/variables.py")).unwrap();
    for interpreter in versions() {
        let name = &interpreter.name;
        let target = Target::run(interpreter.run("variables.py", &[]));
        let process = dump(target.pid(), &["--no-native"]);
        let thread = with_function(&process, "innermost");
        for (wanted, call) in [
            ("innermost", "os.read(out, 1)"),
            ("keyed", "innermost(name, doubled, \"x\" * 200)"),
            ("outermost", "sorted(names, key=lambda name: keyed(name, account))"),
        ] {
            let frame = frames(thread).iter().find(|frame| function(frame) == wanted).unwrap();
            let (line, columns) = place(&source, call);
            assert_eq!(frame["line"], line, "{name}: {wanted}");
            let known = serde_json::json!(columns);
            let expected = if interpreter.version >= (3, 11) { known } else { Value::Null };
            assert_eq!(frame["columns"], expected, "{name}: {wanted}");
        }
    }
}
