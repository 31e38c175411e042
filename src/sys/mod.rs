//! The calls that the compiler cannot check, each behind a function that is
//! safe with any argument.
#![allow(unsafe_code, reason = "this room is the fence around it")]

pub(crate) mod map;
