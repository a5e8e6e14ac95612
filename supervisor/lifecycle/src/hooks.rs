//! What each script of a package does, as a list of steps for each generation of DSM.
//!
//! The order of the scripts is DSM's (developer guide, *scripts*): on an upgrade the new version's
//! `preupgrade`, the **old** version's `preuninst` and `postuninst`, then the new version's
//! `preinst`, `postinst` and `postupgrade`. Below DSM 7 the target, and the data in it, is wiped
//! between them.
//!
//! Every step looks at the disk and can be run again after a power cut: it finishes what was begun
//! or finds nothing to do. Where the disk alone would not tell, a mark is put there first and
//! removed last. What no script comes to finish, the next start does.

/// A script that DSM calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Before the files are there. A refusal stops the installation.
    PreInst,
    /// The files are there. A failure leaves a package that must be repaired.
    PostInst,
    /// Before the files go. A refusal stops the removal.
    PreUninst,
    /// The files are gone.
    PostUninst,
    /// Before an upgrade, and on some DSM before a first installation too.
    PreUpgrade,
    /// After an upgrade.
    PostUpgrade,
    /// No script of DSM's: before the daemon is started, whatever happened before. A script that
    /// broke off is finished or undone here when DSM calls none of them again.
    BeforeStart,
}

impl Hook {
    /// The script of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "preinst" => Self::PreInst,
            "postinst" => Self::PostInst,
            "preuninst" => Self::PreUninst,
            "postuninst" => Self::PostUninst,
            "preupgrade" => Self::PreUpgrade,
            "postupgrade" => Self::PostUpgrade,
            _ => return None,
        })
    }
}

/// Where DSM keeps a package's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataPlace {
    /// Inside the target, wiped at every upgrade and removal (DSM 5 and 6).
    InTarget,
    /// Beside it, kept (DSM 7).
    Beside,
}

/// What is going on while the script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Occasion {
    /// An installation, an upgrade, a repair, or a removal that keeps the data.
    Ordinary,
    /// A removal, and the owner chose to delete the data.
    RemovalWithData,
    /// The old version's removal in the middle of an upgrade.
    RemovalForUpgrade,
}

/// One step. Each can be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Refuse answers of the wizard that make no sense.
    CheckAnswers,
    /// Fetch the files that the package may not bring itself.
    FetchDownloads,
    /// Stop the daemon and everything it started.
    Stop,
    /// Move the data to where the wiping of the target does not reach it.
    SetDataAside,
    /// Make the data and settings folders, private ones.
    MakeFolders,
    /// Move data that was set aside back.
    BringDataBack,
    /// Move data that DSM 6 kept in the target to where DSM 7 keeps it.
    MoveDataOfDsm6,
    /// Restore the identity from any copy that is left, or make one.
    EnsureIdentity,
    /// Write down the wizard's answers: DSM hands them over only now.
    KeepAnswers,
    /// Move data that another volume still holds to where the package is now.
    MoveDataOfOtherVolumes,
    /// Delete the data, as the owner chose.
    DeleteData,
    /// Delete what is left, if a deletion broke off.
    FinishDeletion,
    /// Do nothing unless the data is whole again.
    CheckNothingIsLeftAside,
}

use Step::{
    BringDataBack, CheckAnswers, CheckNothingIsLeftAside, DeleteData, EnsureIdentity,
    FetchDownloads, FinishDeletion, KeepAnswers, MakeFolders, MoveDataOfDsm6,
    MoveDataOfOtherVolumes, SetDataAside, Stop,
};

/// The steps of a script, in order.
pub fn steps(hook: Hook, place: DataPlace, occasion: Occasion) -> &'static [Step] {
    use DataPlace::{Beside, InTarget};
    use Hook::{BeforeStart, PostInst, PostUninst, PostUpgrade, PreInst, PreUninst, PreUpgrade};
    use Occasion::{Ordinary, RemovalForUpgrade, RemovalWithData};
    match (hook, place, occasion) {
        (PreInst, _, _) => &[CheckAnswers, FetchDownloads],
        (PostInst, InTarget, _) => {
            &[CheckAnswers, MakeFolders, BringDataBack, EnsureIdentity, KeepAnswers, FetchDownloads]
        }
        (PostInst, Beside, _) => &[
            CheckAnswers,
            MakeFolders,
            MoveDataOfDsm6,
            MoveDataOfOtherVolumes,
            EnsureIdentity,
            KeepAnswers,
            FetchDownloads,
        ],
        (PreUpgrade, InTarget, _) => &[CheckAnswers, Stop, FinishDeletion, SetDataAside],
        (PreUpgrade, Beside, _) => &[CheckAnswers, Stop, FinishDeletion, MoveDataOfDsm6],
        (PostUpgrade, InTarget, _) => {
            &[MakeFolders, BringDataBack, CheckNothingIsLeftAside, EnsureIdentity, KeepAnswers]
        }
        (PostUpgrade, Beside, _) => &[MakeFolders, MoveDataOfDsm6, EnsureIdentity, KeepAnswers],
        (PreUninst, InTarget, Ordinary | RemovalForUpgrade) => {
            &[Stop, FinishDeletion, SetDataAside]
        }
        (PreUninst, Beside, Ordinary | RemovalForUpgrade) => &[Stop, FinishDeletion],
        (PreUninst, InTarget, RemovalWithData) => &[Stop, BringDataBack, DeleteData],
        (PreUninst, Beside, RemovalWithData) => &[Stop, DeleteData],
        (PostUninst, _, RemovalWithData) => &[DeleteData],
        (PostUninst, _, Ordinary | RemovalForUpgrade) => &[],
        (BeforeStart, InTarget, _) => &[FinishDeletion, BringDataBack],
        (BeforeStart, Beside, _) => &[FinishDeletion, MoveDataOfDsm6],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOKS: [Hook; 7] = [
        Hook::PreInst,
        Hook::PostInst,
        Hook::PreUninst,
        Hook::PostUninst,
        Hook::PreUpgrade,
        Hook::PostUpgrade,
        Hook::BeforeStart,
    ];

    /// The scripts of an upgrade, in DSM's order.
    fn upgrade(place: DataPlace) -> Vec<Step> {
        [
            steps(Hook::PreUpgrade, place, Occasion::Ordinary),
            steps(Hook::PreUninst, place, Occasion::RemovalForUpgrade),
            steps(Hook::PostUninst, place, Occasion::RemovalForUpgrade),
            steps(Hook::PreInst, place, Occasion::Ordinary),
            steps(Hook::PostInst, place, Occasion::Ordinary),
            steps(Hook::PostUpgrade, place, Occasion::Ordinary),
        ]
        .concat()
    }

    #[test]
    fn data_is_deleted_only_when_the_owner_chose_it() {
        for hook in HOOKS {
            for place in [DataPlace::InTarget, DataPlace::Beside] {
                for occasion in [Occasion::Ordinary, Occasion::RemovalForUpgrade] {
                    assert!(!steps(hook, place, occasion).contains(&Step::DeleteData), "{hook:?}");
                }
            }
        }
    }

    #[test]
    fn on_dsm_6_data_is_aside_before_the_target_is_wiped_and_back_before_an_identity_is_made() {
        let all = upgrade(DataPlace::InTarget);
        let at = |step| all.iter().position(|other| *other == step).unwrap();
        assert!(at(Step::Stop) < at(Step::SetDataAside));
        assert!(at(Step::SetDataAside) < at(Step::BringDataBack));
        assert!(at(Step::BringDataBack) < at(Step::EnsureIdentity));
    }

    #[test]
    fn on_dsm_7_what_dsm_6_left_is_moved_before_an_identity_is_made() {
        let all = upgrade(DataPlace::Beside);
        let at = |step| all.iter().position(|other| *other == step).unwrap();
        assert!(at(Step::MoveDataOfDsm6) < at(Step::EnsureIdentity));
        assert!(!all.contains(&Step::SetDataAside));
    }

    #[test]
    fn whatever_sets_data_aside_is_undone_before_a_start_of_the_version_that_stayed() {
        let before = steps(Hook::BeforeStart, DataPlace::InTarget, Occasion::Ordinary);
        assert!(before.contains(&Step::BringDataBack));
        // A deletion the owner chose is finished first: it must not eat what comes back.
        assert_eq!(before[0], Step::FinishDeletion);
    }

    #[test]
    fn a_script_is_known_by_its_name_and_no_other() {
        assert_eq!(Hook::from_name("postupgrade"), Some(Hook::PostUpgrade));
        assert_eq!(Hook::from_name("prereplace"), None);
    }
}
