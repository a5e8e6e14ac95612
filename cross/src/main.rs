//! cross
fn main() {}
