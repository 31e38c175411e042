//! Programs linked in every way that moves code away from where it lies in
//! the file, and files that are no longer where they were.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use object::{Object, ObjectSection};
use tempfile::TempDir;

use super::{find, live::Live, symbols_at};
use crate::{
    memory::{Address, Piece},
    module::{AddressSpace, Module, Modules, Place},
    snapshot::{Backing, Root},
};

/// Says where its function `spot` is, and waits for its end. The pages of
/// `spot` get another protection, so that the mapping of the code is split;
/// with `MOVE` they are replaced by a copy of them, which is in no file.
const SOURCE: &str = r#"
    #define _GNU_SOURCE
    #include <stdio.h>
    #include <string.h>
    #include <sys/mman.h>
    __attribute__((aligned(65536), noinline)) int spot(int x) { return x + 1; }
    __attribute__((aligned(65536), noinline)) int after(int x) { return x * spot(x); }
    int main(void) {
    #ifdef MOVE
        void *copy = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memcpy(copy, (void *)spot, 65536);
        mremap(copy, 65536, 65536, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)spot);
    #endif
        mprotect((void *)spot, 65536, PROT_READ | PROT_WRITE | PROT_EXEC);
        printf("%p %p\n", (void *)spot, (void *)after);
        fflush(stdout);
        return after(getchar());
    }
"#;

/// A program that runs, until this is dropped.
struct Running {
    child: Child,
    program: PathBuf,
    spot: u64,
    after: u64,
    directory: TempDir,
}

impl Running {
    fn new(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (source, program) = (directory.path().join("spot.c"), directory.path().join("spot"));
        fs::write(&source, SOURCE).unwrap();
        let mut compile = Command::new("cc");
        compile.args(["-O1", "-Wl,--build-id"]).args(flags).arg("-o").arg(&program).arg(&source);
        assert!(compile.status().unwrap().success(), "{compile:?}");
        let mut child =
            Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let mut words =
            line.split_whitespace().map(|word| u64::from_str_radix(&word[2..], 16).unwrap());
        let (spot, after) = (words.next().unwrap(), words.next().unwrap());
        Self { child, program, spot, after, directory }
    }

    fn live(&self) -> Live {
        Live::new(&self.child.id().to_string())
    }

    /// The module of `spot`, and the image's addresses of `spot` and `after`.
    fn look(&self, modules: &mut Modules, root: Root) -> (Arc<Module>, u64, u64) {
        let live = self.live();
        let mut space = AddressSpace::new(live.mappings(), root);
        let mapping = |at| space.mapping(Address(at)).unwrap().range.start;
        assert_ne!(mapping(self.spot), mapping(self.after), "the mapping is not split");
        let (module, spot) = find(&mut space, modules, &live, self.spot);
        let (same, after) = find(&mut space, modules, &live, self.after);
        assert!(Arc::ptr_eq(&module, &same));
        assert_eq!(module.name(), "spot");
        (module, spot, after)
    }

    fn nowhere(&self) -> PathBuf {
        self.directory.path().join("nowhere")
    }

    /// Where the file can be opened by its path alone.
    fn by_path(&self) -> Root {
        Root { map_files: Some(self.nowhere()), ..self.live().root() }
    }

    /// Where the file cannot be opened at all.
    fn by_memory(&self) -> Root {
        Root { directory: self.nowhere(), map_files: Some(self.nowhere()) }
    }

    /// Whether this process may open the files of another one's mappings
    /// (man 5 proc: that takes CAP_CHECKPOINT_RESTORE).
    fn may_map_files(&self) -> bool {
        let live = self.live();
        let start = live.mappings().into_iter().find(|m| m.inode != 0).unwrap().range;
        let link = live.root().map_files.unwrap();
        let name = format!("{:x}-{:x}", start.start.0, start.end.0);
        fs::metadata(link.join(name)).is_ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn check_symbols(module: &Module, spot: u64, after: u64) {
    assert_eq!(
        (symbols_at(module, spot), symbols_at(module, after)),
        (vec!["spot".to_owned()], vec!["after".to_owned()])
    );
}

/// What was copied is what the file of the same image has.
fn check_copy(copy: &Module, file: &Module) {
    assert!(copy.file().is_none() && file.file().is_some());
    assert_eq!(copy.build_id().unwrap(), file.build_id().unwrap());
    assert_eq!(copy.entry(), file.entry());
    for name in [".eh_frame", ".eh_frame_hdr", ".dynsym", ".dynstr"] {
        let Some(there) = file.section(name) else { continue };
        if name == ".eh_frame" && file.eh_frame_hdr().is_none() {
            // Nothing that is loaded says where it is.
            assert!(copy.eh_frame().is_none());
            continue;
        }
        let here = copy.section(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(here.address, there.address, "{name}");
        let (len, rest) = (here.bytes.len(), if name == ".eh_frame" { 4 } else { 0 });
        assert!(here.bytes == &there.bytes[..len] && len + rest >= there.bytes.len(), "{name}");
    }
}

fn check(flags: &[&str]) {
    let running = Running::new(flags);
    let mut modules = Modules::default();
    let (file, spot, after) = running.look(&mut modules, running.by_path());
    check_symbols(&file, spot, after);
    let bytes = fs::read(&running.program).unwrap();
    assert_eq!(file.file().unwrap(), bytes);
    let (copy, ..) = {
        let found = running.look(&mut modules, running.by_memory());
        assert_eq!((found.1, found.2), (spot, after));
        found
    };
    check_copy(&copy, &file);
    assert_eq!(copy.loaded(after, 8).unwrap(), file.loaded(after, 8).unwrap());
    let by_map_files = Root { directory: running.nowhere(), ..running.live().root() };
    let (found, ..) = running.look(&mut modules, by_map_files);
    // Not always one module with `file`: overlayfs calls one file by two names.
    assert_eq!(found.build_id(), file.build_id());
    assert_eq!(found.file(), running.may_map_files().then_some(&bytes[..]));
}

#[test]
fn a_program_that_may_lie_anywhere() {
    check(&["-pie"]);
}

#[test]
fn a_program_at_a_fixed_address() {
    check(&["-no-pie"]);
}

#[test]
fn a_static_program_that_may_lie_anywhere() {
    check(&["-static-pie"]);
}

#[test]
fn a_static_program_at_a_fixed_address() {
    check(&["-static"]);
}

#[test]
fn a_program_that_was_not_linked_to_begin_at_0() {
    check(&["-pie", "-Wl,-Ttext-segment=0x7000000"]);
}

#[test]
fn a_program_whose_headers_and_code_share_pages() {
    check(&["-pie", "-Wl,-z,noseparate-code"]);
}

#[test]
fn a_deleted_program_is_still_had() {
    let running = Running::new(&["-pie"]);
    let mut modules = Modules::default();
    let (file, spot, after) = running.look(&mut modules, running.by_path());
    fs::remove_file(&running.program).unwrap();
    if running.may_map_files() {
        let (found, ..) = running.look(&mut modules, running.live().root());
        assert_eq!(found.file(), file.file());
    }
    let mut modules = Modules::default();
    let (copy, ..) = {
        let found = running.look(&mut modules, running.by_path());
        assert_eq!((found.1, found.2), (spot, after));
        found
    };
    check_copy(&copy, &file);
    assert_eq!(copy.path(), file.path());
}

#[test]
fn another_program_in_its_place_is_not_taken_for_it() {
    let running = Running::new(&["-pie"]);
    let (file, ..) = running.look(&mut Modules::default(), running.by_path());
    let other = Running::new(&["-pie", "-DOTHER", "-O2"]);
    fs::rename(&other.program, &running.program).unwrap();
    let (copy, ..) = running.look(&mut Modules::default(), running.by_path());
    check_copy(&copy, &file);
}

#[test]
fn the_same_program_installed_again_is() {
    let running = Running::new(&["-pie"]);
    let (file, spot, after) = running.look(&mut Modules::default(), running.by_path());
    let again = running.directory.path().join("again");
    fs::copy(&running.program, &again).unwrap();
    fs::rename(&again, &running.program).unwrap();
    let (found, ..) = running.look(&mut Modules::default(), running.by_path());
    check_symbols(&found, spot, after);
    assert_eq!(found.file(), file.file());
    // What is mapped now has no name any more.
    assert_ne!(inode(&running.program), inode_of(&running));
}

fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().ino()
}

fn inode_of(running: &Running) -> u64 {
    let live = running.live();
    let space = AddressSpace::new(live.mappings(), live.root());
    space.mapping(Address(running.spot)).unwrap().inode
}

#[test]
fn two_processes_share_the_image_of_one_file() {
    let running = Running::new(&["-pie"]);
    let mut again = Command::new(&running.program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(again.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let at = u64::from_str_radix(&line.split_whitespace().next().unwrap()[2..], 16).unwrap();
    let live = Live::new(&again.id().to_string());
    let mut modules = Modules::default();
    let (module, spot, _) = running.look(&mut modules, running.live().root());
    let mut space = AddressSpace::new(live.mappings(), live.root());
    let (same, svma) = find(&mut space, &mut modules, &live, at);
    again.kill().unwrap();
    again.wait().unwrap();
    assert!(Arc::ptr_eq(&module, &same));
    assert_eq!(svma, spot);
}

#[test]
fn code_that_a_program_moved_to_other_memory_is_still_its_own() {
    let running = Running::new(&["-pie", "-DMOVE"]);
    let live = running.live();
    let space = AddressSpace::new(live.mappings(), live.root());
    let backing = |at| &space.mapping(Address(at)).unwrap().backing;
    assert_eq!(backing(running.spot), &Backing::Anonymous);
    assert_ne!(backing(running.after), &Backing::Anonymous);
    let (module, spot, after) = running.look(&mut Modules::default(), running.by_path());
    check_symbols(&module, spot, after);
}

#[test]
fn debug_information_is_inflated() {
    let running = Running::new(&["-pie", "-g", "-gz=zlib"]);
    let (module, ..) = running.look(&mut Modules::default(), running.by_path());
    let file = object::File::parse(module.file().unwrap()).unwrap();
    let section = file.section_by_name(".debug_info").unwrap();
    let inflated = module.section(".debug_info").unwrap().bytes;
    assert_ne!(inflated, section.data().unwrap());
    assert_eq!(inflated, &section.uncompressed_data().unwrap()[..]);
}

#[test]
fn an_update_keeps_what_did_not_change() {
    let running = Running::new(&["-pie"]);
    let live = running.live();
    let mut modules = Modules::default();
    let mut space = AddressSpace::new(live.mappings(), running.by_path());
    let (module, svma) = find(&mut space, &mut modules, &live, running.spot);
    // Now it cannot be opened again, by path nor from memory.
    fs::remove_file(&running.program).unwrap();
    let nothing = Piece::default();
    let mut mappings = live.mappings();
    assert_ne!(mappings, space.mappings());
    mappings.remove(0);
    space.update(mappings.clone());
    let (same, again) = find(&mut space, &mut modules, &nothing, running.spot);
    assert!(Arc::ptr_eq(&module, &same) && svma == again);
    // What is mapped elsewhere is another mapping.
    for mapping in &mut mappings {
        mapping.offset += 0x1000;
    }
    space.update(mappings);
    let place = space.find(Address(running.spot), &mut modules, &nothing);
    assert!(matches!(place, Place::Anonymous), "{place:?}");
    space.update(Vec::new());
    let place = space.find(Address(running.spot), &mut modules, &nothing);
    assert!(matches!(place, Place::Unmapped), "{place:?}");
}

/// A root where the program's path leads to a copy of `file`: how it is when
/// the path is one of another mount namespace.
fn elsewhere(running: &Running, file: &Path) -> (TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(running.program.strip_prefix("/").unwrap());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(file, path).unwrap();
    let root = Root { directory: directory.path().to_owned(), ..running.by_memory() };
    (directory, root)
}

#[test]
fn a_path_that_means_another_file_here_is_not_trusted() {
    let running = Running::new(&["-pie"]);
    let (file, spot, after) = running.look(&mut Modules::default(), running.by_path());
    let other = Running::new(&["-pie", "-O2", "-g"]);
    let (_directory, root) = elsewhere(&running, &other.program);
    let (copy, ..) = running.look(&mut Modules::default(), root);
    check_copy(&copy, &file);
    let (_directory, root) = elsewhere(&running, &running.program);
    let (same, ..) = running.look(&mut Modules::default(), root);
    assert_eq!(same.file(), file.file());
    check_symbols(&same, spot, after);
}

#[test]
fn a_recording_is_trusted() {
    let running = Running::new(&["-pie"]);
    let (file, spot, _) = running.look(&mut Modules::default(), running.by_path());
    let (_directory, root) = elsewhere(&running, &running.program);
    let root = Root { map_files: None, ..root };
    let mut mappings = running.live().mappings();
    for deleted in [false, true] {
        for mapping in &mut mappings {
            if let (Backing::File(path), true) = (&mapping.backing, deleted) {
                mapping.backing = Backing::Deleted(path.clone());
            }
        }
        let mut space = AddressSpace::new(mappings.clone(), root.clone());
        let nothing = Piece::default();
        let (module, svma) = find(&mut space, &mut Modules::default(), &nothing, running.spot);
        assert_eq!((module.file(), svma), (file.file(), spot));
    }
}
