//! `spy capture`: a snapshot as files, for tests of the unwinder.

use anyhow::Context;

use super::{
    console::Console,
    exit::Exit,
    plan::{Capture, Targets},
    refusal, target,
};
use crate::{sampler, snapshot::archive};

/// Look once at a process, and write what the unwinder saw.
pub(super) fn run(job: &Capture, console: &Console) -> anyhow::Result<Exit> {
    target::processes(&Targets::Processes(vec![job.pid]), console)?;
    let captured = sampler::capture(job.pid).map_err(|error| refusal::explain(&error))?;
    let shown = job.directory.display();
    let written = archive::write(&captured.snapshot, &job.directory)
        .with_context(|| format!("{shown} cannot be written"))?;
    for path in &written.left_out {
        console.warn(&format!("left out: {}", path.display()));
    }
    let threads = captured.snapshot.threads.len();
    console.say(&format!("Wrote {shown}: {threads} threads, {} files", written.files));
    Ok(Exit::Done)
}
