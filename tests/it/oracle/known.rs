//! Where others see another stack than `spy` does, and why.
//! `docs/differences.md` explains each.

use super::compare::Outcome::{self, EndsEarlier, EndsLater, Parts};

/// An unwinder that is known to see something else.
pub(super) struct Known {
    /// In which program; empty for any.
    pub(super) program: &'static str,
    /// In which image the innermost frame is; empty for any.
    pub(super) inside: &'static str,
    /// Who.
    pub(super) by: &'static str,
    /// What it does.
    pub(super) outcomes: &'static [Outcome],
}

const GUESSES: &[Outcome] = &[EndsEarlier, EndsLater, Parts];

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
    // It finds the frame by rsp and rbp alone, which assembly uses as it likes.
    Known { program: "openssl", inside: "", by: "framehop", outcomes: GUESSES },
];

/// Whether it is known that `by` sees `outcome` in `program`, when the
/// innermost frame is in the image `inside`.
pub(super) fn is_known(program: &str, inside: &str, by: &str, outcome: Outcome) -> bool {
    let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    let explains = |known: &Known| {
        fits(known.program, program)
            && fits(known.inside, inside)
            && known.by == by
            && known.outcomes.contains(&outcome)
    };
    outcome == Outcome::Same || KNOWN.iter().any(explains)
}
