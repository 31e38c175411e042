//! What can be found, and the words for it.

use std::{fmt, time::Duration};

use crate::style;

/// A part of a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The part.
    pub part: Duration,
    /// What it is a part of.
    pub whole: Duration,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        f.write_str(&style::share(micros(self.part.min(self.whole)), micros(self.whole)))
    }
}

/// Something that is certain about a target. Texts are as the target wrote
/// them.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// A control group has used up its share of processors, again and again.
    Throttled {
        /// Which process, where there are several.
        who: Option<String>,
        /// How often it was kept from running.
        times: u64,
        /// For how long, of every processor on which it was.
        time: Duration,
        /// In which time that was.
        window: Duration,
    },
    /// Threads wait for each other to interpret.
    Lock {
        /// Of which process, where there are several.
        who: Option<String>,
        /// For how much of the time the lock was held.
        held: Share,
        /// How many threads waited for it on average.
        waiting: f64,
        /// The thread that held it the longest.
        holder: String,
        /// For how much of the time it did.
        by_holder: Share,
        /// Where it mostly did.
        place: Option<String>,
    },
    /// An event loop does not come to ask for events.
    Loop {
        /// Whose, where there are several threads.
        thread: Option<String>,
        /// For how much of the time.
        kept: Share,
        /// What keeps it the longest, and for how much of the time.
        by: Option<(String, Share)>,
        /// The system call in which it is asleep meanwhile; `None` where it
        /// mostly runs.
        call: Option<String>,
    },
    /// A thread asks for events over and over, and there are none.
    Spin {
        /// Which.
        thread: String,
        /// For how much of the time it runs.
        running: Share,
        /// What it calls.
        call: String,
        /// How much of its running is that.
        calling: Share,
        /// From where.
        place: Option<String>,
    },
    /// One function uses more than half of the CPU time.
    Function {
        /// Which, and where.
        function: String,
        /// Its share of the time of threads that ran.
        share: Share,
        /// Processors in use by all.
        cores: f64,
    },
    /// There are fewer processors than threads that could run.
    Queue {
        /// How much of the time that they could run they waited for one.
        queued: Share,
    },
    /// Nearly all is one wait.
    Wait {
        /// How much of the time of threads that are not idle.
        share: Share,
        /// The system call.
        call: String,
        /// From where.
        place: Option<String>,
        /// For what, as far as is known: the call again, with what stands
        /// behind its descriptor.
        object: Option<String>,
    },
}

impl Finding {
    /// Whether something is wrong, or only worth knowing.
    pub const fn is_grave(&self) -> bool {
        match self {
            Self::Throttled { .. }
            | Self::Lock { .. }
            | Self::Loop { .. }
            | Self::Spin { .. }
            | Self::Queue { .. } => true,
            Self::Function { .. } | Self::Wait { .. } => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throttled { who, times, time, window } => {
                let (time, window) = (style::time(*time), style::time(*window));
                of(f, "Throttled", who.as_deref(), " process ")?;
                write!(f, ": kept from running {} times", style::count(*times))?;
                write!(f, " in {window} by its cgroup's CPU limit, {time} in all")
            }
            Self::Lock { who, held, waiting, holder, by_holder, place } => {
                of(f, "GIL-bound", who.as_deref(), " process ")?;
                write!(f, ": held {held} of the time, {waiting:.1} threads wait; ")?;
                write!(f, "{holder} holds it {by_holder}")?;
                place.iter().try_for_each(|place| write!(f, ", in {place}"))
            }
            Self::Loop { thread, kept, by, call } => {
                of(f, "Event loop", thread.as_deref(), " of ")?;
                let how = if call.is_some() { "blocked" } else { "busy" };
                write!(f, " {how} {kept}")?;
                by.iter().try_for_each(|(place, share)| write!(f, "; {share} by {place}"))?;
                call.iter().try_for_each(|call| write!(f, ", asleep in {call}"))
            }
            Self::Spin { thread, running, call, calling, place } => {
                write!(f, "{thread} spins: on CPU {running} of the time, {calling} of that in ")?;
                write!(f, "{call}, which returns at once")?;
                place.iter().try_for_each(|place| write!(f, "; from {place}"))
            }
            Self::Function { function, share, cores } => {
                write!(f, "{function} alone is {share} of the time on CPU, of {cores:.2} cores")
            }
            Self::Queue { queued } => {
                write!(f, "Short of CPUs: threads that could run wait {queued} of the time for one")
            }
            Self::Wait { share, call, place, object } => {
                write!(f, "Waiting: {share} of the time in {}", object.as_ref().unwrap_or(call))?;
                place.iter().try_for_each(|place| write!(f, "; from {place}"))
            }
        }
    }
}

/// The first words, and of whom they are told.
fn of(f: &mut fmt::Formatter<'_>, what: &str, who: Option<&str>, between: &str) -> fmt::Result {
    f.write_str(what)?;
    who.map_or(Ok(()), |who| write!(f, "{between}{who}"))
}
