//! The instructions of x86-64, as far as their lengths, their jumps, and what
//! they do to the stack pointer (Intel's manual, volume 2, chapter 2 and
//! appendix A).

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    /// In bytes.
    pub(super) len: usize,
    pub(super) effect: Effect,
}

/// What an instruction does to the stack pointer and to the flow of control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Neither.
    None,
    /// It takes so many bytes of the stack.
    Takes(u32),
    /// It may change the stack pointer otherwise.
    Moves,
    /// A call, which comes back with the stack pointer as it was.
    Call,
    /// A jump to so far behind the instruction.
    Jump(i32),
    /// The same by a condition.
    Branch(i32),
    /// It goes to where a register or a word of memory says.
    JumpAnywhere,
    /// It goes back to the caller.
    Return,
}

/// Which bytes follow the opcode.
#[derive(Clone, Copy)]
struct Form {
    modrm: bool,
    /// Bytes of the value.
    value: usize,
}

const fn form(modrm: bool, value: usize) -> Option<Form> {
    Some(Form { modrm, value })
}

/// Bytes in front of the opcode.
#[derive(Clone, Copy, Default)]
struct Prefixes {
    /// 66: values of 2 bytes.
    short: bool,
    /// 67: addresses of 4 bytes.
    narrow: bool,
    rex: u8,
}

/// The first instruction of `code`. `None` for what is none, for what is cut
/// off, and for some that no compiler writes.
pub(super) fn first(code: &[u8]) -> Option<Instruction> {
    let mut prefixes = Prefixes::default();
    let mut at = 0;
    loop {
        match *code.get(at)? {
            0x66 => prefixes.short = true,
            0x67 => prefixes.narrow = true,
            0xf0 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 => {}
            _ => break,
        }
        at += 1;
        (at < 14).then_some(())?;
    }
    if let rex @ 0x40..=0x4f = *code.get(at)? {
        prefixes.rex = rex;
        at += 1;
    }
    let (map, opcode) = match (*code.get(at)?, code.get(at + 1), code.get(at + 2)) {
        (0x0f, Some(0x38), Some(&opcode)) => (2, opcode),
        (0x0f, Some(0x3a), Some(&opcode)) => (3, opcode),
        (0x0f, Some(&opcode), _) => (1, opcode),
        (0xc4 | 0xc5 | 0x62, ..) => return vector(code, at),
        (opcode, ..) => (0, opcode),
    };
    at += [1, 2, 3, 3].get(map)?;
    let modrm = code.get(at).copied().unwrap_or(0);
    let form = match map {
        0 => one_byte(opcode, modrm, prefixes)?,
        1 => two_bytes(opcode, prefixes)?,
        2 => Form { modrm: true, value: 0 },
        _ => Form { modrm: true, value: 1 },
    };
    if form.modrm {
        at += operand(code.get(at..)?)?;
    }
    let value = code.get(at..at.checked_add(form.value)?)?;
    let len = at + form.value;
    (len <= 15).then_some(())?;
    let effect = match map {
        0 => effect(opcode, modrm, prefixes, value),
        1 => effect_of_two(opcode, modrm, prefixes, value),
        _ => on_registers(modrm, prefixes.rex),
    }?;
    Some(Instruction { len, effect })
}

/// How long the bytes that name an operand are.
fn operand(code: &[u8]) -> Option<usize> {
    let modrm = *code.first()?;
    let (mode, place) = (modrm >> 6, modrm & 7);
    let index = usize::from(mode != 3 && place == 4);
    let far = index == 1 && code.get(1)? & 7 == 5;
    let displacement = match mode {
        0 if place == 5 || far => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    Some(1 + index + displacement)
}

fn one_byte(opcode: u8, modrm: u8, prefixes: Prefixes) -> Option<Form> {
    let wide = if prefixes.short { 2 } else { 4 };
    match opcode {
        0x00..=0x3f => match opcode & 7 {
            0..=3 => form(true, 0),
            4 => form(false, 1),
            5 => form(false, wide),
            _ => None,
        },
        0x50..=0x5f | 0x90..=0x99 | 0x9b..=0x9f => form(false, 0),
        0x63 | 0x84..=0x8f | 0xd0..=0xd3 | 0xd8..=0xdf | 0xfe | 0xff => form(true, 0),
        0x68 => form(false, wide),
        0x69 | 0x81 | 0xc7 => form(true, wide),
        0x6a | 0x70..=0x7f | 0xa8 | 0xb0..=0xb7 | 0xcd | 0xe0..=0xe7 | 0xeb => form(false, 1),
        0x6b | 0x80 | 0x83 | 0xc0 | 0xc1 | 0xc6 => form(true, 1),
        0xa0..=0xa3 if !prefixes.narrow => form(false, 8),
        0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf | 0xc3 | 0xc9 | 0xcc | 0xf4 | 0xf5 => {
            form(false, 0)
        }
        0xd7 | 0xec..=0xef | 0xf8..=0xfd => form(false, 0),
        0xa9 => form(false, wide),
        0xb8..=0xbf if prefixes.rex & 8 != 0 => form(false, 8),
        0xb8..=0xbf => form(false, wide),
        0xe8 | 0xe9 if !prefixes.short => form(false, 4),
        // Only the first two of the eight have a value.
        0xf6 => form(true, usize::from(modrm >> 3 & 7 < 2)),
        0xf7 => form(true, if modrm >> 3 & 7 < 2 { wide } else { 0 }),
        _ => None,
    }
}

fn two_bytes(opcode: u8, prefixes: Prefixes) -> Option<Form> {
    match opcode {
        0x05 | 0x0b | 0x31 | 0x77 | 0xa2 | 0xc8..=0xcf => form(false, 0),
        0x80..=0x8f if !prefixes.short => form(false, 4),
        0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6 => form(true, 1),
        0x10..=0x1f | 0x28..=0x2f | 0x40..=0x6f | 0x74..=0x76 | 0x7c..=0x7f => form(true, 0),
        0x90..=0x9f | 0xa3 | 0xa5 | 0xab | 0xad..=0xb9 | 0xbb..=0xc1 | 0xc3 | 0xc7 => form(true, 0),
        0x01 | 0x0d | 0xd0..=0xfe => form(true, 0),
        _ => None,
    }
}

/// What comes of operands in registers: any may be changed.
fn on_registers(modrm: u8, rex: u8) -> Option<Effect> {
    let by_reg = modrm >> 3 & 7 == 4 && rex & 4 == 0;
    Some(if by_reg { Effect::Moves } else { on_operand(modrm, rex) })
}

/// What comes of the operand alone, beside which stands no register.
fn on_operand(modrm: u8, rex: u8) -> Effect {
    let is_sp = modrm >> 6 == 3 && modrm & 7 == 4 && rex & 1 == 0;
    if is_sp { Effect::Moves } else { Effect::None }
}

fn effect(opcode: u8, modrm: u8, prefixes: Prefixes, value: &[u8]) -> Option<Effect> {
    let (rex, extension) = (prefixes.rex, modrm >> 3 & 7);
    let is_sp = modrm >> 6 == 3 && modrm & 7 == 4 && rex & 9 == 8;
    Some(match opcode {
        // cmp, test; and with values, on rax.
        0x38..=0x3d | 0x84 | 0x85 => Effect::None,
        0x00..=0x3f if opcode & 7 > 3 => Effect::None,
        // mov from a register: the stack pointer may be it.
        0x88 | 0x89 => on_operand(modrm, rex),
        0x00..=0x3f | 0x63 | 0x69 | 0x6b | 0x86 | 0x87 | 0x8a | 0x8b | 0x8d => {
            on_registers(modrm, rex)?
        }
        0x50..=0x57 | 0x68 | 0x6a if !prefixes.short => Effect::Takes(8),
        // sub; add of what is negative, which is shorter for 128.
        0x81 | 0x83 if is_sp && matches!(extension, 0 | 5) && !prefixes.short => {
            let value = signed(value)?;
            let taken = if extension == 5 { Some(value) } else { value.checked_neg() };
            match taken.map(u32::try_from) {
                Some(Ok(bytes)) => Effect::Takes(bytes),
                _ => Effect::Moves,
            }
        }
        0x80 | 0x81 | 0x83 if extension == 7 => Effect::None,
        0xff => match extension {
            0 | 1 => on_operand(modrm, rex),
            2 => Effect::Call,
            4 => Effect::JumpAnywhere,
            6 if !prefixes.short => Effect::Takes(8),
            _ => return None,
        },
        // Otherwise another instruction, of AMD's or of transactions.
        0x8f | 0xc6 | 0xc7 if extension != 0 => return None,
        0x80..=0x83 | 0xc0 | 0xc1 | 0xc6 | 0xc7 | 0xd0..=0xd3 | 0xf6 | 0xf7 | 0xfe => {
            on_operand(modrm, rex)
        }
        0xe9 | 0xeb => Effect::Jump(signed(value)?),
        0x70..=0x7f | 0xe0..=0xe3 => Effect::Branch(signed(value)?),
        0xc3 => Effect::Return,
        0xe8 => Effect::Call,
        0x90 | 0x98 | 0x99 | 0x9b | 0x9e | 0x9f | 0xa0..=0xaf | 0xcc | 0xf4 => Effect::None,
        0x91..=0x97 | 0xb0..=0xbf if opcode & 7 == 4 && rex & 1 == 0 => Effect::Moves,
        0x91..=0x97 | 0xb0..=0xbf | 0xd8..=0xdf => Effect::None,
        0x6c..=0x6f | 0xd7 | 0xf5 | 0xf8..=0xfd => Effect::None,
        0x50..=0x6a | 0x8c..=0x8f | 0x9c | 0x9d | 0xc9 => Effect::Moves,
        _ => return None,
    })
}

fn effect_of_two(opcode: u8, modrm: u8, prefixes: Prefixes, value: &[u8]) -> Option<Effect> {
    Some(match opcode {
        0x80..=0x8f => Effect::Branch(signed(value)?),
        // syscall; ud2; rdtsc; emms; cpuid; hints.
        0x05 | 0x0b | 0x31 | 0x77 | 0xa2 | 0x18..=0x1f => Effect::None,
        // bswap.
        0xc8..=0xcf if opcode & 7 == 4 && prefixes.rex & 1 == 0 => Effect::Moves,
        0xc8..=0xcf => Effect::None,
        // A byte by a condition; a bit by a value; fences.
        0x90..=0x9f | 0xba => on_operand(modrm, prefixes.rex),
        // Both operands are vectors, or memory, or are only read.
        0x10..=0x17 | 0x28 | 0x29 | 0x2b | 0x2e | 0x2f | 0x51..=0x6f | 0x74..=0x76 | 0x7f => {
            Effect::None
        }
        0xc2 | 0xc6 | 0xd0..=0xd6 | 0xd8..=0xfe => Effect::None,
        _ => on_registers(modrm, prefixes.rex)?,
    })
}

/// An instruction with a VEX prefix at `at`: on vectors, mostly, and never
/// on the stack pointer as compilers write them, but some are on registers.
fn vector(code: &[u8], at: usize) -> Option<Instruction> {
    let (map, opcode_at, rex) = match code.get(at..)? {
        [0xc5, first, ..] => (1, at + 2, !first >> 5 & 4),
        [0xc4, first, ..] => (first & 0x1f, at + 3, !first >> 5 & 7),
        _ => return None,
    };
    let opcode = *code.get(opcode_at)?;
    let value = match (map, opcode) {
        (1, 0x77) => return Some(Instruction { len: opcode_at + 1, effect: Effect::None }),
        (1, 0x70..=0x73 | 0xc2 | 0xc4..=0xc6) | (3, _) => 1,
        (1 | 2, _) => 0,
        _ => return None,
    };
    let operand_at = opcode_at + 1;
    let modrm = *code.get(operand_at)?;
    let len = operand_at + operand(code.get(operand_at..)?)? + value;
    code.get(..len)?;
    // The third register is in the prefix, inverted: those that may be it are
    // in maps 2 and 3, from F0 on.
    let effect = match (map, opcode) {
        (2 | 3, 0xf0..) => Effect::Moves,
        _ => on_registers(modrm, rex)?,
    };
    Some(Instruction { len, effect })
}

/// A value of 1, 2 or 4 bytes, with its sign.
fn signed(value: &[u8]) -> Option<i32> {
    match *value {
        [byte] => Some(byte.cast_signed().into()),
        [low, high] => Some(i16::from_le_bytes([low, high]).into()),
        [a, b, c, d] => Some(i32::from_le_bytes([a, b, c, d])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// In the C library: their lengths, where they jump to, and that what has
    /// the stack pointer for its last operand is seen to move it.
    #[test]
    fn instructions_are_what_objdump_says() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        let library = files.find(|file| file.contains("libc.so")).unwrap();
        let shown = Command::new("objdump").args(["-d", "-w", library]).output().unwrap();
        let (mut seen, mut unknown) = (0, 0);
        for line in String::from_utf8(shown.stdout).unwrap().lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            let [at, bytes, text] = columns[..] else { continue };
            // Data; and what is shown as one with the `fwait` before it.
            let is_code = !["(bad)", ".byte", "rex"].iter().any(|word| text.contains(word));
            if !is_code || bytes.starts_with("9b ") {
                continue;
            }
            let hex = |text: &str| i64::from_str_radix(text, 16).unwrap();
            let bytes = bytes.split_whitespace().map(|byte| u8::try_from(hex(byte)).unwrap());
            let bytes: Vec<u8> = bytes.collect();
            let found = first(&[&bytes[..], &[0x90; 16]].concat());
            seen += 1;
            unknown += usize::from(found.is_none());
            let Some(found) = found else { continue };
            let end = hex(at.trim().trim_end_matches(':')) + i64::try_from(bytes.len()).unwrap();
            check(line, &bytes, found, text, end);
        }
        assert!(seen > 100_000 && unknown * 100 < seen, "{unknown} of {seen}");
    }

    fn check(line: &str, bytes: &[u8], found: Instruction, text: &str, end: i64) {
        assert_eq!(found.len, bytes.len(), "{line}");
        assert_eq!(first(bytes), Some(found), "{line}");
        assert_eq!(first(&bytes[..bytes.len() - 1]), None, "{line}");
        let words: Vec<_> = text.split('<').next().unwrap().split_whitespace().collect();
        let is = |name| words.contains(&name);
        assert_eq!(is("call"), found.effect == Effect::Call, "{line}: {found:?}");
        assert_eq!(is("ret"), found.effect == Effect::Return, "{line}: {found:?}");
        let reads = words[0].starts_with("cmp") || words[0].starts_with("test");
        let is_moved = matches!(found.effect, Effect::Takes(_) | Effect::Moves);
        let moves = ["push", "pop", "leave"].iter().any(|word| words[0].starts_with(word))
            || words.last().is_some_and(|last| last.ends_with("%rsp")) && !reads;
        assert!(is_moved || !moves, "{line}: {found:?}");
        if let Effect::Jump(distance) | Effect::Branch(distance) = found.effect {
            let target = format!("{:x}", end + i64::from(distance));
            assert_eq!(words.last(), Some(&&*target), "{line}: {found:?}");
        }
    }
}
