//! What unwinding keeps of one image.

use std::sync::Arc;

use crate::{
    module::Module,
    stack::{CodeAddress, End},
};

use super::{
    cache::Action,
    cfi::{Cfi, Context, Covered, FdeAt, covering},
    golang::GoTable,
    located::Located,
    machine::Machine,
    rule::{ReturnAddress, Rule},
    table::{Found, Step, Table},
    tables::Tables,
};

/// How far behind a program's entry its first function may reach.
const START_SIZE: u64 = 64;

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
}

impl Image {
    pub(super) fn new(module: Arc<Module>) -> Self {
        let located = Located::of(&module);
        Self { module, table: None, index: None, rows: 0, located }
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
        if self.table.is_none() {
            self.table = tables.table(&self.module, machine, self.rows, self.located.size);
        }
        let step = match self.table.as_ref().map(|table| table.find(address)) {
            Some(Found::Step(step)) => Some(*step),
            Some(Found::Nothing) => None,
            Some(Found::Beyond) | None => self.row_by_row(address, machine, context)?,
        };
        Ok(match step {
            Some(Step::Rule(Rule { return_address: ReturnAddress::Undefined, .. })) => Action::Root,
            Some(step) => Action::Step(step),
            // musl's `_start` has no unwind data.
            None if address.wrapping_sub(self.module.entry()) < START_SIZE => Action::Root,
            None => Action::Guess,
        })
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
