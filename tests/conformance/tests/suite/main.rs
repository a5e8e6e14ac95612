//! The cases of theupdateframework's conformance suite by their names, told anew: what each does to
//! the repository and what it expects of the client is the suite's, the words are ours. Those of
//! delegations, RSA and ECDSA are left out, because the profile has none of the three.

mod attacks;
mod basic;
mod download;
mod expiration;
mod keys;
mod rollback;
mod world;
