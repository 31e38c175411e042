//! Stopping threads: all that are to be stopped are asked at once, and each is
//! handled when it arrives, in whatever order they do. Nothing here waits for
//! one of them.

use std::{
    io,
    marker::PhantomData,
    time::{Duration, Instant},
};

use procfs::FromRead;
use rustc_hash::FxHashMap;

use super::{Copied, Gate, Schedule, registers};
use crate::{
    memory::Address,
    process::LiveMemory,
    snapshot::{Architecture, Registers},
    sys::{priority, ptrace, signal},
    task::{Pid, Syscall, Tid},
};

/// No thread is worked on for longer while it is held: what was not copied by
/// then is not copied. Counted from when its stop was seen; to what went before
/// nothing can be done any more.
const LONGEST: Duration = Duration::from_micros(800);

/// A thread that is held still. Dropping this lets it run again.
///
/// Registers can be read only through it, so that they cannot be read from a
/// running thread by mistake.
#[derive(Debug)]
struct Stopped {
    tid: Tid,
    /// The signal that it was about to receive, which it will.
    signal: i32,
    /// Not `Send`: the kernel answers only the thread that attached.
    tracer: PhantomData<*const ()>,
}

impl Stopped {
    fn registers(&self) -> io::Result<libc::user_regs_struct> {
        ptrace::registers(self.tid)
    }
}

impl Stopped {
    /// Let it run again; whether it was still there.
    fn release(self) -> bool {
        let was_there = ptrace::detach(self.tid, self.signal).is_ok();
        std::mem::forget(self);
        was_there
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been killed meanwhile; then there is nothing to let go.
        let _ = ptrace::detach(self.tid, self.signal);
    }
}

/// A thread that is to be stopped.
#[derive(Debug)]
pub struct Ask {
    /// The thread.
    pub tid: Tid,
    /// Where its memory is to be copied.
    pub copied: Copied,
    /// Its schedule when it was looked at.
    pub schedule: Option<Schedule>,
    /// The moment that the sample is about.
    pub at: Instant,
    /// Whether the thread ran when it was looked at: a system call that the
    /// stop finds it blocked in has only just begun.
    pub ran: bool,
}

/// What became of a thread that was asked to stop.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time, and not for long")]
pub enum Arrival {
    /// It was stopped, copied, and let go.
    Caught(Catch),
    /// It has ended instead.
    Ended(Tid),
}

/// A thread as it was in a stop.
#[derive(Debug)]
pub struct Catch {
    /// The thread.
    pub tid: Tid,
    /// All its registers.
    pub registers: Registers,
    /// Its memory.
    pub copied: Copied,
    /// Whether it was waiting for a processor at the moment that the sample is
    /// about. `None` where the kernel does not count.
    pub queued: Option<bool>,
    /// How long it was held, at most: from the last moment at which it had
    /// not yet stopped.
    pub held: Duration,
    /// Whether it was let go before all was copied.
    pub partial: bool,
    /// Its schedule during the stop: exact, also for a thread that runs on and
    /// on.
    pub schedule: Option<Schedule>,
    /// The system call that the stop found it blocked in, if any.
    pub interrupted: Option<Syscall>,
}

/// Whoever has threads stopped: what a catch needs of it.
pub trait Watch {
    /// The memory of the process of a thread that was asked, and its gate.
    fn of(&self, tid: Tid) -> Option<(&LiveMemory, &Gate)>;

    /// Read what belongs to the moment at which `copied` was filled and is not
    /// in it, while the thread is held, until `deadline`; whether that was
    /// enough.
    fn inspect(&mut self, tid: Tid, copied: &mut Copied, deadline: Instant) -> bool;
}

#[derive(Clone, Copy, Debug, Default)]
enum Urgency {
    /// It was not tried yet.
    #[default]
    Untried,
    Ordinary,
    Urgent,
    /// It was refused, or somebody has chosen otherwise for this program.
    Refused,
}

impl Urgency {
    /// Whether a system call was made for it.
    fn set(&mut self, urgent: bool) -> bool {
        *self = match (*self, urgent) {
            (Self::Untried, true) if !priority::is_ordinary() => Self::Refused,
            (Self::Untried | Self::Ordinary, true) if priority::set_urgent(true) => Self::Urgent,
            (Self::Untried | Self::Ordinary, true) => Self::Refused,
            (Self::Urgent, false) if priority::set_urgent(false) => Self::Ordinary,
            _ => return false,
        };
        true
    }
}

/// Whether others want the processors that this program wants.
///
/// To ask for real-time priority and to give it back takes as long as to copy
/// a thread; where nobody else wants the processor it gains nothing.
#[derive(Debug)]
struct Crowd {
    is_there: bool,
    /// What the kernel counts of the thread that traces.
    own: Option<Gate>,
    waited: u64,
    turns: u32,
    /// Whether a thread was awaited in this turn.
    waits: bool,
    /// How often in a row nobody else was seen.
    quiet: u32,
}

impl Default for Crowd {
    fn default() -> Self {
        Self { is_there: true, own: None, waited: 0, turns: 0, waits: false, quiet: 0 }
    }
}

impl Crowd {
    /// So many turns are judged by what was waited in them.
    const TURNS: u32 = 32;
    /// Who waits for longer than this in a turn, on average, is in a crowd.
    const LONG: u64 = 20_000;

    /// Judge anew, if it is time to; whether a system call was made for it.
    fn look(&mut self) -> bool {
        if !std::mem::take(&mut self.waits) {
            return false;
        }
        self.turns += 1;
        if !self.turns.is_multiple_of(Self::TURNS) {
            return false;
        }
        if self.own.is_none() {
            let pid = Pid(std::process::id().cast_signed());
            self.own = Gate::open(pid, Tid(nix::unistd::gettid().as_raw())).ok();
        }
        let schedule = self.own.as_ref().and_then(|own| own.schedule().ok().flatten());
        // Where the kernel does not count it is safer to go before others.
        let crowded = schedule.is_none_or(|now| {
            let waited = now.wait.saturating_sub(std::mem::replace(&mut self.waited, now.wait));
            waited > Self::LONG * u64::from(Self::TURNS)
        });
        // Who goes before others waits less: one look is not enough.
        self.quiet = if crowded { 0 } else { self.quiet + 1 };
        self.is_there = self.quiet < 2;
        true
    }
}

#[derive(Debug)]
struct Pending {
    ask: Ask,
    /// The last moment at which it had not yet stopped.
    running: Instant,
}

/// The threads that were asked to stop and have not arrived.
///
/// All of it belongs to one thread of this program, the tracer; when that
/// ends, the kernel lets every one of them go.
#[derive(Debug, Default)]
pub struct Stops {
    pending: FxHashMap<Tid, Pending>,
    /// Whether this program goes before others. A thread that has stopped
    /// waits for us; on a busy machine it would do so for milliseconds.
    urgent: Urgency,
    crowd: Crowd,
    /// Threads that were killed while they were held or awaited.
    dying: Vec<Tid>,
    /// Whether a child of this program has ended that was traced: somebody else
    /// is to be told how.
    has_dead_child: bool,
    /// How many threads are to be awaited asleep, because it was in vain to
    /// look for one of them again and again.
    in_vain: u32,
    calls: u64,
    tracer: PhantomData<*const ()>,
}

impl Stops {
    /// How many have not arrived.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether `tid` was asked, and has not arrived.
    pub fn is_pending(&self, tid: Tid) -> bool {
        self.pending.contains_key(&tid)
    }

    /// Go before others from now on, as long as a thread is awaited, if this
    /// program otherwise waits for processors.
    fn hurry(&mut self) {
        self.crowd.waits = true;
        if self.crowd.is_there {
            self.calls += u64::from(self.urgent.set(true));
        }
    }

    /// Go before others no longer: no thread is known to be held, and there is
    /// work to do that nobody waits for.
    pub fn relax(&mut self) {
        self.calls += u64::from(self.urgent.set(false)) + u64::from(self.crowd.look());
    }

    /// How long to look for a thread before going to sleep.
    fn patience(&mut self) -> Duration {
        match self.in_vain.checked_sub(1) {
            None => SPIN,
            Some(left) => {
                self.in_vain = left;
                Duration::ZERO
            }
        }
    }

    /// Give up a thread that is known to be gone.
    pub fn forget(&mut self, tid: Tid) {
        if self.pending.remove(&tid).is_some() {
            self.dying.push(tid);
        }
    }

    /// Wait for threads that were killed while they were held or awaited: until
    /// their tracer has, they are not gone, nor is their process.
    pub fn bury(&mut self) {
        self.dying.retain(|&tid| !is_own_child(tid) && !ptrace::reap(tid));
    }

    /// What has become of any thread that was asked.
    fn poll(&self) -> io::Result<Option<ptrace::Event>> {
        if !self.has_dead_child {
            return ptrace::poll();
        }
        // What has ended and is not ours to take would be met for ever.
        let mut one_by_one = self.pending.keys().map(|&tid| ptrace::poll_one(tid));
        Ok(one_by_one.find_map(|event| event.ok().flatten()))
    }

    /// Whether a thread that was asked for a sample at `at` has not arrived.
    pub fn awaits(&self, at: Instant) -> bool {
        self.pending.values().any(|pending| pending.ask.at == at)
    }

    /// How many system calls were made.
    pub const fn calls(&self) -> u64 {
        self.calls
    }

    /// Ask a thread to stop.
    ///
    /// # Errors
    /// `ESRCH` when it is gone, `EPERM` when it is going or may not be traced.
    pub fn ask(&mut self, ask: Ask) -> io::Result<()> {
        self.calls += 2;
        ptrace::seize(ask.tid)?;
        self.hurry();
        let running = Instant::now();
        // A thread that dies here will be reaped when it arrives as ended.
        let _ = ptrace::interrupt(ask.tid);
        self.pending.insert(ask.tid, Pending { ask, running });
        Ok(())
    }

    /// Take the next thread that has arrived, waiting for one until `until`.
    pub fn next(&mut self, until: Instant, watch: &mut dyn Watch) -> Option<Arrival> {
        let began = Instant::now();
        let mut awake = None;
        while !self.pending.is_empty() {
            self.hurry();
            self.calls += 1;
            let before = Instant::now();
            match self.poll() {
                Ok(Some(ptrace::Event::Ended(tid))) => {
                    // How a child of this program ended, it is told itself.
                    if is_own_child(tid) {
                        self.has_dead_child = true;
                    } else {
                        ptrace::reap(tid);
                    }
                    self.pending.remove(&tid);
                    return Some(Arrival::Ended(tid));
                }
                Ok(Some(ptrace::Event::Stopped { tid, signal })) => {
                    let stopped = Stopped { tid, signal, tracer: PhantomData };
                    let Some(pending) = self.pending.remove(&tid) else { continue };
                    if watch.of(tid).is_none() {
                        continue;
                    }
                    if let Some(caught) = self.catch(stopped, pending, watch) {
                        return Some(Arrival::Caught(caught));
                    }
                    return Some(Arrival::Ended(tid));
                }
                Ok(None) | Err(_) => {}
            }
            for pending in self.pending.values_mut() {
                pending.running = before;
            }
            if before >= until {
                return None;
            }
            // A thread that runs on another processor stops within some
            // microseconds, sooner than this one could be woken again.
            let awake = *awake.get_or_insert_with(|| self.patience());
            if before.saturating_duration_since(began) < awake {
                while before.elapsed() < PACE {
                    std::hint::spin_loop();
                }
            } else {
                if !awake.is_zero() {
                    self.in_vain = IN_VAIN;
                }
                let left = until.saturating_duration_since(before);
                self.calls += 1;
                signal::wait_for_child(left.min(LONGEST_SLEEP));
            }
        }
        None
    }

    /// All that is done while a thread is held.
    fn catch(
        &mut self,
        stopped: Stopped,
        pending: Pending,
        watch: &mut dyn Watch,
    ) -> Option<Catch> {
        self.calls += 3;
        let Pending { ask: Ask { tid, mut copied, schedule, at, ran }, running } = pending;
        let kernel = stopped.registers().ok()?;
        let registers = registers::from_kernel(&kernel);
        let sp = Address(registers.get(Architecture::HOST.sp())?);
        let deadline = Instant::now() + LONGEST;
        let (memory, gate) = watch.of(tid)?;
        let in_time = copied.fill(memory, sp, Some(deadline));
        let after = gate.schedule().ok().flatten();
        let in_time = watch.inspect(tid, &mut copied, deadline) && in_time;
        let queued = schedule.zip(after).map(|(before, after)| {
            // The kernel counts the waiting of a thread when it ends. One that
            // waited for longer than it is since that moment waited at it. One
            // that waited less was on a processor then, and has lost it, often
            // to this very program.
            let waited = Duration::from_nanos(after.wait.saturating_sub(before.wait));
            waited > at.elapsed()
        });
        if let Some(again) = registers::unnoticed(&kernel, ran) {
            // If it cannot be set the thread has just been killed.
            let _ = ptrace::set_registers(tid, again);
        }
        if !stopped.release() {
            self.dying.push(tid);
        }
        let held = running.elapsed();
        let interrupted = registers::interrupted(&kernel);
        let (partial, schedule) = (!in_time, after);
        Some(Catch { tid, registers, copied, queued, held, partial, schedule, interrupted })
    }
}

/// Whether `tid` is the first thread of a process that this one has started.
fn is_own_child(tid: Tid) -> bool {
    let status = procfs::process::Status::from_file(format!("/proc/{tid}/status"));
    let own = i32::try_from(std::process::id());
    status.is_ok_and(|status| status.tgid == tid.0 && own == Ok(status.ppid))
}

/// Should SIGCHLD not come, because some thread of this program does not block
/// it, a thread that has stopped is found after this long.
const LONGEST_SLEEP: Duration = Duration::from_millis(5);

/// Before this program goes to sleep it looks for so long, this often. To stop
/// takes a thread on another processor 15 to 60 µs (measured on a virtual
/// machine), and a sleep would cost both as much again: the processors that
/// idle meanwhile have to be woken.
const SPIN: Duration = Duration::from_micros(100);
const PACE: Duration = Duration::from_micros(3);

/// After that was in vain it is not tried for so many threads: they are waiting
/// for a processor, perhaps for the very one that this program is on.
const IN_VAIN: u32 = 16;
