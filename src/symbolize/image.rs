//! Where the names of one image come from.

use std::{cell::OnceCell, path::Path, sync::Arc};

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
    main: Option<Elf>,
    /// The separate file of debug information.
    debug: Option<Elf>,
    dwarf: Option<Dwarf>,
    /// Made when the debug information does not know an address.
    tables: OnceCell<Tables>,
    /// When it was last used, as the symbolizer counts.
    pub(super) used: u64,
}

/// What names functions without debug information.
struct Tables {
    symbols: Symbols,
    go: Option<Go>,
    stubs: Stubs,
    held: usize,
}

impl Image {
    /// Open the debug information of `module`.
    pub(super) fn new(module: &Arc<Module>, host_debug: &Path) -> Self {
        let main = Bytes::of_image(module).and_then(Elf::new);
        let locator = Locator::new(module, host_debug);
        let own = main.as_ref().filter(|main| main.has(".debug_info"));
        let separate = match own {
            Some(_) => None,
            None => locator.debug(main.as_ref(), module.build_id()),
        };
        let (debug, path) = match separate {
            Some(found) => (Some(found.elf), Some(found.path)),
            None => (None, locator.image()),
        };
        let dwarf =
            own.or(debug.as_ref()).and_then(|elf| Dwarf::new(elf, path.as_deref(), locator));
        Self { module: Arc::clone(module), main, debug, dwarf, tables: OnceCell::new(), used: 0 }
    }

    /// How many bytes of memory are held that go when the image goes.
    pub(super) fn held(&self) -> usize {
        let debug = self.debug.as_ref().map_or(0, |debug| debug.bytes().held());
        let dwarf = self.dwarf.as_ref().map_or(0, Dwarf::held);
        let tables = self.tables.get().map_or(0, |tables| tables.held);
        debug.saturating_add(dwarf).saturating_add(tables)
    }

    fn tables(&self) -> &Tables {
        self.tables
            .get_or_init(|| Tables::new(&self.module, self.main.as_ref(), self.debug.as_ref()))
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
        match self.tables().go.as_ref().and_then(|go| go.find(at)) {
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
        let tables = self.tables();
        let symbol = tables.symbols.find(at).map(|name| demangle(&name));
        let stub = || {
            tables.stubs.find(at, &tables.symbols).map(|name| format!("{}@plt", demangle(&name)))
        };
        symbol.or_else(stub).unwrap_or_else(|| self.offset(at))
    }

    fn offset(&self, at: u64) -> String {
        format!("{}+{at:#x}", self.module.name())
    }
}

impl Tables {
    fn new(module: &Module, main: Option<&Elf>, debug: Option<&Elf>) -> Self {
        let mini = main.and_then(Elf::mini);
        let held = mini.as_ref().map_or(0, |mini| mini.bytes().held());
        // Each table may hold what the others do not.
        let full = [main, debug, mini.as_ref()].into_iter().flatten();
        let full = full.filter_map(|elf| Table::of(elf, ".symtab", ".strtab"));
        // Also of an image that was copied from memory.
        let copy = |name| module.section(name).map(|section| Bytes::copied(section.bytes.to_vec()));
        let dynamic = copy(".dynsym").zip(copy(".dynstr"));
        let dynamic = dynamic.map(|(entries, names)| Table { entries, names });
        let extents = main.or(debug).map(Elf::extents).unwrap_or_default();
        let symbols = Symbols::new(full.chain(dynamic).collect(), &extents);
        let go = main.and_then(|main| Go::new(main, &symbols));
        let stubs = main.map(Stubs::new).unwrap_or_default();
        Self { symbols, go, stubs, held }
    }
}
