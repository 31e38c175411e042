//! What the reader of a language runtime needs of a process beside what was
//! copied with its threads.

use crate::{
    memory::{Address, Fault, Memory, Piece, WorkingSet},
    module::{AddressSpace, Modules},
    runtime::{Detail, Detected, Places, RUNTIMES, Runtime, Trace},
    snapshot::{self, Noted, Recorded},
    task::Tid,
};

/// Values are kept as far as `dump` shows them at most when asked once.
const DETAIL: Detail = Detail { characters: 128, fields: true };

/// Look at the recorded threads as a replay does, with `memory` behind what was
/// copied, and return what had to be read of it. `number` gives threads their
/// numbers in the namespace of their own.
pub(super) fn rehearse(
    process: &snapshot::Process,
    number: impl Fn(Tid) -> Tid,
    memory: &dyn Memory,
    modules: &mut Modules,
) -> Vec<Piece> {
    let noted = Noted::new(memory, WorkingSet::BLOCK);
    let mut space = AddressSpace::new(process.mappings.clone(), process.root.clone());
    for detect in RUNTIMES {
        if let Detected::Found(mut runtime) = detect(&mut space, modules, &noted) {
            for thread in &process.threads {
                let recorded = Recorded::new(process, thread);
                let behind = Behind { recorded, noted: &noted };
                read(runtime.as_mut(), number(thread.tid), &behind);
            }
            break;
        }
    }
    noted.into_pieces()
}

/// Read all that is ever shown of a thread.
fn read(runtime: &mut dyn Runtime, thread: Tid, memory: &dyn Memory) {
    runtime.expect(thread, memory);
    let mut trace = Trace::default();
    if runtime.trace(thread, memory, &mut trace) {
        runtime.is_lock(&trace, Address(0), memory);
        runtime.resolve(&trace, Places::Columns, memory);
        runtime.thread_name(thread, memory);
        runtime.locals(&trace, DETAIL, memory);
    }
}

/// What was recorded of a thread, and behind it memory that is noted.
struct Behind<'a> {
    recorded: Recorded<'a>,
    noted: &'a Noted<'a>,
}

impl Memory for Behind<'_> {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.recorded.read(at, into).or_else(|_| self.noted.read(at, into))
    }
}
