//! Repair: what can be saved is.
//!
//! [`repair_index`] makes the index agree with the packs that are there; [`repair_packs`] moves
//! what can still be read out of damaged packs; [`repair_snapshots`] replaces snapshots that lack
//! something by ones that are whole without it. In this order they heal a repository as far as it
//! can be healed; then a backup stores again what the source still has.
//!
//! The lock is exclusive. Nothing is removed before what replaces it is durable and was read back;
//! cut off anywhere, a repair leaves waste at most, and is done again from the beginning.

mod index;
mod packs;
mod snapshots;
mod trees;

pub use index::{RepairIndexReport, RepairIndexRequest, repair_index};
pub use packs::{RepairPacksReport, RepairPacksRequest, repair_packs};
pub use snapshots::{
    RepairSnapshotsReport, RepairSnapshotsRequest, RepairedSnapshot, repair_snapshots,
};
