//! What comes over a depot in the years to come, met today: other days' clocks, keys that are lost,
//! renewals that are killed, keepers who are told by mail; judged by python-tuf and by our client.

mod canary;
mod documents;
mod keeper;
mod killed;
mod mail;
mod python_tuf;
