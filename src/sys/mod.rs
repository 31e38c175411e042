//! The only unsafe code: what the kernel offers and the crates do not wrap.
//! Every function here is safe with any argument.
#![allow(unsafe_code, reason = "this is the room where it is allowed")]

pub(crate) mod pidfd;
pub(crate) mod ptrace;
pub(crate) mod signal;
