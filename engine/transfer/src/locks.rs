//! Locks, as restic has them.
