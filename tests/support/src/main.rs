//! nas
fn main() {}
