//! Python: every interpreter that the machine has.

mod layouts;
mod lines;
mod objects;
mod stacks;
mod threads;
