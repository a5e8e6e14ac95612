//! The architecture rules, as tests that run
