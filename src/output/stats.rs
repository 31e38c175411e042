//! What a recording did and cost, as JSON. `docs/output.md` says what the keys
//! mean.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{
    profile::{Costs, ProcessId, Profile, ThreadId, Throttled},
    stack::End,
};

/// `costs`, for the recording of `profile`.
pub fn stats(profile: &Profile, costs: &Costs) -> Value {
    let ends: Map<String, Value> = End::ALL
        .iter()
        .zip(costs.ends)
        .map(|(end, count)| (end.key().into(), count.into()))
        .collect();
    let sampled = sampled(profile);
    let processes: Vec<Value> = (0..)
        .zip(profile.processes())
        .zip(sampled)
        .map(|((id, process), (samples, cpu))| {
            json!({
                "pid": process.pid.0,
                "command": process.command,
                "kernel_cpu_seconds": process.kernel_cpu.as_secs_f64(),
                "sampled_cpu_seconds": cpu.as_secs_f64(),
                "samples": samples,
                "throttled": profile.throttled(ProcessId(id)).map(throttled),
                "threads": threads(profile, ProcessId(id)),
            })
        })
        .collect();
    let held = |share| micros(costs.held.quantile(share));
    json!({
        "duration_seconds": costs.duration.as_secs_f64(),
        "ticks": { "wanted": costs.ticks_wanted, "made": costs.ticks, "late": costs.ticks_late },
        "samples": {
            "stopped": costs.caught.stopped,
            "still": costs.caught.still,
            "unchanged": costs.caught.unchanged,
            "glanced": costs.caught.glanced,
            "missed": costs.caught.missed,
            "torn": costs.caught.torn,
            "partial": costs.caught.partial,
            "blind": costs.caught.blind,
        },
        "held_microseconds": {
            "stops": costs.held.count(),
            "p50": held(0.5),
            "p95": held(0.95),
            "p99": held(0.99),
            "max": micros(costs.held.max()),
            "total": micros(costs.held.total()),
        },
        "first_sample_seconds": costs.first_sample.as_secs_f64(),
        "own": { "cpu_seconds": costs.own_cpu.as_secs_f64(), "memory_bytes": costs.own_memory },
        "stacks": {
            "ends": ends,
            "unmerged": costs.unmerged,
            "distinct": profile.stacks(),
        },
        "cpu_seconds": {
            "kernel": costs.kernel_cpu.as_secs_f64(),
            "sampled": costs.sampled_cpu.as_secs_f64(),
        },
        "system_calls": costs.system_calls,
        "processes": processes,
        "met": {
            "watched": costs.met.watched,
            "missed": costs.met.missed,
            "refused": costs.met.refused,
        },
        "notes": costs.notes,
    })
}

fn throttled(throttled: Throttled) -> Value {
    json!({ "times": throttled.times, "seconds": throttled.time.as_secs_f64() })
}

/// What the threads of a process did with their time.
fn threads(profile: &Profile, process: ProcessId) -> Vec<Value> {
    let all = (0..).map(ThreadId).zip(profile.threads());
    all.filter(|(_, thread)| thread.process == process)
        .map(|(id, thread)| {
            let spent = profile.spent(id);
            json!({
                "tid": thread.tid.0,
                "name": thread.name,
                "wall_seconds": spent.wall.as_secs_f64(),
                "cpu_seconds": spent.cpu.as_secs_f64(),
                "queued_seconds": spent.queued.as_secs_f64(),
                "blocked_seconds": spent.blocked().as_secs_f64(),
            })
        })
        .collect()
}

/// The samples of each process, and the CPU time that they stand for.
fn sampled(profile: &Profile) -> Vec<(u64, Duration)> {
    let mut sums = vec![(0, Duration::ZERO); profile.processes().len()];
    for (key, weight) in profile.samples() {
        let thread = profile.threads().get(key.thread.0 as usize);
        let sum = thread.and_then(|thread| sums.get_mut(thread.process.0 as usize));
        if let Some((samples, cpu)) = sum {
            *samples += weight.ticks;
            *cpu += weight.cpu;
        }
    }
    sums
}

#[expect(clippy::cast_precision_loss, reason = "a time in microseconds, to be read by people")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}
