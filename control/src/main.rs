//! flowmob.
fn main() {}
