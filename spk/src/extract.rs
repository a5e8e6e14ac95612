//! Unpacking a package into a folder, safely.
