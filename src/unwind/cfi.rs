//! Call frame information: the sections that hold it, and what gimli makes of
//! them.

use std::collections::HashMap;

use gimli::{
    BaseAddresses, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, Evaluation, EvaluationResult,
    Expression, FrameDescriptionEntry, LittleEndian, Location, OperationIter, UnwindContext,
    UnwindExpression, UnwindOffset, UnwindSection, UnwindTable, Value,
};

use crate::{
    memory::{Address, Memory},
    module::{Module, Section},
    snapshot::{Register, Registers},
    stack::End,
};

use super::{machine::Machine, rule::GimliRow, words::Words};

pub(super) type Bytes<'a> = EndianSlice<'a, LittleEndian>;
pub(super) type Fde<'a> = FrameDescriptionEntry<Bytes<'a>>;
pub(super) type Context = UnwindContext<usize>;

/// How many operations an expression may take.
const MAX_OPERATIONS: u32 = 1000;

/// The unwind data of one image.
#[derive(Clone, Debug)]
pub(super) struct Cfi<'a> {
    eh_frame: Option<EhFrame<Bytes<'a>>>,
    header: Option<EhFrameHdr<Bytes<'a>>>,
    debug_frame: Option<DebugFrame<Bytes<'a>>>,
    /// Where `.eh_frame` begins, as the image counts.
    eh_frame_address: u64,
    bases: BaseAddresses,
}

/// Which of the two sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CfiSection {
    /// `.eh_frame`, which is loaded with the image.
    EhFrame,
    /// `.debug_frame`, which may be in the file.
    DebugFrame,
}

/// Where a frame description entry (the rows of one function) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FdeAt {
    /// In which section.
    pub section: CfiSection,
    /// How far into it.
    pub offset: u32,
}

/// The addresses that a frame description entry answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covered {
    /// The first, as the image counts.
    pub start: u64,
    /// The first behind.
    pub end: u64,
    /// The entry.
    pub fde: FdeAt,
}

/// A row for an address, and what is needed to evaluate it.
#[derive(Debug)]
pub(super) struct Row<'a, 'row> {
    pub(super) row: &'row GimliRow,
    pub(super) fde: &'row Fde<'a>,
    pub(super) section: Bytes<'a>,
}

impl<'a> Cfi<'a> {
    /// The unwind data in these sections, as compilers for `machine` write it.
    pub(super) fn new(
        eh_frame: Option<Section<'a>>,
        header: Option<Section<'a>>,
        debug_frame: Option<Section<'a>>,
        machine: &Machine,
    ) -> Self {
        let mut bases = BaseAddresses::default();
        if let Some(section) = eh_frame {
            bases = bases.set_eh_frame(section.address);
        }
        if let Some(section) = header {
            bases = bases.set_eh_frame_hdr(section.address);
        }
        Self {
            eh_frame: eh_frame.map(|section| {
                let mut frames = EhFrame::new(section.bytes, LittleEndian);
                frames.set_address_size(8);
                frames.set_vendor(machine.vendor);
                frames
            }),
            header: header.map(|section| EhFrameHdr::new(section.bytes, LittleEndian)),
            debug_frame: debug_frame.map(|section| {
                let mut frames = DebugFrame::new(section.bytes, LittleEndian);
                frames.set_address_size(8);
                frames.set_vendor(machine.vendor);
                frames
            }),
            eh_frame_address: eh_frame.map_or(0, |section| section.address),
            bases,
        }
    }

    /// The unwind data of `module`.
    pub(super) fn of(module: &'a Module, machine: &Machine) -> Self {
        Self::new(module.eh_frame(), module.eh_frame_hdr(), module.debug_frame(), machine)
    }

    /// The entry for `address` by the sorted table that linkers make, or
    /// `None` where there is no table, or no such entry in it.
    pub(super) fn find(&self, address: u64) -> Option<FdeAt> {
        let header = self.header.as_ref()?.parse(&self.bases, 8).ok()?;
        let pointer = header.table()?.lookup(address, &self.bases).ok()?.direct().ok()?;
        let offset = u32::try_from(pointer.checked_sub(self.eh_frame_address)?).ok()?;
        let at = FdeAt { section: CfiSection::EhFrame, offset };
        self.fde(at).ok()?.contains(address).then_some(at)
    }

    /// Whether [`find`](Self::find) sees all there is.
    pub(super) fn is_sorted(&self) -> bool {
        let table = |header: &EhFrameHdr<Bytes<'a>>| {
            header.parse(&self.bases, 8).is_ok_and(|header| header.table().is_some())
        };
        self.debug_frame.is_none()
            && (self.eh_frame.is_none() || self.header.as_ref().is_some_and(table))
    }

    /// The entry at `at`.
    pub(super) fn fde(&self, at: FdeAt) -> gimli::Result<Fde<'a>> {
        let offset = usize::try_from(at.offset).unwrap_or(usize::MAX);
        let missing = gimli::Error::NoUnwindInfoForAddress;
        match at.section {
            CfiSection::EhFrame => {
                let frames = self.eh_frame.as_ref().ok_or(missing)?;
                frames.fde_from_offset(&self.bases, offset.into(), EhFrame::cie_from_offset)
            }
            CfiSection::DebugFrame => {
                let frames = self.debug_frame.as_ref().ok_or(missing)?;
                frames.fde_from_offset(&self.bases, offset.into(), DebugFrame::cie_from_offset)
            }
        }
    }

    /// The rows of `fde`, which is in `section`.
    pub(super) fn rows<'s, 'context>(
        &'s self,
        section: CfiSection,
        fde: &Fde<'a>,
        context: &'context mut Context,
    ) -> gimli::Result<UnwindTable<'s, 'context, Bytes<'a>>> {
        let missing = gimli::Error::NoUnwindInfoForAddress;
        match section {
            CfiSection::EhFrame => {
                fde.rows(self.eh_frame.as_ref().ok_or(missing)?, &self.bases, context)
            }
            CfiSection::DebugFrame => {
                fde.rows(self.debug_frame.as_ref().ok_or(missing)?, &self.bases, context)
            }
        }
    }

    /// Give `then` the row for `address` of the entry at `at`.
    pub(super) fn with_row<T>(
        &self,
        at: FdeAt,
        address: u64,
        context: &mut Context,
        then: impl FnOnce(&Row<'a, '_>) -> T,
    ) -> gimli::Result<T> {
        let fde = self.fde(at)?;
        let mut rows = self.rows(at.section, &fde, context)?;
        while let Some(row) = rows.next_row()? {
            if row.contains(address) {
                return Ok(then(&Row { row, fde: &fde, section: self.bytes(at.section) }));
            }
        }
        Err(gimli::Error::NoUnwindInfoForAddress)
    }

    pub(super) fn bytes(&self, section: CfiSection) -> Bytes<'a> {
        let bytes = match section {
            CfiSection::EhFrame => self.eh_frame.as_ref().map(bytes_of),
            CfiSection::DebugFrame => self.debug_frame.as_ref().map(bytes_of),
        };
        bytes.unwrap_or_else(|| EndianSlice::new(&[], LittleEndian))
    }

    /// Which entry answers for which addresses, by address, without overlap:
    /// an entry answers until the next one begins, as it does in the linkers'
    /// sorted table, and `.debug_frame` only where `.eh_frame` does not. What
    /// is damaged is left out.
    pub(super) fn index(&self) -> Vec<Covered> {
        let mut all = Vec::new();
        if let Some(frames) = &self.eh_frame {
            collect(frames, &self.bases, CfiSection::EhFrame, &mut all);
        }
        clip(&mut all);
        if let Some(frames) = &self.debug_frame {
            let loaded = all.clone();
            let mut more = Vec::new();
            collect(frames, &self.bases, CfiSection::DebugFrame, &mut more);
            more.retain(|covered| covering(&loaded, covered.start).is_none());
            all.append(&mut more);
            clip(&mut all);
        }
        all
    }
}

/// Which of `index` answers for `address`.
pub(super) fn covering(index: &[Covered], address: u64) -> Option<&Covered> {
    let after = index.partition_point(|covered| covered.start <= address);
    index.get(after.checked_sub(1)?).filter(|covered| address < covered.end)
}

fn clip(all: &mut Vec<Covered>) {
    all.sort_by_key(|covered| (covered.start, covered.fde));
    all.dedup_by_key(|covered| covered.start);
    let mut next = u64::MAX;
    for covered in all.iter_mut().rev() {
        covered.end = covered.end.min(next);
        next = covered.start;
    }
}

fn bytes_of<'a, S: gimli::Section<Bytes<'a>>>(section: &S) -> Bytes<'a> {
    *section.reader()
}

fn collect<'a, S>(frames: &S, bases: &BaseAddresses, section: CfiSection, into: &mut Vec<Covered>)
where
    S: UnwindSection<Bytes<'a>>,
    S::Offset: std::hash::Hash,
{
    // Thousands of entries share one or two headers.
    let mut headers = HashMap::new();
    let mut entries = frames.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let gimli::CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(|frames, bases, offset| {
            let key = UnwindOffset::into(offset);
            if let Some(header) = headers.get(&key) {
                return Ok(gimli::CommonInformationEntry::clone(header));
            }
            let header = frames.cie_from_offset(bases, offset)?;
            headers.insert(key, header.clone());
            Ok(header)
        });
        let Ok(fde) = fde else { continue };
        let (start, end) = (fde.initial_address(), fde.end_address());
        let (Ok(offset), true) = (u32::try_from(fde.offset()), start < end) else { continue };
        into.push(Covered { start, end, fde: FdeAt { section, offset } });
    }
}

impl<'a> Row<'a, '_> {
    /// The number of the column that holds the return address.
    pub(super) fn return_column(&self) -> u16 {
        self.fde.cie().return_address_register().0
    }

    fn expression(&self, expression: UnwindExpression<usize>) -> Expression<Bytes<'a>> {
        let range = expression.offset..expression.offset.saturating_add(expression.length);
        let bytes = self.section.slice().get(range).unwrap_or_default();
        Expression(EndianSlice::new(bytes, LittleEndian))
    }

    pub(super) fn operations(
        &self,
        expression: UnwindExpression<usize>,
    ) -> OperationIter<Bytes<'a>> {
        self.expression(expression).operations(self.fde.cie().encoding())
    }

    /// The value of `expression`, with `first` on the stack before it begins.
    pub(super) fn evaluate(
        &self,
        expression: UnwindExpression<usize>,
        first: Option<u64>,
        registers: &Registers,
        words: &mut Words<'_>,
    ) -> Result<u64, End> {
        let encoding = self.fde.cie().encoding();
        let mut evaluation = self.expression(expression).evaluation(encoding);
        evaluation.set_max_iterations(MAX_OPERATIONS);
        if let Some(first) = first {
            evaluation.set_initial_value(first);
        }
        let damaged = |_| End::BadUnwindInfo;
        let mut state = evaluation.evaluate().map_err(damaged)?;
        loop {
            state = match state {
                EvaluationResult::Complete => return result(&evaluation),
                EvaluationResult::RequiresMemory { address, size, space: None, .. } => {
                    let value = read(words, address, size)?;
                    evaluation.resume_with_memory(Value::Generic(value))
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = registers.get(Register(register.0)).ok_or(End::UnknownRegister)?;
                    evaluation.resume_with_register(Value::Generic(value))
                }
                // The rest (thread-local storage, debug information) has no
                // business in unwind data.
                _ => return Err(End::BadUnwindInfo),
            }
            .map_err(damaged)?;
        }
    }
}

fn result(evaluation: &Evaluation<Bytes<'_>>) -> Result<u64, End> {
    let value = match (evaluation.value_result(), evaluation.as_result()) {
        (Some(value), _) => value.to_u64(u64::MAX).ok(),
        (None, [piece]) => match piece.location {
            Location::Address { address } => Some(address),
            Location::Value { value } => value.to_u64(u64::MAX).ok(),
            _ => None,
        },
        _ => None,
    };
    value.ok_or(End::BadUnwindInfo)
}

/// A value of 1 to 8 bytes, zero-extended.
fn read(words: &mut Words<'_>, at: u64, size: u8) -> Result<u64, End> {
    if size == 8 {
        return words.word(at).ok_or(End::Unreadable);
    }
    let mut bytes = [0; 8];
    let wanted = bytes.get_mut(..usize::from(size)).ok_or(End::BadUnwindInfo)?;
    let memory: &dyn Memory = words.memory();
    memory.read(Address(at), wanted).map_err(|_| End::Unreadable)?;
    Ok(u64::from_le_bytes(bytes))
}
