//! What a frame costs, beside framehop on the same snapshots, and what a table
//! costs.
//!
//! The snapshots are of every thread of a live Python, Node and Java, started
//! here; a program that is not installed is left out, aloud.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    reason = "a benchmark fails by panicking, and says what it leaves out"
)]

use std::{
    fs,
    hint::black_box,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use framehop::{ExplicitModuleSectionInfo, Unwinder as _};
use nix::{
    sys::{ptrace, wait::waitpid},
    unistd::Pid,
};
use spy::{
    memory::{Address, Piece},
    module::{Modules, Place, Section},
    snapshot::{Mapping, Register, Registers, Root},
    stack::Frame,
    unwind::{Table, Tables, Unwinder},
};

#[path = "../tests/it/traced.rs"]
mod traced;

const PYTHON: &str = "
import threading, time
def deep(n):
    if n:
        return sorted([n, 1], key=lambda _: deep(n - 1))
    print('ready', flush=True)
    while True:
        sum(range(10_000))
threading.Thread(target=time.sleep, args=(1e5,), daemon=True).start()
deep(12)
";

const NODE: &str = "
function deep(n) {
  if (n) return [n].map(() => deep(n - 1))[0];
  require('fs').writeSync(1, 'ready\\n');
  for (let all = []; ; ) { all.push(Math.random()); if (all.length > 1e4) all.sort(); }
}
deep(12);
";

const JAVA: &str = "
class Busy {
  static long deep(int n) {
    if (n > 0) return java.util.stream.LongStream.of(n).map(x -> deep(n - 1)).sum();
    System.out.println(\"ready\");
    for (long x = 1; ; x += Long.toString(x).hashCode()) if (x == 0) return x;
  }
  public static void main(String[] arguments) { deep(12); }
}
";

struct Target(Child);

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Start a program, and wait until it says that it is ready.
fn start(command: &mut Command) -> Option<Target> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let output = child.stdout.take()?;
    let target = Target(child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).ok()?;
    (line == "ready\n").then_some(target)
}

/// Every thread's registers and stack, some times over.
fn capture(pid: Pid) -> Vec<(Registers, Piece)> {
    let mut snapshots = Vec::new();
    for _ in 0..10 {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let tid = thread.unwrap().file_name().to_string_lossy().parse().unwrap();
            let tid = Pid::from_raw(tid);
            if ptrace::seize(tid, ptrace::Options::empty()).is_err() {
                continue;
            }
            ptrace::interrupt(tid).unwrap();
            waitpid(tid, Some(nix::sys::wait::WaitPidFlag::__WALL)).unwrap();
            let registers = ptrace::getregs(tid).unwrap();
            let stack = traced::copy(pid, registers.rsp - 256, 256 << 10);
            ptrace::detach(tid, None).unwrap();
            snapshots.push((traced::known(&registers), stack));
        }
    }
    snapshots
}

type Framehop = framehop::x86_64::UnwinderX86_64<Vec<u8>>;

fn framehop_of(mappings: &[Mapping], modules: &mut Modules) -> Framehop {
    let mut other = Framehop::new();
    let root = Root { directory: "/".into(), map_files: None };
    let mut space = spy::module::AddressSpace::new(mappings.to_vec(), root);
    for mapping in mappings.iter().filter(|mapping| mapping.executable) {
        let place = space.find(mapping.range.start, modules, &Piece::default());
        let Place::Module { module, bias } = place else { continue };
        let bytes = |section: Option<Section<'_>>| section.map(|section| section.bytes.to_vec());
        let range = |section: Option<Section<'_>>| {
            section.map(|section| section.address..section.address + section.bytes.len() as u64)
        };
        let sections = ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: range(module.section(".text")),
            text: bytes(module.section(".text")),
            got_svma: range(module.section(".got")),
            eh_frame_svma: range(module.eh_frame()),
            eh_frame: bytes(module.eh_frame()),
            eh_frame_hdr_svma: range(module.eh_frame_hdr()),
            eh_frame_hdr: bytes(module.eh_frame_hdr()),
            debug_frame: bytes(module.debug_frame()),
            ..Default::default()
        };
        other.add_module(framehop::Module::new(
            module.name().to_owned(),
            mapping.range.start.0..mapping.range.end.0,
            bias,
            sections,
        ));
    }
    other
}

fn walks(c: &mut Criterion, name: &str, command: &mut Command) {
    let Some(target) = start(command) else {
        eprintln!("{name}: left out: it does not start");
        return;
    };
    let pid = Pid::from_raw(target.0.id().cast_signed());
    let mappings = traced::mappings(pid);
    let snapshots = capture(pid);
    let root = Root { directory: "/".into(), map_files: None };
    let mut modules = Modules::default();
    let mut unwinder = Unwinder::new(mappings.clone(), root, Tables::Now);
    let mut other = framehop_of(&mappings, &mut modules);
    let mut frames: Vec<Frame> = Vec::new();
    let mut ends = std::collections::BTreeMap::new();
    for (registers, stack) in &snapshots {
        let walk = unwinder.unwind(&mut modules, registers, stack, &mut frames);
        *ends.entry(walk.end).or_insert(0) += 1;
    }
    let ours = frames.len();
    let mut cache = framehop::x86_64::CacheX86_64::new();
    let theirs: u64 =
        snapshots.iter().map(|snapshot| walk_by_framehop(&mut other, &mut cache, snapshot)).sum();
    let count = snapshots.len();
    eprintln!("{name}: {count} stacks, {ours} frames, framehop {theirs}; {ends:?}");

    // The least of many rounds is what it costs on a machine with other work,
    // too.
    let least = least_of(ours as u64, || {
        for (registers, stack) in &snapshots {
            frames.clear();
            black_box(unwinder.unwind(&mut modules, registers, stack, &mut frames));
        }
    });
    let framehops = least_of(theirs, || {
        for snapshot in &snapshots {
            black_box(walk_by_framehop(&mut other, &mut cache, snapshot));
        }
    });
    eprintln!("{name}: at least {least:.1} ns a frame, framehop {framehops:.1}");

    let mut group = c.benchmark_group(format!("walk/{name}"));
    group.throughput(Throughput::Elements(ours as u64));
    group.bench_function("spy", |bench| {
        bench.iter(|| {
            for (registers, stack) in &snapshots {
                frames.clear();
                black_box(unwinder.unwind(&mut modules, registers, stack, &mut frames));
            }
        });
    });
    group.throughput(Throughput::Elements(theirs));
    group.bench_function("framehop", |bench| {
        bench.iter(|| {
            for snapshot in &snapshots {
                black_box(walk_by_framehop(&mut other, &mut cache, snapshot));
            }
        });
    });
    group.finish();
}

/// The fewest nanoseconds that one of `count` takes.
fn least_of(count: u64, mut round: impl FnMut()) -> f64 {
    let end = Instant::now() + Duration::from_secs(1);
    let rounds = (0..).take_while(|_| Instant::now() < end).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed()
    });
    rounds.min().unwrap_or_default().as_secs_f64() * 1e9 / count as f64
}

fn walk_by_framehop(
    unwinder: &mut Framehop,
    cache: &mut framehop::x86_64::CacheX86_64,
    (registers, stack): &(Registers, Piece),
) -> u64 {
    let get = |number| registers.get(Register(number)).unwrap();
    let mut read = |at| {
        let bytes = stack.slice(Address(at), 8).ok_or(())?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| ())?))
    };
    let start = framehop::x86_64::UnwindRegsX86_64::new(get(16), get(7), get(6));
    let mut frames = unwinder.iter_frames(get(16), start, cache, &mut read);
    let mut found = 0;
    while let Ok(Some(frame)) = frames.next() {
        black_box(frame);
        found += 1;
    }
    found
}

fn live(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    walks(c, "python3", Command::new("/usr/bin/python3").arg(write("busy.py", PYTHON)));
    walks(c, "node", Command::new("node").arg(write("busy.js", NODE)));
    walks(c, "java", Command::new("java").arg(write("Busy.java", JAVA)));
}

/// What compiling costs, by byte of unwind data.
fn tables(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    group.sample_size(10);
    for path in ["/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/python3", "/usr/bin/node"] {
        let Ok(file) = fs::read(path) else { continue };
        let file = object::File::parse(&*file).unwrap();
        use object::{Object as _, ObjectSection as _};
        let Some(section) = file.section_by_name(".eh_frame") else { continue };
        let section = Section { address: section.address(), bytes: section.data().unwrap() };
        let table = Table::compile(Some(section), None);
        let (size, data) = (table.size(), section.bytes.len());
        eprintln!("{path}: {data} bytes of unwind data, a table of {size}");
        let least = least_of(1, || {
            black_box(Table::compile(Some(section), None));
        });
        let each = least / 1e6 / data as f64 * 1e6;
        eprintln!("{path}: at least {each:.1} ms for a megabyte");
        group.throughput(Throughput::Bytes(data as u64));
        let name = Path::new(path).file_name().unwrap().to_string_lossy().into_owned();
        group.bench_function(name, |bench| bench.iter(|| Table::compile(Some(section), None)));
    }
    group.finish();
}

criterion_group!(benches, live, tables);
criterion_main!(benches);
