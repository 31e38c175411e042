//! Language runtimes: what turns the frames of an interpreter's loop into the
//! functions of the program that it interprets.
//!
//! None is known yet. This is the seam at which one is added: it is found in a
//! process by one of [`RUNTIMES`], reads what it needs through `dyn Memory`
//! (never stopping a thread), and gives segments of frames that each say in
//! which native frame they run.

use crate::{
    memory::{Address, Fault, Memory},
    module::{AddressSpace, Modules},
    snapshot::Registers,
    stack::ManagedFrame,
};

/// A language runtime that was found in a process.
pub trait Runtime: std::fmt::Debug {
    /// Its name and version, such as `CPython 3.12.1`.
    fn name(&self) -> &str;

    /// The managed frames of a thread with these registers, innermost segment
    /// first.
    ///
    /// # Errors
    /// When the thread's own state cannot be read. A segment that cannot be
    /// read to its end is cut, and no error.
    fn segments(
        &mut self,
        registers: &Registers,
        memory: &dyn Memory,
    ) -> Result<Vec<Segment>, Fault>;
}

/// Managed frames that one run of an interpreter's loop executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// An address on the thread's stack that lies in the native frame of the
    /// loop that runs these frames: by it the two are merged.
    pub entry: Address,
    /// Innermost first.
    pub frames: Vec<ManagedFrame>,
}

/// Looks for one kind of runtime in a process.
pub type Detect = fn(&mut AddressSpace, &mut Modules, &dyn Memory) -> Option<Box<dyn Runtime>>;

/// Every kind of runtime that is known, in the order in which they are looked
/// for.
pub const RUNTIMES: &[Detect] = &[];
