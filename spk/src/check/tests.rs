//! The rules, each met by a package that breaks just it.
