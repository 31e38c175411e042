//! Python: every interpreter that the machine has.

pub(crate) mod interpreters;
mod layouts;
mod lines;
mod objects;
mod recorded;
mod seeds;
mod stacks;
mod stub;
mod threads;
