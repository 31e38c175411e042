//! Where others see another stack than `spy` does, and why.
//! `docs/differences.md` explains each.

use super::compare::Outcome::{self, EndsEarlier, EndsLater, Parts, SkipsCaller};

/// An unwinder that is known to see something else.
pub(super) struct Known {
    /// In which programs: a part of what they are called; empty for any.
    pub(super) program: &'static str,
    /// In which image the innermost frame is; empty for any.
    pub(super) inside: &'static str,
    /// Who.
    pub(super) by: &'static str,
    /// What it does.
    pub(super) outcomes: &'static [Outcome],
}

const GUESSES: &[Outcome] = &[EndsEarlier, EndsLater, Parts, SkipsCaller];

/// All of them.
pub(super) const KNOWN: &[Known] = &[
    // It takes JIT code apart to guess what its frames look like.
    Known { program: "java", inside: "", by: "gdb", outcomes: GUESSES },
    Known { program: "node", inside: "", by: "gdb", outcomes: GUESSES },
    // Its expressions cannot read memory: signal frames, realigned stacks.
    Known { program: "shapes", inside: "", by: "framehop", outcomes: GUESSES },
    Known { program: "signals", inside: "", by: "framehop", outcomes: GUESSES },
    // It does not look for unwind data in memory.
    Known { program: "", inside: "[vdso]", by: "libunwind", outcomes: GUESSES },
    // It gives up where the program counter is no code.
    Known { program: "shapes", inside: "", by: "libunwind", outcomes: &[EndsEarlier] },
    // It finds no unwind data in static programs, and not all that the linker
    // of Rust writes.
    Known { program: "-static", inside: "", by: "libunwind", outcomes: GUESSES },
    Known { program: "hot.rs", inside: "", by: "libunwind", outcomes: GUESSES },
    // A thread that was made, and has not run yet: there is no unwind data
    // there, so it goes wherever the registers of the thread's maker lead.
    Known { program: "", inside: "libc.so.6", by: "libunwind", outcomes: &[EndsLater] },
    // It knows nothing of Go's functions, and goes by frame pointers or ends.
    Known { program: "hot.go", inside: "", by: "libunwind", outcomes: GUESSES },
    Known { program: "hot.go", inside: "", by: "framehop", outcomes: GUESSES },
    // It shows `clone` above `mstart`, which Go's own table calls the top, and
    // stays on the stack that the runtime changed to.
    Known { program: "hot.go", inside: "", by: "gdb", outcomes: GUESSES },
    // They do not try the top of the stack in JIT code.
    Known { program: "java", inside: "", by: "libunwind", outcomes: &[SkipsCaller] },
    Known { program: "java", inside: "", by: "framehop", outcomes: &[SkipsCaller] },
    Known { program: "node", inside: "", by: "libunwind", outcomes: &[SkipsCaller] },
    Known { program: "node", inside: "", by: "framehop", outcomes: &[SkipsCaller] },
    // It finds the frame by rsp and rbp alone, which assembly uses as it likes.
    Known { program: "openssl", inside: "", by: "framehop", outcomes: GUESSES },
];

/// Whether it is known that `by` sees `outcome` in `program`, when the
/// innermost frame is in the image `inside`.
pub(super) fn is_known(program: &str, inside: &str, by: &str, outcome: Outcome) -> bool {
    let explains = |known: &Known| {
        program.contains(known.program)
            && (known.inside.is_empty() || known.inside == inside)
            && known.by == by
            && known.outcomes.contains(&outcome)
    };
    outcome == Outcome::Same || KNOWN.iter().any(explains)
}
