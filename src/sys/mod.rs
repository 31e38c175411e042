//! The only unsafe code: what the kernel offers and the crates do not wrap.
//! Every function here is safe with any argument.
#![allow(unsafe_code, reason = "this room is the fence around it")]

pub(crate) mod clock;
pub(crate) mod map;
pub(crate) mod pidfd;
pub(crate) mod priority;
pub(crate) mod ptrace;
pub(crate) mod signal;
