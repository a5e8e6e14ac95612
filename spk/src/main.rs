//! spk
fn main() {}
