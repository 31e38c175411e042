//! What was found out about code addresses, for the next time.

use crate::{
    memory::Address,
    stack::{CodeAddress, ModuleId, NativeFrame},
};

use super::{rule::Rule, table::Step, walk::Owner};

/// What to do at a code address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// What the unwind data says.
    Step(Step),
    /// A rule, which leads to an instruction that was interrupted.
    Resume(Rule),
    /// Load what the kernel saved when it called a signal handler.
    LeaveSignal,
    /// The return address is on top of the stack, or there is none.
    CallerOrRoot,
    /// There is no unwind data: see what is plausible.
    Guess,
    /// Follow the frame pointer, even to another stack.
    SwitchStacks,
    /// Go came here from another stack: find the call there.
    FindSwitch,
    /// Nobody called this code.
    Root,
    /// Nothing further is on the stack, which has this owner.
    RootOf(Owner),
}

/// What is known of one code address. It fills one line of the processor's
/// cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Entry {
    key: u64,
    /// The address as its image counts.
    local: u64,
    module: u32,
    pub(super) action: Action,
}

const _: () = assert!(size_of::<Entry>() == 64, "an entry is one cache line");

/// The code address that no key has, and the module that no image is.
const FREE: u64 = u64::MAX;
const NO_MODULE: u32 = u32::MAX;

impl Entry {
    const EMPTY: Self = Self { key: FREE, local: 0, module: NO_MODULE, action: Action::Guess };

    /// `code` is in `module`, which lies `bias` above its own addresses.
    pub(super) fn new(
        code: CodeAddress,
        module: Option<ModuleId>,
        bias: u64,
        action: Action,
    ) -> Self {
        let local = code.address().0.wrapping_sub(bias);
        Self { key: key(code), local, module: module.map_or(NO_MODULE, |id| id.0), action }
    }

    /// The image that holds the code.
    pub(super) fn module(&self) -> Option<ModuleId> {
        (self.module != NO_MODULE).then_some(ModuleId(self.module))
    }

    /// The frame of `code`, which this entry is about.
    #[inline]
    pub(super) fn frame(&self, code: CodeAddress) -> NativeFrame {
        let local = Address(self.local);
        let code = match code {
            CodeAddress::Instruction(_) => CodeAddress::Instruction(local),
            CodeAddress::Return(_) => CodeAddress::Return(local),
        };
        NativeFrame { module: self.module(), code }
    }

    /// The address that unwind data is looked up for, as the image counts.
    pub(super) fn lookup(&self, code: CodeAddress) -> u64 {
        self.frame(code).code.lookup().0
    }

    fn code(&self) -> Address {
        Address(self.key >> 1)
    }
}

/// An address and its kind: they differ in the row that they look up, and in
/// what the code there means. No user's address has the highest bit.
#[inline]
fn key(code: CodeAddress) -> u64 {
    match code {
        CodeAddress::Instruction(at) => at.0 << 1,
        CodeAddress::Return(at) => at.0 << 1 | 1,
    }
}

/// A direct-mapped cache, which doubles while its entries get into each
/// other's way.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Vec<Entry>,
    /// How many entries had to give way since the cache last grew.
    evicted: usize,
}

/// 32 KiB.
const FEWEST: usize = 512;
/// Half a megabyte.
const MOST: usize = 8192;

impl Cache {
    pub(super) fn new() -> Self {
        Self { entries: vec![Entry::EMPTY; FEWEST], evicted: 0 }
    }

    #[inline]
    fn place(&self, key: u64) -> usize {
        // The upper bits of a product with the golden ratio depend on all
        // bits of the key.
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        usize::try_from(mixed).unwrap_or(0) & (self.entries.len() - 1)
    }

    /// What is known of `code`.
    #[inline]
    pub(super) fn get(&self, code: CodeAddress) -> Option<&Entry> {
        let key = key(code);
        self.entries.get(self.place(key)).filter(|entry| entry.key == key)
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        if self.evicted > self.entries.len() / 2 && self.entries.len() < MOST {
            self.grow();
        }
        let place = self.place(entry.key);
        if let Some(slot) = self.entries.get_mut(place) {
            self.evicted += usize::from(slot.key != FREE && slot.key != entry.key);
            *slot = entry;
        }
    }

    fn grow(&mut self) {
        let larger = vec![Entry::EMPTY; self.entries.len() * 2];
        let old = std::mem::replace(&mut self.entries, larger);
        for entry in old.into_iter().filter(|entry| entry.key != FREE) {
            self.insert(entry);
        }
        self.evicted = 0;
    }

    /// Forget every address that `stays` does not hold for.
    pub(super) fn retain(&mut self, stays: impl Fn(Address) -> bool) {
        for entry in &mut self.entries {
            if entry.key != FREE && !stays(entry.code()) {
                *entry = Entry::EMPTY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(code: CodeAddress) -> Entry {
        Entry::new(code, Some(ModuleId(3)), 0x1000, Action::Guess)
    }

    #[test]
    fn a_return_address_is_not_an_instruction() {
        let mut cache = Cache::new();
        let code = CodeAddress::Return(Address(0x5000));
        cache.insert(entry(code));
        let frame = cache.get(code).unwrap().frame(code);
        let local = CodeAddress::Return(Address(0x4000));
        assert_eq!(frame, NativeFrame { module: Some(ModuleId(3)), code: local });
        assert!(cache.get(CodeAddress::Instruction(Address(0x5000))).is_none());
        assert!(cache.get(CodeAddress::Instruction(Address(0x4fff))).is_none());
    }

    #[test]
    fn it_grows_and_forgets() {
        let mut cache = Cache::new();
        let codes = || (0..6000).map(|n| CodeAddress::Return(Address(0x7fff_0000_0000 + n * 37)));
        for _ in 0..8 {
            codes().for_each(|code| cache.insert(entry(code)));
        }
        assert_eq!(cache.entries.len(), MOST);
        let kept = codes().filter(|code| cache.get(*code).is_some()).count();
        assert!(kept > 3000, "{kept}");
        cache.retain(|at| at.0 < 0x7fff_0000_8000);
        assert!(
            codes().all(|code| cache.get(code).is_none() || code.address().0 < 0x7fff_0000_8000)
        );
        assert!(codes().any(|code| cache.get(code).is_some()));
    }
}
