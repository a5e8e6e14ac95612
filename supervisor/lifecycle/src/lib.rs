//! When a daemon is started again, and what an installation does in which order: as tables.
//!
//! [`restart`] is a rectangle of state × event whose cells say the next state and the action; who
//! wants to audit the policy looks at the rectangle. [`hooks`] is a list of steps for each script
//! that DSM calls, on each generation of DSM.
//!
//! [`update`] is another rectangle, of an update's phases and what happens to it.
//!
//! **Invariant:** pure. Times, chance and facts come in as arguments, actions go out. The same
//! events give the same actions for ever.
//!
//! **Not here:** clocks, processes, files, logs. The program carries the actions out.

pub mod ending;
pub mod hooks;
pub mod restart;
pub mod update;
