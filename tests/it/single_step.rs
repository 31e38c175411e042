//! A program is stepped instruction by instruction, and unwound at each of
//! them. What its stack must be is known from the calls and returns that were
//! stepped over, and from nothing else.

use std::{
    collections::HashMap,
    fs,
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
    snapshot::Root,
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
    /// Start `program`, and let it run to its first breakpoint.
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program).stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let input = child.stdin.take();
        let traced = Self { child, pid };
        ptrace::seize(pid, ptrace::Options::PTRACE_O_EXITKILL).expect("ptrace must be allowed");
        // It waits for its input to end.
        drop(input);
        assert_eq!(traced.wait(), Signal::SIGTRAP);
        traced
    }

    fn wait(&self) -> Signal {
        match waitpid(self.pid, None).unwrap() {
            WaitStatus::Stopped(_, signal) => signal,
            other => panic!("{other:?}"),
        }
    }

    fn step(&self, signal: Option<Signal>) -> Signal {
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
    Breakpoint,
    Other,
}

fn decode(code: &[u8]) -> Instruction {
    let prefixes = code.iter().take_while(|byte| matches!(byte, 0x40..=0x4f | 0x3e | 0xf2 | 0x66));
    match code.get(prefixes.count()..) {
        Some([0xe8, ..]) => Instruction::Call,
        Some([0xff, modrm, ..]) if modrm >> 3 & 7 == 2 => Instruction::Call,
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
    let traced = Traced::start(program);
    let root = Root { directory: "/".into(), map_files: None };
    let mut unwinder = Unwinder::new(mappings(traced.pid), root, tables);
    let mut modules = Modules::default();
    let mut shadow = Shadow::default();
    let mut biases = HashMap::new();
    // What called `region` stays the same until the end.
    let (_, mut base, end) = unwind(&mut unwinder, &mut modules, &traced);
    assert_eq!(end, End::Root);
    base.remove(0);
    assert!(base.len() >= 3, "main, the C library's caller of it, _start: {base:?}");
    let (mut steps, mut signals, mut deepest) = (0, 0, 0);
    loop {
        let (registers, found, end) = unwind(&mut unwinder, &mut modules, &traced);
        let code = copy(traced.pid, registers.rip, 8).bytes;
        let innermost = CodeAddress::Instruction(Address(registers.rip));
        let calls = shadow.frames.iter().rev().map(|(_, code)| *code);
        let expected: Vec<_> = std::iter::once(innermost).chain(calls).collect();
        deepest = deepest.max(expected.len());
        check(&found, &expected, &base, &mut biases).unwrap_or_else(|what| {
            let place = modules.get(found[0].0.unwrap_or(ModuleId(0))).map(|module| module.name());
            panic!(
                "{} step {steps}, at {innermost:x?} ({place:?}), {code:x?}: {what}\n\
                 {end:?} found {found:x?}\nexpected {expected:x?}\n{registers:x?}",
                program.display()
            )
        });
        assert_eq!(end, End::Root, "step {steps}: {found:x?}");
        let instruction = decode(&code);
        if instruction == Instruction::Breakpoint {
            break;
        }
        let signal = traced.step(None);
        if signal != Signal::SIGTRAP {
            signals += 1;
            let interrupted = traced.registers().rip;
            assert_eq!(traced.step(Some(signal)), Signal::SIGTRAP);
            let sp = traced.registers().rsp;
            let restorer = word(&traced, sp);
            let above = sp + 8;
            shadow.frames.push((above, CodeAddress::Instruction(Address(interrupted))));
            shadow.frames.push((sp, CodeAddress::Return(Address(restorer))));
        } else {
            let sp = traced.registers().rsp;
            shadow.drop_below(sp);
            if instruction == Instruction::Call {
                shadow.frames.push((sp, CodeAddress::Return(Address(word(&traced, sp)))));
            }
        }
        steps += 1;
        assert!(steps < MOST_STEPS);
    }
    eprintln!("{}: {steps} steps, {signals} signals", program.display());
    assert!(steps > 4000 && deepest > 8, "{steps} {deepest}");
    assert_eq!(signals, 2);
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
    let stack = copy(traced.pid, registers.rsp - 256, 24 << 10);
    let memory = Stopped { stack, target: traced };
    let mut frames = Vec::new();
    let walk = unwinder.unwind(modules, &known(&registers), &memory, &mut frames);
    let found = frames.into_iter().map(|frame| match frame {
        Frame::Native(frame) => (frame.module, frame.code),
        Frame::Managed(_) => panic!("there is no runtime"),
    });
    (registers, found.collect(), walk.end)
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
