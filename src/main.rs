//! The `spy` program.

fn main() {}
