//! Registers by their DWARF numbers, each with whether its value is known.

/// A register, by the number that DWARF gives it on its architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register(pub u16);

/// An instruction set, and the registers that unwinding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// System V ABI, AMD64 supplement, figure 3.36: 0 to 15 are rax, rdx, rcx,
    /// rbx, rsi, rdi, rbp, rsp, r8 to r15, and 16 is the return address.
    X86_64,
    /// DWARF for the Arm 64-bit architecture: 0 to 30 are x0 to x30, 31 is sp,
    /// 32 is pc.
    Aarch64,
}

impl Architecture {
    /// The one that this program was built for, and so its targets'.
    pub const HOST: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// The program counter.
    pub const fn pc(self) -> Register {
        match self {
            Self::X86_64 => Register(16),
            Self::Aarch64 => Register(32),
        }
    }

    /// The stack pointer.
    pub const fn sp(self) -> Register {
        match self {
            Self::X86_64 => Register(7),
            Self::Aarch64 => Register(31),
        }
    }

    /// The frame pointer, by convention.
    pub const fn fp(self) -> Register {
        match self {
            Self::X86_64 => Register(6),
            Self::Aarch64 => Register(29),
        }
    }
}

/// The values of registers 0 to 32, as far as they are known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    values: [u64; Self::COUNT],
    known: u64,
}

impl Registers {
    /// How many there are: the most of any architecture.
    pub const COUNT: usize = 33;

    /// Registers of which none is known.
    pub const fn unknown() -> Self {
        Self { values: [0; Self::COUNT], known: 0 }
    }

    /// The value of `register`, if it is known.
    #[inline]
    pub fn get(&self, register: Register) -> Option<u64> {
        let value = *self.values.get(usize::from(register.0))?;
        (self.known >> register.0 & 1 == 1).then_some(value)
    }

    /// Make `register` known, to be `value`. A number beyond
    /// [`COUNT`](Self::COUNT) (vector registers) is ignored.
    #[inline]
    pub fn set(&mut self, register: Register, value: u64) {
        if let Some(slot) = self.values.get_mut(usize::from(register.0)) {
            *slot = value;
            self.known |= 1 << register.0;
        }
    }

    /// Forget `register`.
    #[inline]
    pub fn forget(&mut self, register: Register) {
        if usize::from(register.0) < Self::COUNT {
            self.known &= !(1 << register.0);
        }
    }

    /// Forget every register whose bit (1 << number) is not in `mask`.
    #[inline]
    pub fn keep_only(&mut self, mask: u64) {
        self.known &= mask;
    }

    /// The known registers, by number.
    pub fn iter(&self) -> impl Iterator<Item = (Register, u64)> + '_ {
        (0..33).map(Register).filter_map(|register| Some((register, self.get(register)?)))
    }
}

impl std::fmt::Debug for Registers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut map = f.debug_map();
        for (register, value) in self.iter() {
            map.entry(&register.0, &format_args!("{value:#x}"));
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_is_known() {
        let mut registers = Registers::unknown();
        registers.set(Register(32), 7);
        registers.set(Register(33), 8);
        registers.set(Register(6), 9);
        assert_eq!(registers.get(Register(32)), Some(7));
        assert_eq!(registers.get(Register(33)), None);
        assert_eq!(registers.get(Register(200)), None);
        registers.keep_only(1 << 6);
        assert_eq!(registers.iter().collect::<Vec<_>>(), [(Register(6), 9)]);
        registers.forget(Register(6));
        assert_eq!(registers, {
            let mut same = registers;
            same.forget(Register(200));
            same
        });
        assert_eq!(registers.get(Register(6)), None);
    }
}
