//! The restic repository format, version 2, as values
