//! What a NAS will not like about a package.
