//! What a futex is, as far as the words around it say so for certain.

use crate::{
    memory::{Address, Memory},
    task::Tid,
    wait::Futex,
};

/// A futex that is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waited {
    /// Who waits.
    pub(super) tid: Tid,
    pub(super) at: Address,
    /// The operation, and the value that the waiter found.
    pub(super) operation: i32,
    pub(super) value: u32,
}

/// The bits of a word that holds the number of a thread
/// (`FUTEX_TID_MASK` of `include/uapi/linux/futex.h`).
const TID: u32 = 0x3fff_ffff;

/// Say what it is. `thread` knows the threads of the process by the numbers
/// that it has for them itself.
pub(super) fn look(
    waited: Waited,
    memory: &dyn Memory,
    thread: &mut dyn FnMut(u32) -> Option<Tid>,
) -> Futex {
    match waited.operation & libc::FUTEX_CMD_MASK {
        libc::FUTEX_LOCK_PI | libc::FUTEX_LOCK_PI2 => {
            let word = memory.get::<u32>(waited.at).unwrap_or_default();
            Futex::PriorityInheriting(thread(word & TID))
        }
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET => {
            if let Some(owner) = mutex(waited, memory).and_then(&mut *thread) {
                return Futex::Mutex(owner);
            }
            let ends = ending(waited, memory).and_then(thread).filter(|ends| *ends != waited.tid);
            ends.map_or(Futex::Plain, Futex::End)
        }
        _ => Futex::Plain,
    }
}

/// The owner of a mutex of glibc's: `struct __pthread_mutex_s` begins with
/// `__lock`, `__count`, `__owner`, `__nusers` and `__kind` on 64-bit machines
/// (`sysdeps/nptl/bits/struct_mutex.h`, and its namesake for x86).
fn mutex(waited: Waited, memory: &dyn Memory) -> Option<u32> {
    const ROBUST: u32 = 0x10;
    /// Type, shared between processes, and the two flags of elision.
    const PLAIN: u32 = 0x3 | 0x80 | 0x100 | 0x200;
    let mut bytes = [0; 20];
    memory.read(waited.at, &mut bytes).ok()?;
    let mut words = [0; 5];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes(bytes.try_into().ok()?);
    }
    let [lock, _, owner, users, kind] = words;
    let is_shared = kind & 0x80 != 0;
    let is_private = waited.operation & libc::FUTEX_PRIVATE_FLAG != 0;
    let fits = match kind {
        // Its waiters wait while the word is 2 (`lll_lock` of glibc).
        _ if kind & !PLAIN == 0 => {
            matches!(lock, 1 | 2) && waited.value == 2 && is_shared != is_private
        }
        // The word names the owner.
        _ if kind & !PLAIN == ROBUST => lock & TID == owner,
        _ => false,
    };
    (fits && users > 0).then_some(owner)
}

/// The thread whose end is awaited: the kernel clears `tid` of glibc's
/// `struct pthread` when it ends, and `pthread_join` waits for that. On x86-64
/// the struct begins with its own address, has that again in its third word,
/// and holds the number at 0x2d0 (`sysdeps/x86_64/nptl/tls.h`, `nptl/descr.h`).
#[cfg(target_arch = "x86_64")]
fn ending(waited: Waited, memory: &dyn Memory) -> Option<u32> {
    const NUMBER: u64 = 0x2d0;
    let start = Address(waited.at.0.checked_sub(NUMBER)?);
    let itself = |offset| memory.get::<Address>(start.plus(offset)) == Ok(start);
    let word = memory.get::<u32>(waited.at).ok()?;
    (itself(0) && itself(16) && word == waited.value && word != 0).then_some(word)
}

#[cfg(not(target_arch = "x86_64"))]
fn ending(_: Waited, _: &dyn Memory) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Piece;

    /// What `words` at 0x1000 are to thread 70, which waits for `value`, when
    /// there are the threads 70 to 79.
    fn see(words: &[u32], operation: i32, value: u32) -> Futex {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let memory = Piece { start: Address(0x1000), bytes };
        let waited = Waited { tid: Tid(70), at: Address(0x1000), operation, value };
        let mut thread = |tid: u32| (70..80).contains(&tid).then(|| Tid(tid.cast_signed()));
        look(waited, &memory, &mut thread)
    }

    #[test]
    fn the_owner_of_a_mutex_is_found() {
        assert_eq!(see(&[2, 0, 71, 1, 0, 0], 128, 2), Futex::Mutex(Tid(71)));
        assert_eq!(see(&[2, 3, 71, 1, 1, 0], 128, 2), Futex::Mutex(Tid(71)));
        assert_eq!(see(&[2, 0, 71, 1, 0x80, 0], 0, 2), Futex::Mutex(Tid(71)));
        // It waits for itself.
        assert_eq!(see(&[2, 0, 70, 1, 0, 0], 128, 2), Futex::Mutex(Tid(70)));
        let robust = [71 | 1 << 31, 0, 71, 1, 0x10, 0];
        assert_eq!(see(&robust, 0, 71 | 1 << 31), Futex::Mutex(Tid(71)));
    }

    #[test]
    fn a_word_that_may_be_anything_is_a_futex() {
        for (words, operation, value) in [
            (&[2, 0, 99, 1, 0, 0][..], 128, 2),
            (&[2, 0, 71, 0, 0, 0], 128, 2),
            (&[2, 0, 71, 1, 0x40, 0], 128, 2),
            (&[2, 0, 71, 1, 0x7777, 0], 128, 2),
            (&[2, 0, 71, 1, 0, 0], 0, 2),
            (&[0, 0, 71, 1, 0, 0], 128, 2),
            (&[1, 0, 71, 1, 0, 0], 128, 0),
            (&[72, 0, 71, 1, 0x10, 0], 128, 72),
            (&[2, 0, 71], 128, 2),
            (&[], 128, 2),
            (&[71, 0, 0, 0, 0, 0], 128, 71),
        ] {
            assert_eq!(see(words, operation, value), Futex::Plain, "{words:?}");
        }
    }

    #[test]
    fn a_lock_that_lends_priority_names_its_owner() {
        assert_eq!(see(&[72 | 3 << 30], 128 | 6, 0), Futex::PriorityInheriting(Some(Tid(72))));
        assert_eq!(see(&[99], 128 | 13, 0), Futex::PriorityInheriting(None));
        assert_eq!(see(&[], 6, 0), Futex::PriorityInheriting(None));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_end_of_a_thread_is_told_by_its_descriptor() {
        let see = |own: u64, number: u32| {
            let mut bytes = vec![0; 0x2d8];
            bytes[..8].copy_from_slice(&0x1000_u64.to_le_bytes());
            bytes[16..24].copy_from_slice(&own.to_le_bytes());
            bytes[0x2d0..0x2d4].copy_from_slice(&number.to_le_bytes());
            let memory = Piece { start: Address(0x1000), bytes };
            let at = Address(0x12d0);
            let waited = Waited { tid: Tid(70), at, operation: 9 | 256, value: 71 };
            look(waited, &memory, &mut |tid| Some(Tid(tid.cast_signed())))
        };
        assert_eq!(see(0x1000, 71), Futex::End(Tid(71)));
        assert_eq!(see(0x1008, 71), Futex::Plain);
        assert_eq!(see(0x1000, 72), Futex::Plain);
        assert_eq!(see(0x1000, 0), Futex::Plain);
    }
}
