//! Python: every interpreter that the machine has.

mod collector;
mod dumped;
mod layouts;
mod lines;
mod lives;
mod locals;
mod locks;
mod merged;
mod objects;
mod parked;
mod recorded;
mod seeds;
mod shares;
mod stacks;
mod stub;
mod threads;
