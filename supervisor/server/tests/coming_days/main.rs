//! What comes over a depot in the years to come, met today: other days' clocks, keys that are lost,
//! renewals that are killed, keepers who are told by mail; judged by python-tuf and by our client.

mod canary;
mod documents;
mod keeper;
mod killed;
mod mail;
#[path = "../keeper/mod.rs"]
#[allow(dead_code, reason = "here it only builds packages")]
mod packager;
mod python_tuf;
