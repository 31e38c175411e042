//! The unwind data of an image, flat: which rule from which address on.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::module::{Module, Section};

use super::{
    cfi::{Bytes, Cfi, CfiSection, Context, Covered, Fde, FdeAt, Row},
    machine::Machine,
    rule::Rule,
};

/// What the unwind data of an image says of an address of its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A rule.
    Rule(Rule),
    /// A row that is more than a rule: gimli evaluates it.
    Row(FdeAt),
}

/// Every row of an image: 6 bytes for each, and each different rule once.
///
/// ```text
/// starts  0x1000  0x1004  0x1010  0x1020    from here on ...
/// steps        0       1       0    none    ... this step of the pool
/// ```
#[derive(Debug, Default)]
pub struct Table {
    /// What `starts` are counted from, as the image counts.
    base: u64,
    /// Where each row begins. Ascending.
    starts: Vec<u32>,
    /// The place in `pool` of each row's step, or [`NONE`] or [`ASK`].
    steps: Vec<u16>,
    pool: Vec<Step>,
    /// For each page of code, how many rows begin before it.
    pages: Vec<u32>,
}

/// No entry covers the addresses.
const NONE: u16 = u16::MAX;
/// The pool is full: gimli must be asked.
const ASK: u16 = u16::MAX - 1;
/// The size of a page of the search, as a power of two: a kilobyte of code
/// has some thirty rows.
const PAGE: u32 = 10;

/// What a [`Table`] knows of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// The step to take.
    Step(&'a Step),
    /// The image has no unwind data for it.
    Nothing,
    /// The table cannot hold it (it has room for 4 GiB of code, and 65,534
    /// different steps): gimli must be asked.
    Beyond,
}

impl Table {
    /// Compile all unwind data of `module`. About 20 ms per megabyte.
    pub(super) fn of(module: &Module, machine: &Machine) -> Self {
        Self::build(&Cfi::of(module, machine), machine)
    }

    /// Compile `.eh_frame` and `.debug_frame` of an image for the machine that
    /// this program was built for.
    pub fn compile(eh_frame: Option<Section<'_>>, debug_frame: Option<Section<'_>>) -> Self {
        let machine = Machine::of(crate::snapshot::Architecture::HOST);
        Self::build(&Cfi::new(eh_frame, None, debug_frame, machine), machine)
    }

    pub(super) fn build(cfi: &Cfi<'_>, machine: &Machine) -> Self {
        let index = cfi.index();
        let mut rows = Rows::new(index.first().map_or(0, |first| first.start));
        let mut context = Context::new();
        for covered in &index {
            rows.add(cfi, covered, machine, &mut context);
        }
        rows.finish()
    }

    /// What is known of `address`, as the image counts.
    pub fn find(&self, address: u64) -> Found<'_> {
        let Some(offset) = address.checked_sub(self.base) else { return Found::Nothing };
        let Ok(offset) = u32::try_from(offset) else { return Found::Beyond };
        let step = self.row(offset).and_then(|row| self.steps.get(row));
        match step {
            None | Some(&NONE) => Found::Nothing,
            Some(&ASK) => Found::Beyond,
            Some(&step) => match self.pool.get(usize::from(step)) {
                Some(step) => Found::Step(step),
                None => Found::Nothing,
            },
        }
    }

    /// The last row that begins at or before `offset`.
    fn row(&self, offset: u32) -> Option<usize> {
        let page = (offset >> PAGE) as usize;
        let all = self.starts.len();
        let first = self.pages.get(page).map_or(all, |first| *first as usize);
        let end = self.pages.get(page + 1).map_or(all, |end| *end as usize);
        let rows = self.starts.get(first..end)?;
        (first + rows.partition_point(|start| *start <= offset)).checked_sub(1)
    }

    /// Every row: where it begins as the image counts, and its step.
    pub fn rows(&self) -> impl Iterator<Item = (u64, Option<&Step>)> + '_ {
        let starts = self.starts.iter().map(|start| self.base + u64::from(*start));
        starts.zip(self.steps.iter().map(|step| self.pool.get(usize::from(*step))))
    }

    /// How many different steps there are.
    pub fn distinct(&self) -> usize {
        self.pool.len()
    }

    /// How many bytes the table takes.
    pub fn size(&self) -> usize {
        size_of_val(&*self.starts)
            + size_of_val(&*self.steps)
            + size_of_val(&*self.pool)
            + size_of_val(&*self.pages)
    }
}

/// A table that is being built.
struct Rows {
    table: Table,
    /// The place of each step in the pool.
    places: HashMap<Step, u16, FxBuildHasher>,
    /// Where the last row ends.
    end: u32,
}

impl Rows {
    fn new(base: u64) -> Self {
        let table = Table { base, ..Table::default() };
        Self { table, places: HashMap::default(), end: 0 }
    }

    fn add(&mut self, cfi: &Cfi<'_>, covered: &Covered, machine: &Machine, context: &mut Context) {
        let rest = Step::Row(covered.fde);
        let mut reached = covered.start;
        let Ok(fde) = cfi.fde(covered.fde) else { return };
        let section = covered.fde.section;
        // Where a row cannot be had, gimli will say so when it is asked.
        let _ = each_row(cfi, section, &fde, context, |row| {
            let start = row.row.start_address().max(reached);
            let end = row.row.end_address().min(covered.end);
            if start < end {
                let step = Rule::of(row, machine).map_or(rest, Step::Rule);
                self.push(reached, start, rest);
                self.push(start, end, step);
                reached = end;
            }
        });
        self.push(reached, covered.end, rest);
    }

    /// From `start` to `end`, as the image counts: `step`. In ascending order.
    fn push(&mut self, start: u64, end: u64, step: Step) {
        let base = self.table.base;
        let offset = |address: u64| u32::try_from(address.saturating_sub(base)).unwrap_or(u32::MAX);
        let (start, end) = (offset(start), offset(end));
        if start >= end || start < self.end {
            return;
        }
        let place = self.place(step);
        if self.end < start {
            self.begin(self.end, NONE);
        }
        self.begin(start, place);
        self.end = end;
    }

    fn begin(&mut self, start: u32, place: u16) {
        if self.table.steps.last() != Some(&place) {
            self.table.starts.push(start);
            self.table.steps.push(place);
        }
    }

    fn place(&mut self, step: Step) -> u16 {
        if let Some(place) = self.places.get(&step) {
            return *place;
        }
        let place = u16::try_from(self.table.pool.len()).unwrap_or(ASK).min(ASK);
        if place < ASK {
            self.table.pool.push(step);
            self.places.insert(step, place);
        }
        place
    }

    fn finish(mut self) -> Table {
        if self.end > 0 {
            // All that is beyond 4 GiB is gimli's.
            self.begin(self.end, if self.end == u32::MAX { ASK } else { NONE });
        }
        let mut table = self.table;
        let last = table.starts.last().map_or(0, |last| last >> PAGE);
        let mut row = 0;
        for page in 0..=u64::from(last) {
            let begins = |start: &u32| u64::from(*start) < page << PAGE;
            while table.starts.get(row).is_some_and(begins) {
                row += 1;
            }
            table.pages.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        table.starts.shrink_to_fit();
        table.steps.shrink_to_fit();
        table.pool.shrink_to_fit();
        table
    }
}

fn each_row<'a>(
    cfi: &Cfi<'a>,
    section: CfiSection,
    fde: &Fde<'a>,
    context: &mut Context,
    mut then: impl FnMut(&Row<'a, '_>),
) -> gimli::Result<()> {
    let bytes: Bytes<'a> = cfi.bytes(section);
    let mut rows = cfi.rows(section, fde, context)?;
    while let Some(row) = rows.next_row()? {
        then(&Row { row, fde, section: bytes });
    }
    Ok(())
}
