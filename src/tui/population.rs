//! The samples that are shown, in the words in which they are shown: what every
//! tab is made from.

use std::time::Duration;

use crate::{
    profile::ThreadId,
    task::{Lock, State},
};

/// The samples that are shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Population {
    /// The functions, each once.
    pub functions: Vec<Function>,
    /// The stacks: those of one thread in one state that are equal, once.
    pub stacks: Vec<Path>,
    /// The samples, in ticks, of which every share is a share: what `stacks`
    /// add up to.
    pub ticks: u64,
    /// The time that they stand for, likewise: of CPUs or of the wall, as what
    /// is shown.
    pub time: Duration,
    /// Whether that is the time of CPUs.
    pub on_cpu: bool,
}

/// A function, or what rows are to be made of instead: a line, or a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The source file as the debug information has it.
    pub file: Option<String>,
    /// The line where the function begins; of a line, that.
    pub line: Option<u32>,
    /// The file name of the image that holds its code.
    pub module: Option<String>,
    /// Whether it is machine code in a program that has a language runtime.
    pub native: bool,
}

/// A stack, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Its functions, the outermost first, as indices into
    /// [`Population::functions`], and the line that each of them ran.
    pub frames: Vec<(usize, Option<u32>)>,
    /// Whose.
    pub thread: ThreadId,
    /// What the thread was doing.
    pub state: State,
    /// What it had to do with the interpreter lock.
    pub lock: Lock,
    /// How often it was seen.
    pub ticks: u64,
    /// The time that it stands for: of CPUs or of the wall, as what is shown.
    pub time: Duration,
}

impl Population {
    /// How many samples of a path its share rests on: a thread that waits for a
    /// CPU is seen at each tick, too, and uses none.
    pub fn samples(&self, path: &Path) -> u64 {
        if self.on_cpu && path.state == State::Queued { 0 } else { path.ticks }
    }

    /// `time` as a share of all, 0 to 1; 0 where there is none.
    pub fn share(&self, time: Duration) -> f64 {
        if self.time.is_zero() {
            0.0
        } else {
            (time.as_secs_f64() / self.time.as_secs_f64()).min(1.0)
        }
    }
}

/// Half the width of the 95 % interval of a share that was seen in so many
/// samples: that of a binomial distribution, by Agresti and Coull, which holds
/// also for few samples and for shares near 0 and 1.
#[expect(clippy::cast_precision_loss, reason = "samples are fewer than 2^52")]
pub fn margin(share: f64, samples: u64) -> f64 {
    // The quantile of the normal distribution that leaves 2.5 % on each side.
    const Z: f64 = 1.96;
    if samples == 0 {
        return 1.0;
    }
    let n = samples as f64 + Z * Z;
    let centre = (share * samples as f64 + Z * Z / 2.0) / n;
    Z * (centre * (1.0 - centre) / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_samples_leave_less_doubt() {
        // 41.2 % of 2,880 samples, by hand.
        assert!((margin(0.412, 2880) - 0.018).abs() < 0.0005);
        assert!(margin(0.0, 10) > 0.1, "never seen in ten is not never");
        assert!(margin(0.5, 4) < 0.5);
        assert!((margin(0.5, 0) - 1.0).abs() < f64::EPSILON);
    }
}
