//! Values, variables and thread names, as `fixtures/python/values.py` holds
//! them and says that they are to be shown.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use spy::{
    memory::{Address, Memory},
    process::LiveMemory,
    runtime::{
        Detail, RawFrame,
        python::{layout::Layout, names::Names, objects, offsets::Offsets, tables},
    },
    task::Pid,
};

use crate::{
    interpreters::{Interpreter, interpreters},
    target::together,
};

/// What `values.py` says, and the process that goes on as long as this does.
struct Values {
    child: Child,
    lines: Vec<Vec<String>>,
}

impl Values {
    fn start(interpreter: &Interpreter) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/python/values.py");
        let mut child = Command::new(&interpreter.program)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let lines = told
            .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>())
            .take_while(|words| words[0] != "end");
        let lines = lines.collect();
        assert_eq!(child.try_wait().unwrap(), None, "{}", interpreter.name);
        Self { child, lines }
    }

    /// The words after `kind` of the lines that begin with it.
    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a [String]> {
        self.lines.iter().filter(move |words| words[0] == kind).map(|words| &words[1..])
    }

    fn memory(&self) -> LiveMemory {
        LiveMemory::new(Pid(i32::try_from(self.child.id()).unwrap()))
    }

    fn layout(&self, interpreter: &Interpreter, memory: &dyn Memory) -> Layout {
        match tables::layout(interpreter.version) {
            Some(layout) => layout.clone(),
            None => {
                let runtime = address(&self.of("runtime").next().unwrap()[0]);
                Offsets::read(runtime, memory).unwrap().layout().unwrap()
            }
        }
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(decimal: &str) -> Address {
    Address(decimal.parse().unwrap())
}

/// Run `check` beside every interpreter, and say of which version it failed.
fn with_each(check: impl Fn(&Values, &Layout, &LiveMemory) -> Vec<String>) {
    let _together = together();
    let mut wrong = Vec::new();
    for interpreter in interpreters() {
        let values = Values::start(interpreter);
        let memory = values.memory();
        let layout = values.layout(interpreter, &memory);
        let found = check(&values, &layout, &memory);
        wrong.extend(found.iter().map(|it| format!("{}: {it}", interpreter.name)));
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn differing(what: &str, shown: &str, expected: &str) -> Option<String> {
    (shown != expected).then(|| format!("{what}\n  shown    {shown}\n  expected {expected}"))
}

#[test]
fn values_look_as_python_shows_them() {
    with_each(|values, layout, memory| {
        let mut seen = 0;
        let check = |words: &[String]| {
            seen += 1;
            let [at, characters, fields, expected] = words else { panic!("{words:?}") };
            let detail = Detail { characters: characters.parse().unwrap(), fields: fields == "1" };
            let shown = objects::show(layout, address(at), detail, memory);
            differing(at, &shown, expected)
        };
        let wrong = values.of("value").filter_map(check).collect();
        assert!(seen > 200, "{seen}");
        wrong
    });
}

#[test]
fn variables_of_a_frame_have_names_and_values() {
    with_each(|values, layout, memory| {
        let mut wrong = Vec::new();
        let mut frames = 0;
        let mut lines = values.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let [kind, at, code] = &line[..] else { continue };
            if kind != "frame" {
                continue;
            }
            frames += 1;
            let frame = RawFrame { at: address(at), code: address(code), ..RawFrame::default() };
            let detail = Detail { characters: 128, fields: false };
            let shown = objects::locals(layout, &frame, detail, memory);
            let mut known = Vec::new();
            while let Some(line) = lines.next_if(|line| line[0] == "local") {
                known.push((line[1].as_str(), line[2] == "1", line[3].as_str()));
            }
            for (name, is_argument, value) in &known {
                let Some(found) = shown.iter().find(|variable| variable.name == *name) else {
                    wrong.push(format!("{name} is not there: {shown:?}"));
                    continue;
                };
                wrong.extend(differing(name, &found.value, value));
                if found.is_argument != *is_argument {
                    wrong.push(format!("{name}: is_argument is {}", found.is_argument));
                }
            }
            // Those of the function's own that hold what is being told.
            let others = shown.iter().filter(|variable| {
                !known.iter().any(|(name, ..)| variable.name == *name) && variable.name != "known"
            });
            wrong.extend(others.map(|variable| format!("nobody told of {variable:?}")));
        }
        assert_eq!(frames, 2);
        wrong
    });
}

#[test]
fn threads_have_the_names_that_python_gave_them() {
    with_each(|values, layout, memory| {
        let state = address(&values.of("state").next().unwrap()[0]);
        let interpreter = layout.thread.interpreter.get(memory, state).unwrap();
        let mut names = Names::default();
        // One that nobody knows is looked for, but not at each question.
        assert_eq!(names.thread_name(layout, interpreter, 1, memory), None);
        let before = memory.reads();
        assert_eq!(names.thread_name(layout, interpreter, 1, memory), None);
        assert_eq!(memory.reads(), before);
        let mut wrong = Vec::new();
        for words in values.of("thread") {
            let number = words[0].parse().unwrap();
            let shown = names.thread_name(layout, interpreter, number, memory);
            wrong.extend(differing("thread", &shown.unwrap_or_default(), &words[1]));
        }
        assert_eq!(values.of("thread").count(), 2);
        if memory.reads() != before {
            wrong.push("they were not all read at once".to_owned());
        }
        wrong
    });
}
