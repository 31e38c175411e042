//! One thread at one tick: whether it is as it was, and if not, how its stack
//! is got and counted.

use std::time::{Duration, Instant};

use super::{
    Stopping,
    engine::{Engine, Examined, Facts},
    glance::Glance,
    shared::{How, NO_SCHEDSTAT, NOT_STOPPED, Shared},
    watched::{Asked, Found, Settled, Watched},
};
use crate::{
    capture::{Ask, Catch, Look, Stops},
    snapshot::Registers,
    stack::{End, Stack},
    task::{Lock, State},
};

/// The thread has ended.
pub(super) struct Gone;

/// How often is made sure that a thread that does not stop is still awaited.
const CONFIRM: Duration = Duration::from_millis(100);

/// What the gate says of a thread.
pub(super) enum Passed {
    /// It has not run, and was counted; or it was asked before, and is awaited.
    Done,
    /// It has run.
    Changed,
}

/// Let one thread pass the gate.
pub(super) fn pass(
    engine: &Engine,
    watched: &mut Watched,
    now: Instant,
    stops: &mut Stops,
    shared: &mut Shared,
) -> Result<Passed, Gone> {
    watched.looked = now;
    let schedule = watched.gate.schedule().map_err(|_| Gone)?;
    watched.latest = schedule;
    shared.calls += 1;
    if let Some(asked) = &mut watched.asked {
        shared.calls += 1;
        asked.pass(&watched.gate, schedule, now);
        if now.saturating_duration_since(asked.confirmed) >= CONFIRM {
            asked.confirmed = now;
            // In an exec it may have become another thread, and as a first
            // thread it may have ended without a word.
            if !engine.process.is_awaited(watched.tid) {
                stops.forget(watched.tid);
                give_up(watched, shared);
            }
        }
        return if stops.is_pending(watched.tid) || watched.asked.is_none() {
            Ok(Passed::Done)
        } else {
            Err(Gone)
        };
    }
    if let Some(found) = watched.unchanged(schedule) {
        sleeps_on(watched, found, now, shared);
        return Ok(Passed::Done);
    }
    // A thread that has not been on a processor yet has nothing to count.
    if schedule.is_none() && watched.samples > 0 {
        shared.note(NO_SCHEDSTAT);
    }
    watched.settled = None;
    watched.seen = schedule;
    Ok(Passed::Changed)
}

/// A thread sleeps as it did before.
pub(super) fn sleeps_on(watched: &mut Watched, found: Found, now: Instant, shared: &mut Shared) {
    // Most threads of most targets, at each tick: counting waits until
    // something else is to be counted.
    watched.found_again(found, now);
    shared.blocked += 1;
}

/// How often is tried to read a thread that sleeps again and again for so
/// short a time that it cannot be read.
const TRIES: usize = 8;

/// How often is looked whether it sleeps again: some microseconds each.
const LOOKS: usize = 32;

/// Read a thread that sleeps; and ask it to stop, if that is not enough.
pub(super) fn read(
    engine: &mut Engine,
    watched: &mut Watched,
    (state, registers, now): (State, &Registers, Instant),
    stops: &mut Stops,
    shared: &mut Shared,
) {
    let process = shared.process_of(watched.id);
    let mut seen = (state, *registers);
    for _ in 0..TRIES {
        shared.calls += 1;
        match engine.examine(watched, seen.0, &seen.1, &mut shared.modules) {
            Examined::Still(sample) => {
                let found = shared.found(process, (sample.state, &sample.facts), &sample.stack);
                watched.settled = Some(Settled { found, since: now, stopped_from: None });
                shared.count(watched, found, (now, 1), How::Still);
                engine.give_back(sample.copied);
                return name(engine, watched, shared);
            }
            Examined::Incomplete(sample) => {
                let found = shared.found(process, (sample.state, &sample.facts), &sample.stack);
                engine.give_back(sample.copied);
                let otherwise = Some((found, Look::Asleep(seen.0, seen.1)));
                let asked = Asked::new(now, otherwise);
                if let Some(wanted) = prepare(engine, watched, asked, shared) {
                    ask(watched, wanted, stops, shared);
                }
                return;
            }
            Examined::Ran => {}
        }
        let Some(again) = sleeps_again(watched, shared) else { break };
        seen = again;
    }
    // It slept when it was looked at. A stop now would show it awake, or would
    // disturb it in its next sleep.
    let nothing = Stack { frames: Vec::new(), end: End::NotCaught };
    let found = shared.found(process, (state, &Facts::default()), &nothing);
    shared.count(watched, found, (now, 1), How::Missed);
}

/// Wait until a thread sleeps that did when it was looked at.
fn sleeps_again(watched: &mut Watched, shared: &mut Shared) -> Option<(State, Registers)> {
    for _ in 0..LOOKS {
        shared.calls += 2;
        watched.seen = watched.gate.schedule().ok().flatten();
        match watched.gate.look() {
            Look::Asleep(state, registers) => return Some((state, registers)),
            Look::Runnable => std::thread::yield_now(),
            Look::Unknown | Look::Ended => return None,
        }
    }
    None
}

/// What to ask a thread for that is to stop; or, where none may be stopped,
/// count it as it is.
pub(super) fn prepare(
    engine: &mut Engine,
    watched: &mut Watched,
    asked: Asked,
    shared: &mut Shared,
) -> Option<Ask> {
    if shared.stopping == Stopping::Never {
        glance(engine, watched, asked, shared);
        return None;
    }
    let at = asked.at;
    watched.asked = Some(asked);
    Some(engine.ask(watched, at))
}

/// Ask a thread to stop.
pub(super) fn ask(watched: &mut Watched, ask: Ask, stops: &mut Stops, shared: &mut Shared) {
    if stops.ask(ask).is_err() {
        // It is ending, or has been refused.
        give_up(watched, shared);
    }
}

/// Count a thread that would have to be stopped, and is not to be.
fn glance(engine: &mut Engine, watched: &mut Watched, asked: Asked, shared: &mut Shared) {
    let at = (asked.at, 1);
    if let Some((found, _)) = asked.otherwise {
        // It sleeps, and its stack is known as far as it can be.
        watched.settled = Some(Settled { found, since: asked.at, stopped_from: None });
        return shared.count(watched, found, at, How::Still);
    }
    shared.note(NOT_STOPPED);
    let nothing = |end| Stack { frames: Vec::new(), end };
    let (how, lock, stack) = match engine.glance(watched) {
        Glance::Frames(stack, facts) => (How::Glanced, facts.lock, stack),
        Glance::Without => (How::Missed, Lock::Without, nothing(End::NotStopped)),
        Glance::Torn => {
            shared.costs.caught.torn += 1;
            (How::Missed, Lock::Without, nothing(End::NotStopped))
        }
    };
    let process = shared.process_of(watched.id);
    // One that sleeps, and the kernel does not say where, has its frames, too.
    let state = if asked.unknown { State::Faulting } else { State::Running };
    let facts = Facts { lock, ..Facts::default() };
    let found = shared.found(process, (state, &facts), &stack);
    shared.count(watched, found, at, how);
    name(engine, watched, shared);
}

/// Count a thread that was asked to stop with what is known without the stop.
pub(super) fn give_up(watched: &mut Watched, shared: &mut Shared) {
    shared.count_again(watched);
    let Some(asked) = watched.asked.take() else { return };
    let process = shared.process_of(watched.id);
    let found = asked.otherwise.map_or_else(
        || {
            let nothing = Stack { frames: Vec::new(), end: End::NotCaught };
            let state = asked.state.unwrap_or(State::Running);
            shared.found(process, (state, &Facts::default()), &nothing)
        },
        |(found, _)| found,
    );
    count(watched, found, &asked, How::Missed, shared);
}

/// Count a thread that was asked to stop, for the tick at which it was asked
/// and for those that have passed since.
fn count(watched: &mut Watched, found: Found, asked: &Asked, how: How, shared: &mut Shared) {
    shared.costs.caught.blind += u64::from(asked.unknown && how == How::Stopped);
    shared.count(watched, found, (asked.at, 1), how);
    for &(state, ticks, until) in &asked.later {
        shared.count(watched, Found { state, ..found }, (until, ticks), how);
    }
}

/// A thread was caught: unwind it, and count it.
pub(super) fn finish(
    engine: &mut Engine,
    watched: &mut Watched,
    caught: Catch,
    stops: &mut Stops,
    shared: &mut Shared,
) {
    shared.held(caught.held, caught.partial);
    let process = shared.process_of(watched.id);
    let Some(asked) = &mut watched.asked else { return };
    let (state, at) = (asked.judge(&caught), asked.at);
    watched.latest = caught.schedule;
    let Some(sample) = engine.finish(watched, caught, &mut shared.modules) else {
        if stops.ask(engine.ask(watched, at)).is_err() {
            give_up(watched, shared);
        }
        return;
    };
    let Some(asked) = watched.asked.take() else { return };
    let found = shared.found(process, (state, &sample.facts), &sample.stack);
    let slept = asked.otherwise.map(|(_, look)| look).or(asked.unknown.then_some(Look::Unknown));
    if slept.is_some() {
        watched.settled = Some(Settled { found, since: at, stopped_from: slept });
    }
    count(watched, found, &asked, How::Stopped, shared);
    engine.give_back(sample.copied);
    name(engine, watched, shared);
}

fn name(engine: &mut Engine, watched: &mut Watched, shared: &mut Shared) {
    if watched.name_is_due() {
        shared.name_thread(watched.id, engine.name(watched));
    }
}
