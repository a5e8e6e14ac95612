//! holdfast-supervisor
fn main() {}
