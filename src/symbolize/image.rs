//! Where the names of one image come from.

use std::{path::Path, sync::Arc};

use super::{
    bytes::Bytes,
    demangle::{cut, demangle},
    dwarf::Dwarf,
    elf::Elf,
    go::Go,
    locate::Locator,
    plt::Stubs,
    symbols::{Symbols, Table},
};
use crate::{module::Module, stack::Symbol};

/// One image, and what was opened to name its functions.
pub(super) struct Image {
    module: Arc<Module>,
    dwarf: Option<Dwarf>,
    symbols: Symbols,
    go: Option<Go>,
    stubs: Stubs,
    /// When it was last used, as the symbolizer counts.
    pub(super) used: u64,
    /// How many bytes of memory are held beside those of `dwarf`.
    held: usize,
}

impl Image {
    /// Open what names the functions of `module`.
    pub(super) fn new(module: &Arc<Module>, host_debug: &Path) -> Self {
        let main = Bytes::of_image(module).and_then(Elf::new);
        let locator = Locator::new(module, host_debug);
        let own = main.as_ref().filter(|main| main.has(".debug_info"));
        let separate = match own {
            Some(_) => None,
            None => locator.debug(main.as_ref(), module.build_id()),
        };
        let debug = separate.as_ref().map(|found| &found.elf);
        let path = separate.as_ref().map(|found| found.path.clone()).or_else(|| locator.image());
        let dwarf = own.or(debug).and_then(|elf| Dwarf::new(elf, path.as_deref(), locator));

        let extents = main.as_ref().or(debug).map(Elf::extents).unwrap_or_default();
        let mini = main.as_ref().and_then(Elf::mini);
        // With debug information, what it holds is counted there.
        let held = match (debug, &dwarf) {
            (Some(debug), None) => debug.bytes().held(),
            _ => 0,
        };
        let held = held.saturating_add(mini.as_ref().map_or(0, |mini| mini.bytes().held()));
        let symbols = Symbols::new(tables(module, main.as_ref(), debug, mini.as_ref()), &extents);
        let go = main.as_ref().and_then(|main| Go::new(main, &symbols));
        let stubs = main.as_ref().map(|main| Stubs::new(main, &symbols)).unwrap_or_default();
        Self { module: Arc::clone(module), dwarf, symbols, go, stubs, used: 0, held }
    }

    /// How many bytes of memory are held that go when the image goes.
    pub(super) fn held(&self) -> usize {
        self.held.saturating_add(self.dwarf.as_ref().map_or(0, Dwarf::held))
    }

    /// The functions at an address of the image, innermost first; never empty.
    pub(super) fn functions(&mut self, at: u64) -> Vec<Symbol> {
        let mut found = self.described(at);
        if found.is_empty() {
            found.push(self.listed(at));
        }
        found
    }

    fn described(&mut self, at: u64) -> Vec<Symbol> {
        let functions = self.dwarf.as_mut().map(|dwarf| dwarf.functions(at)).unwrap_or_default();
        let last = functions.len().saturating_sub(1);
        let mut symbols = Vec::with_capacity(functions.len());
        for (number, function) in functions.into_iter().enumerate() {
            // Assembly has lines, and no functions in the debug information.
            let name = function.name.as_deref().map(demangle);
            let name = name.or_else(|| (number == last).then(|| self.name(at)));
            symbols.push(Symbol {
                function: name.unwrap_or_else(|| self.offset(at)),
                file: function.file,
                line: function.line,
                module: Some(self.module.name().to_owned()),
                inlined: number != last,
            });
        }
        symbols
    }

    fn listed(&self, at: u64) -> Symbol {
        let module = Some(self.module.name().to_owned());
        match self.go.as_ref().and_then(|go| go.find(at)) {
            Some(found) => Symbol {
                function: cut(&found.name),
                file: found.file,
                line: found.line,
                module,
                inlined: false,
            },
            None => Symbol { function: self.name(at), module, ..Symbol::default() },
        }
    }

    /// The name of the function at an address, from the symbol tables.
    fn name(&self, at: u64) -> String {
        let symbol = self.symbols.find(at).map(|name| demangle(&name));
        let stub = || self.stubs.find(at).map(|name| format!("{}@plt", demangle(name)));
        symbol.or_else(stub).unwrap_or_else(|| self.offset(at))
    }

    fn offset(&self, at: u64) -> String {
        format!("{}+{at:#x}", self.module.name())
    }
}

/// The symbol tables of an image. Each may hold what the others do not.
fn tables(
    module: &Module,
    main: Option<&Elf>,
    debug: Option<&Elf>,
    mini: Option<&Elf>,
) -> Vec<Table> {
    let full = [main, debug, mini].into_iter().flatten();
    let full = full.filter_map(|elf| Table::of(elf, ".symtab", ".strtab"));
    let dynamic = main.and_then(|main| Table::of(main, ".dynsym", ".dynstr"));
    // An image that was copied from memory, such as the vdso.
    let copied = || {
        let copy = |name| module.section(name).map(|section| Bytes::copied(section.bytes.to_vec()));
        Some(Table { entries: copy(".dynsym")?, names: copy(".dynstr")? })
    };
    full.chain(dynamic.or_else(copied)).collect()
}
