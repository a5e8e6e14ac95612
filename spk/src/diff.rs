//! How two packages differ.
