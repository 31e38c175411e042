//! ELF images: which file is mapped where, and what unwinding and
//! symbolization need of it.
//!
//! ```text
//! AddressSpace ──► open ──┬─ the file, by path or map_files ──► file ──┐
//! (one process)           └─ the target's memory ───────────► copied ──┴► Image ──► Module
//!                                                                                (Modules: once each)
//! ```

mod compressed;
mod copied;
mod dynamic;
mod elf;
mod file;
mod golang;
mod image;
mod modules;
mod named;
mod open;
mod space;

pub use file::FileBytes;
pub use golang::{GoStep, go_value};
pub use image::{Module, Section};
pub use modules::Modules;
pub use space::{AddressSpace, Place};

#[cfg(test)]
mod tests;
