//! A program is stepped instruction by instruction, and unwound at each of
//! them. What its stack must be is known from the calls and returns that were
//! stepped over, and from nothing else.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    libc::user_regs_struct,
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use spy::{
    memory::{Address, Fault, Memory, Piece},
    module::Modules,
    snapshot::{Architecture, Registers, Root},
    stack::{CodeAddress, End, Frame, ModuleId},
    unwind::{Tables, Unwinder},
};

use crate::traced::{copy, known, mappings};

/// How many instructions a run may take.
const MOST_STEPS: usize = 200_000;

#[test]
fn not_optimised() {
    steps_right("O0", &["-O0", "-Wl,-z,lazy"]);
}

#[test]
fn optimised() {
    steps_right("O2", &["-O2", "-Wl,-z,lazy"]);
}

#[test]
fn optimised_with_frame_pointers() {
    steps_right("O2-fp", &["-O2", "-fno-omit-frame-pointer", "-Wl,-z,now"]);
}

#[test]
fn small_with_control_flow_protection() {
    steps_right("Os-cet", &["-Os", "-fcf-protection=full", "-Wl,-z,lazy", "-fno-plt"]);
}

#[test]
fn static_without_frame_pointers() {
    steps_right("O1-static", &["-O1", "-fomit-frame-pointer", "-static"]);
}

#[test]
fn stripped_and_gimli_alone() {
    let program = build("O3-stripped", &["-O3", "-s", "-Wl,-z,lazy"]);
    step_through(&program, Tables::Never);
}

/// Programs that nobody here compiled, from where they wait for their input.
/// openssl's hand-written assembly keeps its frames where it likes.
///
/// With `SPY_ALL_STEPS=1` each is stepped much farther.
#[test]
fn programs_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let (rsa, ec) = (directory.path().join("rsa.pem"), directory.path().join("ec.pem"));
    generate(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], &rsa);
    generate(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], &ec);
    let (rsa, ec) = (rsa.to_str().unwrap(), ec.to_str().unwrap());
    let poly1305 = format!("hexkey:{}", "07".repeat(32));
    let python = "import sys; sys.stdin.read(); import json; json.dumps(sorted({'a': 'b' * 9}))";
    let perl = "my @a = map { s/a/b/r . $_ } <STDIN>; print sort { $a cmp $b } @a";
    let programs: &[(&str, &[&str], usize)] = &[
        ("openssl", &["dgst", "-sha256"], 9000),
        ("openssl", &["dgst", "-sha512"], 9000),
        ("openssl", &["dgst", "-md5"], 9000),
        ("openssl", &["dgst", "-sha3-256"], 9000),
        ("openssl", &["dgst", "-sha256", "-sign", rsa], 9),
        ("openssl", &["dgst", "-sha256", "-sign", ec], 9),
        ("openssl", &["enc", "-aes-128-ctr", "-K", "01", "-iv", "02"], 9000),
        ("openssl", &["enc", "-camellia-128-cbc", "-K", "01", "-iv", "02"], 9000),
        ("openssl", &["enc", "-chacha20", "-K", "01", "-iv", "02"], 9000),
        ("openssl", &["mac", "-macopt", &poly1305, "Poly1305"], 9000),
        ("/usr/bin/python3", &["-c", python], 9),
        ("perl", &["-e", perl], 9),
    ];
    let far = std::env::var_os("SPY_ALL_STEPS").is_some();
    for (program, arguments, input) in programs {
        let mut command = Command::new(program);
        command.args(*arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let traced = Traced::start(&mut command).at_input(&vec![b'a'; *input]);
        // perl ends soon after, in `_fini`, which has no unwind data and moves
        // the stack pointer: docs/unwinding.md, limits.
        let farthest = if *program == "perl" { 60_000 } else { 400_000 };
        let steps = step_on(&traced, Tables::Now, if far { farthest } else { 4000 });
        eprintln!("{program} {}: {steps:?}", arguments[..2].join(" "));
        assert!(steps.steps >= 4000, "{steps:?}");
    }
}

fn generate(key: &[&str], into: &Path) {
    let mut command = Command::new("openssl");
    let done = command.arg("genpkey").args(key).arg("-out").arg(into).stderr(Stdio::null());
    assert!(done.status().expect("openssl must be installed").success());
}

fn steps_right(name: &str, flags: &[&str]) {
    step_through(&build(name, flags), Tables::Now);
}

fn build(name: &str, flags: &[&str]) -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = project.join("fixtures/build");
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join(format!("single_step-{name}"));
    let source = project.join("fixtures/programs/single_step.c");
    let done = Command::new("gcc").args(flags).arg("-o").arg(&program).arg(source).status();
    assert!(done.expect("gcc must be installed").success());
    program
}

/// A program that is traced, and ends with the test.
struct Traced {
    child: Child,
    pid: Pid,
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Traced {
    /// Start a program that waits for its input.
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::piped()).spawn().expect("it must be installed");
        let pid = Pid::from_raw(child.id().cast_signed());
        ptrace::seize(pid, ptrace::Options::PTRACE_O_EXITKILL).expect("ptrace must be allowed");
        Self { child, pid }
    }

    /// Let a program whose input ends run to its first breakpoint.
    fn at_breakpoint(mut self) -> Self {
        self.child.stdin = None;
        assert_eq!(self.wait(), Some(Signal::SIGTRAP));
        self
    }

    /// Stop the program where it waits for its input, and give it some.
    fn at_input(mut self, input: &[u8]) -> Self {
        let waits = || {
            let syscall = fs::read_to_string(format!("/proc/{}/syscall", self.pid)).unwrap();
            syscall.starts_with("0 0x0 ")
        };
        while !waits() {
            std::thread::yield_now();
        }
        ptrace::interrupt(self.pid).unwrap();
        assert!(self.wait().is_some());
        self.child.stdin.take().unwrap().write_all(input).unwrap();
        self
    }

    /// What stopped it; `None` if it has ended.
    fn wait(&self) -> Option<Signal> {
        match waitpid(self.pid, None).unwrap() {
            WaitStatus::Stopped(_, signal) | WaitStatus::PtraceEvent(_, signal, _) => Some(signal),
            WaitStatus::Exited(..) => None,
            other => panic!("{other:?}"),
        }
    }

    fn step(&self, signal: Option<Signal>) -> Option<Signal> {
        ptrace::step(self.pid, signal).unwrap();
        self.wait()
    }

    fn registers(&self) -> user_regs_struct {
        ptrace::getregs(self.pid).unwrap()
    }
}

/// A copy of the stack, and the target for the rest.
struct Stopped<'a> {
    stack: Piece,
    target: &'a Traced,
}

impl Memory for Stopped<'_> {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        match self.stack.read(at, into) {
            Ok(()) => Ok(()),
            Err(_) => copy(self.target.pid, at.0, into.len()).read(at, into),
        }
    }

    fn copied(&self, at: Address) -> Option<(Address, &[u8])> {
        self.stack.copied(at)
    }
}

/// What a step was over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Instruction {
    Call,
    Return,
    Breakpoint,
    Other,
}

fn decode(code: &[u8]) -> Instruction {
    let prefixes = code.iter().take_while(|byte| matches!(byte, 0x40..=0x4f | 0x3e | 0xf2 | 0x66));
    match code.get(prefixes.count()..) {
        Some([0xe8, ..]) => Instruction::Call,
        Some([0xff, modrm, ..]) if modrm >> 3 & 7 == 2 => Instruction::Call,
        Some([0xc3 | 0xc2, ..] | [0xf3, 0xc3, ..]) => Instruction::Return,
        Some([0xcc, ..]) => Instruction::Breakpoint,
        _ => Instruction::Other,
    }
}

/// What the stack must be: what was called and has not returned, and where
/// each lies. What lies below the stack pointer has returned.
#[derive(Default)]
struct Shadow {
    frames: Vec<(u64, CodeAddress)>,
}

impl Shadow {
    fn drop_below(&mut self, sp: u64) {
        while self.frames.last().is_some_and(|(slot, _)| *slot < sp) {
            self.frames.pop();
        }
    }
}

fn step_through(program: &Path, tables: Tables) {
    let traced = Traced::start(&mut Command::new(program)).at_breakpoint();
    let steps = step_on(&traced, tables, MOST_STEPS);
    eprintln!("{}: {steps:?}", program.display());
    assert!(steps.steps > 4000 && steps.deepest > 8, "{steps:?}");
    assert!(steps.from_two * 2 > steps.steps, "{steps:?}");
    assert_eq!((steps.signals, steps.jumps), (2, 0));
}

/// What a run was made of.
#[derive(Debug, Default)]
struct Steps {
    steps: usize,
    signals: usize,
    deepest: usize,
    /// Out of several functions at once.
    jumps: usize,
    /// Walked to the root from the stack pointer and the program counter.
    from_two: usize,
}

/// Step to the next breakpoint, or `most` steps far.
fn step_on(traced: &Traced, tables: Tables, most: usize) -> Steps {
    let root = Root { directory: "/".into(), map_files: None };
    let mut unwinder = Unwinder::new(mappings(traced.pid), root, tables);
    let mut modules = Modules::default();
    let mut shadow = Shadow::default();
    let mut biases = HashMap::new();
    // What was called before the first step is what the first walk says; that
    // it is right shows when it returns.
    let (_, mut base, end) = unwind(&mut unwinder, &mut modules, traced);
    assert_eq!(end, End::Root, "{base:x?}");
    base.remove(0);
    assert!(base.len() >= 3, "main, the C library's caller of it, _start: {base:?}");
    let mut done = Steps::default();
    // Where a jump out of several functions was said to lead, and when.
    let mut jump = None;
    while done.steps < most {
        let (registers, found, end) = unwind(&mut unwinder, &mut modules, traced);
        let code = copy(traced.pid, registers.rip, 8).bytes;
        let innermost = CodeAddress::Instruction(Address(registers.rip));
        let calls = shadow.frames.iter().rev().map(|(_, code)| *code);
        let expected: Vec<_> = std::iter::once(innermost).chain(calls).collect();
        done.deepest = done.deepest.max(expected.len() + base.len());
        let checked = check(&found, &expected, &base, &mut biases);
        match (checked, jump) {
            (Ok(()), Some((target, _))) if found[0].1.address() == target => {
                jump = None;
                done.jumps += 1;
            }
            (Ok(()), None) => {}
            // What `longjmp` says of itself is where it is about to go.
            (Err(_), None) if found.len() > 1 => jump = Some((found[1].1.address(), done.steps)),
            (Err(_), Some((_, since))) if done.steps - since < 64 => {}
            (what, _) => {
                let place = modules.get(found[0].0.unwrap_or(ModuleId(0)));
                panic!(
                    "{done:?}, at {innermost:x?} ({place:?}), {code:x?}: {what:?}\n\
                     {end:?} found {found:x?}\nexpected {expected:x?}\n{registers:x?}",
                    place = place.map(|module| module.name()),
                )
            }
        }
        assert_eq!(end, End::Root, "{done:?}: {found:x?}");
        // A thread that sleeps is read without the rest: no frame may be wrong.
        let (two, end) = unwind_from_two(&mut unwinder, &mut modules, traced, &registers);
        assert_eq!(Some(&*two), found.get(..two.len()), "{done:?}: {end:?} {registers:x?}");
        assert!((end == End::Root) == (two.len() == found.len()), "{done:?}: {end:?} {two:x?}");
        done.from_two += usize::from(end == End::Root);
        let instruction = decode(&code);
        if instruction == Instruction::Breakpoint {
            break;
        }
        let Some(signal) = traced.step(None) else { break };
        if signal != Signal::SIGTRAP {
            done.signals += 1;
            let interrupted = traced.registers().rip;
            assert_eq!(traced.step(Some(signal)), Some(Signal::SIGTRAP));
            let sp = traced.registers().rsp;
            let restorer = word(traced, sp);
            let above = sp + 8;
            shadow.frames.push((above, CodeAddress::Instruction(Address(interrupted))));
            shadow.frames.push((sp, CodeAddress::Return(Address(restorer))));
        } else {
            let sp = traced.registers().rsp;
            let was_empty = shadow.frames.is_empty();
            shadow.drop_below(sp);
            if instruction == Instruction::Return && was_empty && !base.is_empty() {
                base.remove(0);
            }
            if instruction == Instruction::Call {
                shadow.frames.push((sp, CodeAddress::Return(Address(word(traced, sp)))));
            }
        }
        done.steps += 1;
    }
    done
}

fn word(traced: &Traced, at: u64) -> u64 {
    let piece: &dyn Memory = &copy(traced.pid, at, 8);
    piece.get(Address(at)).unwrap()
}

type Found = Vec<(Option<ModuleId>, CodeAddress)>;

fn unwind(
    unwinder: &mut Unwinder,
    modules: &mut Modules,
    traced: &Traced,
) -> (user_regs_struct, Found, End) {
    let registers = traced.registers();
    let (found, end) = walk(unwinder, modules, traced, &known(&registers));
    (registers, found, end)
}

/// The same from the stack pointer and the program counter alone.
fn unwind_from_two(
    unwinder: &mut Unwinder,
    modules: &mut Modules,
    traced: &Traced,
    registers: &user_regs_struct,
) -> (Found, End) {
    let mut two = Registers::unknown();
    two.set(Architecture::HOST.sp(), registers.rsp);
    two.set(Architecture::HOST.pc(), registers.rip);
    walk(unwinder, modules, traced, &two)
}

fn walk(
    unwinder: &mut Unwinder,
    modules: &mut Modules,
    traced: &Traced,
    registers: &Registers,
) -> (Found, End) {
    let sp = registers.get(Architecture::HOST.sp()).unwrap();
    let stack = copy(traced.pid, sp - 256, 24 << 10);
    let memory = Stopped { stack, target: traced };
    let mut frames = Vec::new();
    let walk = unwinder.unwind(modules, registers, &memory, &mut frames);
    let found = frames.into_iter().map(|frame| match frame {
        Frame::Native(frame) => (frame.module, frame.code),
        Frame::Managed(_) => panic!("there is no runtime"),
    });
    (found.collect(), walk.end)
}

/// Whether `found` is `expected` on top of `base`. An image always lies at the
/// same place, wherever that is.
fn check(
    found: &Found,
    expected: &[CodeAddress],
    base: &Found,
    biases: &mut HashMap<ModuleId, u64>,
) -> Result<(), String> {
    if found.len() != expected.len() + base.len() {
        return Err(format!("{} frames for {}", found.len(), expected.len() + base.len()));
    }
    let (top, rest) = found.split_at(expected.len());
    if rest != base {
        return Err(format!("the base is {rest:x?}"));
    }
    for ((module, local), code) in top.iter().zip(expected) {
        let module = module.ok_or("code in no image")?;
        let bias = code.address().0.wrapping_sub(local.address().0);
        if *biases.entry(module).or_insert(bias) != bias
            || std::mem::discriminant(local) != std::mem::discriminant(code)
        {
            return Err(format!("{local:x?} is not {code:x?}"));
        }
    }
    Ok(())
}
