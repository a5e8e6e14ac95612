//! package.toml: what a package is.
