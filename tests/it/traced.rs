//! What is to be seen of another process without this program's own help.

use nix::{
    libc::user_regs_struct,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};
use spy::{
    memory::{Address, Piece},
    snapshot::{Backing, Mapping, Register, Registers},
};
use std::io::IoSliceMut;

/// What is mapped in `pid`.
pub(crate) fn mappings(pid: Pid) -> Vec<Mapping> {
    let maps = Process::new(pid.as_raw()).unwrap().maps().unwrap();
    let mapping = |map: MemoryMap| Mapping {
        range: Address(map.address.0)..Address(map.address.1),
        offset: map.offset,
        readable: map.perms.contains(MMPermissions::READ),
        executable: map.perms.contains(MMPermissions::EXECUTE),
        device: nix::sys::stat::makedev(
            map.dev.0.cast_unsigned().into(),
            map.dev.1.cast_unsigned().into(),
        ),
        inode: map.inode,
        backing: match map.pathname {
            MMapPath::Path(path) => Backing::File(path),
            MMapPath::Vdso => Backing::Vdso,
            _ => Backing::Anonymous,
        },
    };
    maps.into_iter().map(mapping).collect()
}

/// The registers that ptrace gave.
pub(crate) fn known(from: &user_regs_struct) -> Registers {
    let values = [
        from.rax, from.rdx, from.rcx, from.rbx, from.rsi, from.rdi, from.rbp, from.rsp, from.r8,
        from.r9, from.r10, from.r11, from.r12, from.r13, from.r14, from.r15, from.rip,
    ];
    let mut registers = Registers::unknown();
    for (number, value) in (0..).zip(values) {
        registers.set(Register(number), value);
    }
    registers
}

/// Up to `len` bytes of the memory of `pid` from `at`.
pub(crate) fn copy(pid: Pid, at: u64, len: usize) -> Piece {
    let mut bytes = vec![0; len];
    let remote = RemoteIoVec { base: usize::try_from(at).unwrap(), len };
    let copied = process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &[remote]).unwrap_or(0);
    bytes.truncate(copied);
    Piece { start: Address(at), bytes }
}
