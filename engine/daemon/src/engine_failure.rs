//! Failures of the engine's rooms, with the exit codes scripts rely on.

use crate::failure::{Failure, exit};
use engine_storage::LocationError;
use engine_transfer::TransferError;

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        let code = match &error {
            TransferError::NoRepository { .. } => exit::NO_REPOSITORY,
            TransferError::Locked { .. } | TransferError::PruneWaits { .. } => exit::LOCKED,
            TransferError::WrongPassword { .. } => exit::WRONG_PASSWORD,
            TransferError::Pattern { .. }
            | TransferError::NothingToBackUp
            | TransferError::KeyInUse { .. } => exit::WRONG_USE,
            _ => exit::FAILED,
        };
        let remedy = error.remedy();
        Self::from_error(error).remedy(remedy).code(code)
    }
}

impl From<LocationError> for Failure {
    fn from(error: LocationError) -> Self {
        let remedy = error.remedy();
        Self::from_error(error).remedy(remedy).code(exit::WRONG_USE)
    }
}
