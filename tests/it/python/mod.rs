//! Python: every interpreter that the machine has.

mod dumped;
mod layouts;
mod lines;
mod lives;
mod locals;
mod locks;
mod merged;
mod objects;
mod seeds;
mod shares;
mod stacks;
mod threads;
