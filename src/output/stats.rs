//! What a recording did and cost, as JSON. `docs/output.md` says what the keys
//! mean.

use serde_json::{Map, Value, json};

use crate::{
    profile::{Costs, Profile},
    stack::End,
};

/// `costs`, for the recording of `profile`.
pub fn stats(profile: &Profile, costs: &Costs) -> Value {
    let ends: Map<String, Value> = End::ALL
        .iter()
        .zip(costs.ends)
        .map(|(end, count)| (end.key().into(), count.into()))
        .collect();
    let processes: Vec<Value> = profile
        .processes()
        .iter()
        .map(|process| {
            json!({
                "pid": process.pid.0,
                "command": process.command,
                "kernel_cpu_seconds": process.kernel_cpu.as_secs_f64(),
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
            "missed": costs.caught.missed,
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
        "notes": costs.notes,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a time in microseconds, to be read by people")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}
