//! The live target.

pub mod access;
