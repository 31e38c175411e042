//! Which frames of a stack are shown.

use crate::stack::Symbol;

/// Which of the frames of a stack are shown, where a language runtime has
/// frames of its own among those of machine code.
///
/// ```text
///   innermost                             Default   Native   Managed
///   read              machine code           x         x
///   _io_read          machine code           x         x
///   parse (app.py:9)  managed                x         x        x
///   main (app.py:31)  managed                x         x        x
///   _PyEval_Eval…     runs those two                   x
///   walk (grid.pyx:5) compiled               x         x        x
///   main              machine code                     x
///   outermost
/// ```
///
/// A stack without a managed frame is shown whole, or, where only managed
/// frames are wanted, not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Managed frames and compiled ones, and the native ones that the innermost of
    /// them called.
    Default,
    /// Every frame.
    Native,
    /// Managed and compiled frames alone.
    Managed,
}

/// What a frame is to the program that a language runtime runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Machine code: of the runtime, or of a library.
    Native,
    /// Machine code that was made of a function of the program's, and is known by
    /// that one's name.
    Compiled,
    /// A function of the program's, run by the runtime.
    Managed,
}

/// What is shown of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<T> {
    /// The frames, innermost first.
    pub frames: Vec<T>,
    /// Whether the outermost frame is among them: then what there is to say of
    /// the stack's end belongs to them.
    pub to_the_end: bool,
}

impl View {
    /// What is shown of the stack `frames`, innermost first; `None` where it
    /// is not shown at all. A stack of which no frame is known is shown: that
    /// it is not known is worth knowing.
    pub fn of<T: Copy>(self, frames: &[T], mut role: impl FnMut(T) -> Role) -> Option<Seen<T>> {
        let numbered = || frames.iter().copied().enumerate();
        if self == Self::Native {
            return Some(Seen { frames: frames.to_vec(), to_the_end: true });
        }
        let roles: Vec<Role> = frames.iter().map(|&frame| role(frame)).collect();
        if !roles.contains(&Role::Managed) {
            let whole = self == Self::Default || frames.is_empty();
            return whole.then(|| Seen { frames: frames.to_vec(), to_the_end: true });
        }
        let called = roles.iter().position(|&role| role != Role::Native).unwrap_or_default();
        let is_seen = |(at, _): (usize, T)| {
            self == Self::Default && at < called
                || roles.get(at).is_some_and(|&role| role != Role::Native)
        };
        Some(Seen {
            frames: numbered().filter(|&it| is_seen(it)).map(|(_, frame)| frame).collect(),
            to_the_end: numbered().last().is_none_or(is_seen),
        })
    }
}

impl View {
    /// Whether `symbol` is shown, which is one of `symbols`, the functions of a
    /// frame that is. What the compiler has inlined into a compiled function is
    /// native, and as such farther in than that one.
    pub fn shows(self, symbol: &Symbol, symbols: &[Symbol]) -> bool {
        let all = self == Self::Native || symbol.compiled;
        all || !symbols.iter().any(|other| other.compiled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames as letters: managed ones are upper case, compiled ones digits.
    #[track_caller]
    fn check(view: View, stack: &str, expected: Option<(&str, bool)>) {
        let frames: Vec<char> = stack.chars().collect();
        let seen = view.of(&frames, |frame| match frame {
            'A'..='Z' => Role::Managed,
            '0'..='9' => Role::Compiled,
            _ => Role::Native,
        });
        let seen = seen.map(|seen| (seen.frames.iter().collect::<String>(), seen.to_the_end));
        let seen = seen.as_ref().map(|(frames, to_the_end)| (frames.as_str(), *to_the_end));
        assert_eq!(seen, expected, "{view:?} of {stack}");
    }

    #[test]
    fn each_view_shows_its_frames() {
        // Two runs of an interpreter's loop, with native frames between them.
        let stack = "rcABlsCDlm";
        check(View::Default, stack, Some(("rcABCD", false)));
        check(View::Native, stack, Some((stack, true)));
        check(View::Managed, stack, Some(("ABCD", false)));
    }

    #[test]
    fn a_trace_that_ends_the_stack_tells_its_end() {
        check(View::Default, "rAB", Some(("rAB", true)));
        check(View::Managed, "rAB", Some(("AB", true)));
        check(View::Managed, "AB", Some(("AB", true)));
    }

    #[test]
    fn a_thread_of_machine_code_alone_is_whole_or_left_out() {
        check(View::Default, "abc", Some(("abc", true)));
        check(View::Native, "abc", Some(("abc", true)));
        check(View::Managed, "abc", None);
    }

    #[test]
    fn what_was_compiled_stands_among_what_is_run() {
        check(View::Default, "rcAlx1s2lBlm", Some(("rcA12B", false)));
        check(View::Default, "rc1xAlm", Some(("rc1A", false)));
        check(View::Managed, "rc1xAl2", Some(("1A2", true)));
        check(View::Native, "r1xAl", Some(("r1xAl", true)));
        // Of a thread that no runtime is known of, all is shown.
        check(View::Default, "r1x", Some(("r1x", true)));
        check(View::Managed, "r1x", None);
    }

    #[test]
    fn a_stack_that_is_not_known_is_shown() {
        for view in [View::Default, View::Native, View::Managed] {
            check(view, "", Some(("", true)));
        }
    }
}
