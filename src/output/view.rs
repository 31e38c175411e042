//! Which frames of a stack are shown.

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
///   main              machine code                     x
///   outermost
/// ```
///
/// A stack without a managed frame is shown whole, or, where only managed
/// frames are wanted, not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Managed frames, and the native ones that the innermost of them called.
    Default,
    /// Every frame.
    Native,
    /// Managed frames alone.
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
    pub fn of<T: Copy>(self, frames: &[T], is_managed: impl Fn(T) -> bool) -> Option<Seen<T>> {
        let called = frames.iter().position(|&frame| is_managed(frame));
        let is_seen = |(at, frame): (usize, T)| match (self, called) {
            (Self::Native, _) | (Self::Default, None) => true,
            (Self::Default, Some(called)) => at < called || is_managed(frame),
            (Self::Managed, _) => is_managed(frame),
        };
        if self == Self::Managed && called.is_none() && !frames.is_empty() {
            return None;
        }
        let numbered = || frames.iter().copied().enumerate();
        Some(Seen {
            frames: numbered().filter(|&it| is_seen(it)).map(|(_, frame)| frame).collect(),
            to_the_end: numbered().last().is_none_or(is_seen),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames as letters: managed ones are upper case.
    #[track_caller]
    fn check(view: View, stack: &str, expected: Option<(&str, bool)>) {
        let frames: Vec<char> = stack.chars().collect();
        let seen = view.of(&frames, |frame| frame.is_ascii_uppercase());
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
    fn a_stack_that_is_not_known_is_shown() {
        for view in [View::Default, View::Native, View::Managed] {
            check(view, "", Some(("", true)));
        }
    }
}
