//! Damaged unwind data and senseless registers: every walk ends.

use super::*;
use crate::module::Section;
use crate::unwind::{
    MAX_FRAMES,
    cfi::{Cfi, Context},
    machine::Machine,
    rule,
    table::{Found, Step, Table},
    words::Words,
};

/// `.eh_frame` and `.eh_frame_hdr` of this very program, and their addresses.
fn own_data() -> [(u64, Vec<u8>); 2] {
    use object::{Object as _, ObjectSection as _};
    let file = fs::read("/proc/self/exe").unwrap();
    let file = object::File::parse(&*file).unwrap();
    [".eh_frame", ".eh_frame_hdr"].map(|name| {
        let section = file.section_by_name(name).unwrap();
        (section.address(), section.data().unwrap().to_vec())
    })
}

fn random_registers(random: &mut fastrand::Rng) -> Registers {
    let mut registers = Registers::unknown();
    for number in 0..33 {
        match random.u8(..8) {
            0 => {}
            1 => registers.set(Register(number), random.u64(..)),
            2 => registers.set(Register(number), u64::MAX - random.u64(..64)),
            _ => registers.set(Register(number), STACK + random.u64(..4096) / 8 * 8),
        }
    }
    registers
}

fn random_stack(random: &mut fastrand::Rng, pick: impl Fn(&mut fastrand::Rng) -> u64) -> Piece {
    let word = |random: &mut fastrand::Rng| match random.u8(..4) {
        0 => random.u64(..),
        1 => STACK + random.u64(..4096),
        _ => pick(random),
    };
    let bytes = (0..512).flat_map(|_| word(random).to_le_bytes()).collect();
    Piece { start: Address(STACK), bytes }
}

/// Compile, look up, and evaluate whatever is there.
fn exercise(machine: &'static Machine, data: &[(u64, &[u8]); 2], random: &mut fastrand::Rng) {
    let [frames, header] = data.map(|(address, bytes)| Some(Section { address, bytes }));
    for (frames, debug) in [(frames, None), (None, frames)] {
        let cfi = Cfi::new(frames, header, debug, machine);
        let table = Table::build(&cfi, machine);
        let starts: Vec<u64> = table.rows().map(|(start, _)| start).collect();
        let stack = random_stack(random, |random| random.u64(..));
        let mut context = Context::new();
        for _ in 0..100 {
            let address = match starts.len() {
                0 => random.u64(..),
                len => starts[random.usize(..len)].wrapping_add(random.u64(..3)),
            };
            let at = match table.find(address) {
                Found::Step(Step::Row(at)) => Some(*at),
                _ => cfi.find(address),
            };
            let Some(at) = at else { continue };
            let mut registers = random_registers(random);
            let mut words = Words::new(&stack, STACK);
            let _ = cfi.with_row(at, address, &mut context, |row| {
                rule::evaluate(row, &mut registers, &mut words, machine)
            });
        }
    }
}

#[test]
fn damaged_unwind_data_does_no_harm() {
    let [(address, frames), (header_address, header)] = own_data();
    // The first functions and the last: what is damaged is then all used.
    let len = frames.len();
    let parts = [0..6000.min(len), len.saturating_sub(6000)..len];
    let mut random = fastrand::Rng::with_seed(7);
    for machine in [X86, Architecture::Aarch64].map(Machine::of) {
        for round in 0..120 {
            for part in parts.clone() {
                let mut frames = frames[part].to_vec();
                let mut header = header[..4000.min(header.len())].to_vec();
                for _ in 0..=round % 16 {
                    let at = random.usize(..frames.len());
                    frames[at] ^= 1 << random.u8(..8);
                    let at = random.usize(..header.len());
                    header[at] ^= 1 << random.u8(..8);
                }
                frames.truncate(random.usize(..=frames.len()));
                let data = [(address, &frames[..]), (header_address, &header[..])];
                exercise(machine, &data, &mut random);
            }
        }
    }
}

#[test]
fn noise_as_unwind_data_does_no_harm() {
    let mut random = fastrand::Rng::with_seed(8);
    for _ in 0..300 {
        let noise: Vec<u8> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
        let address = if random.bool() { u64::MAX - 100 } else { 0x1000 };
        exercise(Machine::of(X86), &[(address, &noise), (address, &noise)], &mut random);
    }
}

/// This very program's code, and a stack and registers that make no sense.
#[test]
fn senseless_registers_and_stacks_end_every_walk() {
    let own = fs::read("/proc/self/exe").unwrap();
    let mut random = fastrand::Rng::with_seed(9);
    for tables in [Tables::Never, Tables::Now] {
        let mut process = Process::of(Architecture::HOST, &own, tables);
        let size = own.len() as u64;
        let mut ends = std::collections::BTreeSet::new();
        for _ in 0..4000 {
            let pick = |random: &mut fastrand::Rng| BASE + random.u64(..size);
            let stack = random_stack(&mut random, pick);
            process.memory = Pieces(vec![stack]);
            process.registers = random_registers(&mut random);
            let pc = match random.u8(..6) {
                0 => random.u64(..),
                1 => JIT + random.u64(..4096),
                _ => pick(&mut random),
            };
            process.registers.set(Architecture::HOST.pc(), pc);
            let (frames, walk) = process.walk();
            assert!(frames.len() <= MAX_FRAMES);
            ends.insert(walk.end);
        }
        assert!(ends.len() >= 4, "{ends:?}");
    }
}
