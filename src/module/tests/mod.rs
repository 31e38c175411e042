mod files;
mod hostile;
mod linked;
mod live;

use std::sync::Arc;

use object::{Object, ObjectSymbol};

use self::live::Live;
use super::{AddressSpace, Module, Modules, Place};
use crate::{
    memory::{Address, Memory},
    snapshot::Backing,
};

/// The module at `at`, and `at` as the module counts.
fn find(
    space: &mut AddressSpace,
    modules: &mut Modules,
    memory: &dyn Memory,
    at: u64,
) -> (Arc<Module>, u64) {
    match space.find(Address(at), modules, memory) {
        Place::Module { module, bias } => (module, at.wrapping_sub(bias)),
        other => panic!("{at:#x}: {other:?}"),
    }
}

/// The names of the symbols that cover an address of a module.
fn symbols_at(module: &Module, at: u64) -> Vec<String> {
    let file = object::File::parse(module.file().unwrap()).unwrap();
    let symbols = file.symbols().chain(file.dynamic_symbols());
    let covers = |start: u64, size: u64| start <= at && at - start < size;
    symbols
        .filter(|symbol| covers(symbol.address(), symbol.size()))
        .map(|symbol| symbol.name().unwrap().to_owned())
        .collect()
}

#[inline(never)]
extern "C" fn a_function_of_this_program() -> u32 {
    std::process::id()
}

#[test]
fn functions_of_this_process_are_where_their_symbols_say() {
    let live = Live::new("self");
    let mut space = AddressSpace::new(live.mappings(), live.root());
    let mut modules = Modules::default();
    let cases: [(u64, &str, &str); 2] = [
        (a_function_of_this_program as *const () as u64, "spy", "a_function_of_this_program"),
        (libc::getppid as *const () as u64, "libc.so.6", "getppid"),
    ];
    for (at, module_name, symbol) in cases {
        let (module, svma) = find(&mut space, &mut modules, &live, at);
        assert!(module.name().starts_with(module_name), "{}", module.name());
        let symbols = symbols_at(&module, svma);
        assert!(symbols.iter().any(|name| name.contains(symbol)), "{svma:#x}: {symbols:?}");
        let code = module.loaded(svma, 16).unwrap();
        let mut there = [0; 16];
        live.read(Address(at), &mut there).unwrap();
        assert_eq!(code, there);
    }
    let local = 0_u8;
    let stack = space.find(Address(&raw const local as u64), &mut modules, &live);
    assert!(matches!(stack, Place::NoCode), "{stack:?}");
    assert!(matches!(space.find(Address(8), &mut modules, &live), Place::Unmapped));
}

#[test]
fn the_vdso_is_read_from_memory() {
    let live = Live::new("self");
    let mappings = live.mappings();
    let vdso = mappings.iter().find(|mapping| mapping.backing == Backing::Vdso).unwrap();
    let at = vdso.range.start.0;
    let mut space = AddressSpace::new(mappings.clone(), live.root());
    let mut modules = Modules::default();
    let (module, svma) = find(&mut space, &mut modules, &live, at);
    assert_eq!((module.name(), module.path(), svma), ("[vdso]", None, 0));
    assert!(module.build_id().is_some() && module.eh_frame().is_some());
    assert!(!module.section(".dynsym").unwrap().bytes.is_empty());
    let mut again = AddressSpace::new(mappings, live.root());
    assert!(Arc::ptr_eq(&find(&mut again, &mut modules, &live, at).0, &module));
}

/// Whatever is mapped as code is in the image what it is in memory: some of it,
/// from the middle of each mapping, or from where there is some.
fn check_code(live: &Live) -> usize {
    let mut space = AddressSpace::new(live.mappings(), live.root());
    let mut modules = Modules::default();
    let mut seen = 0;
    for mapping in live.mappings() {
        let (start, end) = (mapping.range.start.0, mapping.range.end.0);
        let place = space.find(mapping.range.start, &mut modules, live);
        let Place::Module { module, bias } = place else { continue };
        let loaded = |at: u64| Some((at, module.loaded(at.wrapping_sub(bias), 256)?));
        let middle = start.midpoint(end);
        let (at, code) = (middle..end).chain(start..middle).step_by(64).find_map(loaded).unwrap();
        let mut there = vec![0; code.len()];
        live.read(Address(at), &mut there).unwrap();
        assert!(code == there, "{}: {mapping:?}", module.name());
        seen += 1;
    }
    seen
}

#[test]
fn code_in_memory_is_the_code_of_the_image() {
    assert!(check_code(&Live::new("self")) >= 3);
}
