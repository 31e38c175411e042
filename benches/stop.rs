//! How long it takes to stop a thread and copy it, beside the shortest that can be had: a bare loop
//! of seize, interrupt, wait, registers, 16 KiB of stack, detach.
//!
//! Both are measured in turns on the same thread of the same target, so that
//! a noisy machine is noisy for both. Prints the quantiles, and their ratio.

#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]

use std::{
    error::Error,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{SigSet, Signal},
    unistd,
};
use spy::{
    capture::{Arrival, Ask, Copied, Depth, Gate, Stops, Watch},
    memory::WorkingSet,
    process::LiveMemory,
    profile::Histogram,
    task::{Pid, Tid},
};

#[path = "rows/bare.rs"]
mod bare;

const ROUNDS: u32 = 3000;

/// A target that does nothing but run, and ends with this program.
struct Busy(Child);

impl Busy {
    fn start() -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ours(
    stops: &mut Stops,
    spare: &mut Copied,
    (tid, memory, gate): (Tid, &LiveMemory, &Gate),
) -> Result<Duration, Box<dyn Error>> {
    let copied = std::mem::take(spare).prepare(Depth::default(), &WorkingSet::default());
    let schedule = gate.schedule()?;
    let now = Instant::now();
    stops.ask(Ask { tid, copied, schedule, at: now, ran: true })?;
    let mut watch = Watched { memory, gate };
    match stops.next(now + Duration::from_millis(5), &mut watch) {
        Some(Arrival::Caught(caught)) => {
            *spare = caught.copied;
            Ok(now.elapsed())
        }
        other => Err(format!("it was not caught: {other:?}").into()),
    }
}

/// The thread that is stopped.
struct Watched<'a> {
    memory: &'a LiveMemory,
    gate: &'a Gate,
}

impl Watch for Watched<'_> {
    fn of(&self, _: Tid) -> Option<(&LiveMemory, &Gate)> {
        Some((self.memory, self.gate))
    }

    fn inspect(&mut self, _: Tid, _: &mut Copied, _: Instant) -> bool {
        true
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block()?;
    let target = Busy::start()?;
    let pid = Pid(i32::try_from(target.0.id())?);
    let memory = LiveMemory::new(pid);
    let gate = Gate::open(pid, Tid(pid.0))?;
    let mut stops = Stops::default();
    let mut spare = Copied::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut held = [Histogram::default(), Histogram::default()];
    for _ in 0..ROUNDS {
        let times = [
            bare::stop(unistd::Pid::from_raw(pid.0), &mut buffer)?,
            ours(&mut stops, &mut spare, (Tid(pid.0), &memory, &gate))?,
        ];
        for (held, time) in held.iter_mut().zip(times) {
            held.add(u64::try_from(time.as_nanos())?);
        }
    }
    let [bare, ours] = held;
    println!("a stop, in nanoseconds, {ROUNDS} stops of each");
    println!("{:>8} {:>10} {:>10} {:>7}", "", "bare", "spy", "ratio");
    for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        let [bare, ours] = [bare.quantile(share), ours.quantile(share)];
        let ratio = Duration::from_nanos(ours).div_duration_f64(Duration::from_nanos(bare));
        println!("{name:>8} {bare:>10} {ours:>10} {ratio:>7.2}");
    }
    println!("bar: p50 at most 2.00");
    Ok(())
}
