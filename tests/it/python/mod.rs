//! Python, in every version that is there.

mod objects;
