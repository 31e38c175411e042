//! What is shown, written to a file.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, bail};

use super::super::{
    destination::Destination,
    plan::{self, Place},
};
use crate::{
    output::{self, Format, Named, Options},
    profile::{Costs, Profile},
    stack::Symbol,
};

/// What was seen, the functions of its frames, and what it cost.
type Shown = (Profile, Vec<Vec<Symbol>>, Costs);

/// Write `shown` to the file that was typed; what came of it, in a sentence.
pub(super) fn save(path: &str, format: Format, shown: &Shown, options: &Options) -> String {
    match write(path, format, shown, options) {
        Ok(samples) => format!("{path} was written: {samples} samples"),
        Err(error) => {
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            causes.join(": ")
        }
    }
}

fn write(path: &str, format: Format, shown: &Shown, options: &Options) -> anyhow::Result<u64> {
    let (profile, names, costs) = shown;
    let place = match plan::place(Path::new(path)) {
        // That is the terminal.
        Place::Standard | Place::Default => bail!("{path} cannot be written: it is no file"),
        place => place,
    };
    let samples = output::samples(profile, options);
    if samples == 0 {
        bail!("nothing is shown, so nothing was written");
    }
    let destination = Destination::open(&place, Path::new(path))?;
    let mut out = BufWriter::new(destination.writer()?);
    output::write(format, Named { profile, costs, names }, options, &mut out)
        .and_then(|()| out.flush())
        .with_context(|| format!("{path} cannot be written"))?;
    destination.finish()?;
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::{
        output::{Lines, Locks, Mode, Paths, Threads, View},
        profile::{Key, Process, ProcessId, Thread, ThreadId, Weight},
        stack::{End, Stack},
        task::{Lock, Pid, State, Tid},
    };

    const OPTIONS: Options = Options {
        mode: Mode::OnCpu,
        locks: Locks::Any,
        view: View::Default,
        lines: Lines::First,
        paths: Paths::Short,
        threads: Threads::Merged,
        rate: 100.0,
    };

    fn shown() -> Shown {
        let mut profile = Profile::default();
        let (pid, command) = (Pid(7), "seven".to_owned());
        profile.add_process(Process { pid, command, kernel_cpu: Duration::ZERO });
        let (process, tid) = (ProcessId(0), Tid(7));
        profile.add_thread(Thread { process, tid, name: "seven".to_owned() });
        let stack = profile.intern(process, &Stack { frames: Vec::new(), end: End::NotCaught });
        let (thread, state, lock) = (ThreadId(0), State::Running, Lock::Without);
        let wall = Duration::from_millis(10);
        let weight = Weight { ticks: 3, wall, cpu: wall, queued: Duration::ZERO };
        profile.count(Key { thread, state, lock, stack }, weight);
        (profile, Vec::new(), Costs::default())
    }

    #[test]
    fn a_file_is_written_and_what_came_of_it_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.folded");
        let path = path.to_str().unwrap();
        let said = save(path, Format::Collapsed, &shown(), &OPTIONS);
        assert_eq!(said, format!("{path} was written: 3 samples"));
        assert!(fs::read_to_string(path).unwrap().ends_with(" 10000\n"));

        let missing = directory.path().join("none/a.svg");
        let said = save(missing.to_str().unwrap(), Format::Flamegraph, &shown(), &OPTIONS);
        assert!(said.contains("cannot be written"), "{said}");
        let nothing = (Profile::default(), Vec::new(), Costs::default());
        let said = save(path, Format::Collapsed, &nothing, &OPTIONS);
        assert!(said.contains("nothing was written"), "{said}");
        assert!(save("-", Format::Collapsed, &shown(), &OPTIONS).contains("it is no file"));
    }
}
