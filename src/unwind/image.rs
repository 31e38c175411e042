//! What unwinding keeps of one image.

use std::{ops::Range, sync::Arc};

use rustc_hash::FxHashMap;

use crate::{
    module::Module,
    stack::{CodeAddress, End},
};

use super::{
    cache::Action,
    cfi::{Cfi, Context, Covered, FdeAt, covering},
    frame_size,
    golang::GoTable,
    located::Located,
    machine::Machine,
    rule::{ReturnAddress, Rule},
    table::{Found, Step, Table},
    tables::Tables,
    walk::Owner,
};

/// The function that begins a greenlet's stack, and the one that calls it: on
/// the stack of whoever started the greenlet, of which nothing need be left.
/// greenlet exports both, or (before 2.0) neither by these names.
const BASES: [&str; 2] = [
    "_ZN8greenlet12UserGreenlet15inner_bootstrapEP9_greenletP7_object",
    "_ZN8greenlet12UserGreenlet13g_initialstubEPv",
];

/// The function in which a thread goes from one greenlet's stack to another's,
/// and the one that it calls for that: this moves the stack pointer first and
/// then copies what belongs there. Until they have returned what lies above
/// them may be of both. greenlet exports the first alone.
const EXCHANGE: [&str; 2] = ["_ZN8greenlet8Greenlet13g_switchstackEv", "slp_switch"];

/// How far behind a program's entry its first function may reach.
const START_SIZE: u64 = 64;

/// How many bytes lie at most between the system call that makes a thread and
/// the new one's own code.
const BEFORE_ROOT: u64 = 16;

/// One image.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) module: Arc<Module>,
    table: Option<Arc<Table>>,
    /// Which entry answers for which addresses, where the image's own sorted
    /// table does not say.
    index: Option<Vec<Covered>>,
    /// How many rows gimli evaluated.
    rows: usize,
    located: Located,
    /// The function that begins a greenlet's stack.
    base: Option<Range<u64>>,
    /// The functions that exchange greenlets' stacks.
    exchange: Vec<Range<u64>>,
    /// How large the frames are of functions for which this was asked, by
    /// where these begin.
    frame_sizes: FxHashMap<u64, Option<u64>>,
}

impl Image {
    pub(super) fn new(module: Arc<Module>) -> Self {
        let located = Located::of(&module);
        let base = BASES.iter().find_map(|name| module.exported_function(name));
        let mut exchange: Vec<_> = module.exported_function(EXCHANGE[0]).into_iter().collect();
        if !exchange.is_empty() {
            exchange.extend(module.function(EXCHANGE[1]));
        }
        let frame_sizes = FxHashMap::default();
        Self { module, table: None, index: None, rows: 0, located, base, exchange, frame_sizes }
    }

    /// Its unwind data.
    pub(super) fn cfi(&self, machine: &Machine) -> Cfi<'_> {
        self.located.cfi(&self.module, machine)
    }

    /// Go's own table.
    pub(super) fn go(&self) -> Option<GoTable<'_>> {
        self.located.go(&self.module)
    }

    /// What to do at `code`, whose address is as the image counts.
    pub(super) fn action(
        &mut self,
        code: CodeAddress,
        tables: &Tables,
        machine: &'static Machine,
        context: &mut Context,
    ) -> Result<Action, End> {
        let address = code.lookup().0;
        let is_return = matches!(code, CodeAddress::Return(_));
        // It is exact, and the other data of Go programs says nothing of the
        // frame pointer.
        let go = self.go().and_then(|go| go.action(address, is_return, machine));
        if let Some(action) = go {
            return Ok(action);
        }
        if self.base.as_ref().is_some_and(|base| base.contains(&address)) {
            return Ok(Action::RootOf(Owner::Greenlet));
        }
        if self.exchange.iter().any(|exchange| exchange.contains(&address)) {
            return Ok(Action::RootOf(Owner::Exchange));
        }
        Ok(match self.step(address, tables, machine, context)? {
            Some(Step::Rule(Rule { return_address: ReturnAddress::Undefined, .. })) => Action::Root,
            Some(step) => Action::Step(step),
            None if self.begins_at(address, tables, machine, context) => Action::Root,
            None if !is_return && self.precedes_root(address, tables, machine, context) => {
                Action::CallerOrRoot
            }
            None => Action::Guess,
        })
    }

    /// Whether `address`, which has no unwind data, is in the program's first
    /// function: musl's `_start` has none. glibc's has, and what lies behind it
    /// without any is called like other functions.
    fn begins_at(
        &mut self,
        address: u64,
        tables: &Tables,
        machine: &'static Machine,
        context: &mut Context,
    ) -> bool {
        let entry = self.module.entry();
        address.wrapping_sub(entry) < START_SIZE
            && matches!(self.step(entry, tables, machine, context), Ok(None))
    }

    /// Whether `address`, which has no unwind data, is just before code that
    /// nobody called. So it is between the system call that makes a thread and
    /// where the new one goes on: a thread that has not yet run stands there,
    /// and for some instructions the one that made it.
    fn precedes_root(
        &mut self,
        address: u64,
        tables: &Tables,
        machine: &'static Machine,
        context: &mut Context,
    ) -> bool {
        let after = (1..=BEFORE_ROOT).map(|distance| address.wrapping_add(distance));
        for address in after {
            match self.step(address, tables, machine, context) {
                Ok(None) => {}
                Ok(Some(Step::Rule(rule))) => {
                    return rule.return_address == ReturnAddress::Undefined;
                }
                Ok(Some(Step::Row(_))) | Err(_) => return false,
            }
        }
        false
    }

    /// What the unwind data says of `address`.
    fn step(
        &mut self,
        address: u64,
        tables: &Tables,
        machine: &'static Machine,
        context: &mut Context,
    ) -> Result<Option<Step>, End> {
        if self.table.is_none() {
            self.table = tables.table(&self.module, machine, self.rows, self.located.size);
        }
        match self.table.as_ref().map(|table| table.find(address)) {
            Some(Found::Step(step)) => Ok(Some(*step)),
            Some(Found::Nothing) => Ok(None),
            Some(Found::Beyond) | None => self.row_by_row(address, machine, context),
        }
    }

    /// How far the CFA is above the stack pointer in a function that has made
    /// a call at `address`, if that can be told.
    pub(super) fn frame_size(
        &mut self,
        address: u64,
        tables: &Tables,
        machine: &'static Machine,
        context: &mut Context,
    ) -> Option<u64> {
        let cfi = self.located.cfi(&self.module, machine);
        let fde = cfi.fde(entry(&cfi, &mut self.index, address)?).ok()?;
        let (start, len) = (fde.initial_address(), fde.len());
        if let Some(known) = self.frame_sizes.get(&start) {
            return *known;
        }
        // A part of a function that lies elsewhere is not entered by a call.
        let is_entry = match self.step(start, tables, machine, context) {
            Ok(Some(Step::Rule(rule))) => rule.is_entry(machine),
            _ => false,
        };
        let len = usize::try_from(len).ok().filter(|len| is_entry && *len <= frame_size::LARGEST);
        let code = len.and_then(|len| self.module.loaded(start, len).filter(|it| it.len() == len));
        let size = code.and_then(machine.frame_size);
        self.frame_sizes.insert(start, size);
        size
    }

    fn row_by_row(
        &mut self,
        address: u64,
        machine: &Machine,
        context: &mut Context,
    ) -> Result<Option<Step>, End> {
        let cfi = self.located.cfi(&self.module, machine);
        let Some(at) = entry(&cfi, &mut self.index, address) else { return Ok(None) };
        self.rows = self.rows.saturating_add(1);
        let rule = cfi.with_row(at, address, context, |row| Rule::of(row, machine));
        let rule = rule.map_err(|_| End::BadUnwindInfo)?;
        Ok(Some(rule.map_or(Step::Row(at), Step::Rule)))
    }
}

/// The entry for `address`, by the image's own sorted table if it has one.
fn entry(cfi: &Cfi<'_>, index: &mut Option<Vec<Covered>>, address: u64) -> Option<FdeAt> {
    if let Some(at) = cfi.find(address) {
        return Some(at);
    }
    if cfi.is_sorted() {
        return None;
    }
    let index = index.get_or_insert_with(|| cfi.index());
    covering(index, address).map(|covered| covered.fde)
}
