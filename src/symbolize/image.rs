//! Where the names of one image come from.

use std::{cell::OnceCell, path::Path, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    bytes::Bytes,
    cython::{Name, Source},
    demangle::{cut, demangle},
    dwarf::{Dwarf, Function},
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
    /// Where to look for what belongs to it.
    locator: Locator,
    /// The C files that Cython wrote, as far as they were needed.
    sources: FxHashMap<String, Source>,
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
            own.or(debug.as_ref()).map(|elf| Dwarf::new(elf, path.as_deref(), locator.clone()));
        let (module, tables) = (Arc::clone(module), OnceCell::new());
        let sources = FxHashMap::default();
        Self { module, main, debug, dwarf, tables, locator, sources, used: 0 }
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
        let functions = self.without_wrapper(functions);
        let last = functions.len().saturating_sub(1);
        let mut symbols = Vec::with_capacity(functions.len());
        for (number, function) in functions.into_iter().enumerate() {
            if let Some(symbol) = self.compiled(&function) {
                symbols.push(Symbol { inlined: number != last, ..symbol });
                continue;
            }
            // Assembly has lines, and no functions in the debug information.
            let name = function.name.as_deref().map(demangle);
            let name = name.or_else(|| (number == last).then(|| self.name(at)));
            symbols.push(Symbol {
                function: name.unwrap_or_else(|| self.offset(at)),
                file: function.file,
                line: function.line,
                module: Some(self.module.name().to_owned()),
                inlined: number != last,
                compiled: false,
            });
        }
        symbols
    }

    fn cython(&self, symbol: &str) -> Option<Name> {
        Name::parse(symbol, self.module.name())
    }

    /// What Cython compiled is called as it was written. Where its C file is
    /// not there, a line of that would tell nobody anything.
    fn compiled(&mut self, function: &Function) -> Option<Symbol> {
        let name = self.cython(function.name.as_deref()?)?;
        let module = Some(self.module.name().to_owned());
        let place = function.file.as_ref().zip(function.line).and_then(|(file, line)| {
            let locator = &self.locator;
            let source = self.sources.entry(file.clone());
            source.or_insert_with(|| Source::open(locator, file)).find(line)
        });
        Some(match place {
            Some((file, line)) => Symbol {
                function: name.function,
                file: Some(file.to_owned()),
                line: Some(line),
                module,
                inlined: false,
                compiled: true,
            },
            None => Symbol { function: name.whole(), module, compiled: true, ..Symbol::default() },
        })
    }

    /// A function of Cython's is two of C, the inner of which is often inlined:
    /// one is enough.
    fn without_wrapper(&self, mut functions: Vec<Function>) -> Vec<Function> {
        let name = |function: &Function| self.cython(function.name.as_deref()?);
        if let [.., body, wrapper] = &functions[..]
            && let (Some(body), Some(wrapper)) = (name(body), name(wrapper))
            && wrapper.is_wrapper
            && body == (Name { is_wrapper: false, ..wrapper })
        {
            functions.pop();
        }
        functions
    }

    fn listed(&self, at: u64) -> Symbol {
        let module = Some(self.module.name().to_owned());
        match self.tables().go.as_ref().and_then(|go| go.find(at)) {
            Some(found) => Symbol {
                function: cut(&found.name),
                file: found.file,
                line: found.line,
                module,
                ..Symbol::default()
            },
            None => {
                let symbol = self.tables().symbols.find(at);
                let compiled = symbol.is_some_and(|name| self.cython(&name).is_some());
                Symbol { function: self.name(at), module, compiled, ..Symbol::default() }
            }
        }
    }

    /// The name of the function at an address, from the symbol tables.
    fn name(&self, at: u64) -> String {
        let tables = self.tables();
        let symbol = tables.symbols.find(at).map(|name| match self.cython(&name) {
            Some(name) => name.whole(),
            None => demangle(&name),
        });
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
