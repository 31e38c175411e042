//! ELF images: which file is mapped where, and what unwinding and
//! symbolization need of it.

mod image;
mod space;

pub use image::{Module, Section};
pub use space::{AddressSpace, Modules, Place};
