//! The words for frames, states, threads and processes, the same in every
//! format.

use std::borrow::Cow;

use super::Paths;
use crate::{
    profile::{Process, Thread},
    stack::Symbol,
    style,
    task::State,
};

/// The longest command line that names a process, in letters.
const LONGEST_COMMAND: usize = 80;

/// A function, with its place: `serve (app.py:12)`, `line` being the one that
/// is shown; or with the image that holds it where no source file is known:
/// `epoll_wait (libc.so.6)`.
pub fn frame(symbol: &Symbol, line: Option<u32>, paths: Paths) -> String {
    let function = &symbol.function;
    let text = match (&symbol.file, line, &symbol.module) {
        (Some(file), Some(line), _) => {
            format!("{function} ({}:{line})", paths.of(file))
        }
        (Some(file), ..) => format!("{function} ({})", paths.of(file)),
        // A frame without a name is already told by its image.
        (None, _, Some(module)) if !function.starts_with(module.as_str()) => {
            format!("{function} ({module})")
        }
        (None, ..) => function.clone(),
    };
    safe(&text)
}

/// The directories in which packages of Python lie.
const PACKAGES: [&str; 2] = ["/site-packages/", "/dist-packages/"];

impl Paths {
    /// The part of the path `file` that is shown.
    pub fn of(self, file: &str) -> &str {
        if self == Self::Full {
            return file;
        }
        // Many packages have a file of the same name, such as `base.py`.
        if let Some((_, inside)) = PACKAGES.iter().find_map(|home| file.rsplit_once(home)) {
            return inside;
        }
        file.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(file)
    }
}

/// What a thread that is not on a CPU waits for, as the innermost frame of its
/// stack: `[epoll_wait]`.
pub fn wait(state: State) -> Option<String> {
    match state {
        State::Running => None,
        State::Queued => Some("[waiting for a CPU]".to_owned()),
        State::Blocked(call) => Some(safe(&format!("[{call}]"))),
        State::Faulting => Some("[page fault]".to_owned()),
        State::Halted => Some("[stopped]".to_owned()),
    }
}

/// A thread: `worker (1234)`.
pub fn thread(thread: &Thread) -> String {
    safe(&format!("{} ({})", thread.name, thread.tid))
}

/// A process: `python3 server.py (1234)`.
pub fn process(process: &Process) -> String {
    let command = style::clip(process.command.trim(), LONGEST_COMMAND);
    safe(&format!("{command} ({})", process.pid))
}

/// A frame's text that every reader of collapsed stacks takes for one frame,
/// and that no terminal and no XML reader stumbles over.
///
/// `;` separates frames, and a number at the end is taken for a count (two of
/// them for a difference); a line that begins with `# ` is a comment.
pub fn safe(text: &str) -> String {
    let text = text.replace(['\n', '\t', '\r'], " ").replace(';', ":");
    let text = style::escape(text.trim());
    let mut text = match text.strip_prefix("# ") {
        Some(rest) => Cow::Owned(format!("#-{rest}")),
        None => text,
    };
    if let Some((before, number)) = text.rsplit_once(' ')
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        text = Cow::Owned(format!("{before}-{number}"));
    }
    if text.is_empty() { "?".to_owned() } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_break_a_line_of_frames() {
        let check = |text: &str, expected: &str| assert_eq!(safe(text), expected);
        check("main", "main");
        check("parse::<[u8; 32]>", "parse::<[u8: 32]>");
        check("thread 42", "thread-42");
        check("thread 4.2", "thread-4.2");
        check("two 4 2", "two 4-2");
        check("line\nbreak\there", "line break here");
        check("# comment", "#-comment");
        check("  padded ", "padded");
        check("", "?");
        check("\x1b]0;title\x07", "\\x1b]0:title\\x07");
    }

    #[test]
    fn a_frame_tells_its_place() {
        let symbol = Symbol {
            function: "serve".to_owned(),
            file: Some("/srv/app/server.py".to_owned()),
            line: Some(12),
            module: Some("python3".to_owned()),
            inlined: false,
            compiled: false,
        };
        let check = |symbol: &Symbol, line, paths, expected: &str| {
            assert_eq!(frame(symbol, line, paths), expected);
        };
        check(&symbol, Some(12), Paths::Short, "serve (server.py:12)");
        check(&symbol, None, Paths::Short, "serve (server.py)");
        check(&symbol, Some(12), Paths::Full, "serve (/srv/app/server.py:12)");
        let file = "/opt/lib/python3.11/site-packages/gunicorn/workers/base.py".to_owned();
        let packaged = Symbol { file: Some(file), ..symbol.clone() };
        check(&packaged, Some(12), Paths::Short, "serve (gunicorn/workers/base.py:12)");
        let symbol = Symbol { file: None, ..symbol };
        check(&symbol, Some(12), Paths::Short, "serve (python3)");
        let symbol = Symbol { function: "python3+0x12".to_owned(), ..symbol };
        check(&symbol, Some(12), Paths::Short, "python3+0x12");
        let symbol = Symbol { function: "0x7f00".to_owned(), module: None, ..symbol };
        check(&symbol, Some(12), Paths::Short, "0x7f00");
    }
}
