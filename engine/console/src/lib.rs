//! The web console: a page for a browser, and the guarded way from it to the daemon.
//!
//! [`open`] takes a port, [`serve`] answers there: the page's four files to anybody, since they
//! tell nothing, and everything else to whoever has the token. What is behind the guard is the
//! daemon's business: it hands over the part of its control API that may be asked this way.
//!
//! - *The token* comes in the header `Authorization: Bearer …`, which no page of others can make a
//!   browser send, and never in a cookie: a browser would send that to every port of the NAS, and
//!   so to every other package's page. The page keeps it in `localStorage`, which belongs to this
//!   port alone, so that its owner gives it once. It comes to the page in the address's fragment,
//!   which browsers keep to themselves: it is in no log.
//! - *Nothing of others:* no file comes from elsewhere, no script stands in the page, and the
//!   policy in the headers forbids both. No other origin may read an answer.
//! - *Small:* a fixed number of connections, each for one request, bounded in bytes and in time. A
//!   wrong token costs its sender a second. No request's body is read. There is no table that
//!   strangers could make grow, and no timer while nobody is connected.
//!
//! **Invariant:** without the token nothing of the computer is told and nothing is begun.
//!
//! **Not here:** what the daemon knows and does, where it keeps the token, and TLS. In a network
//! one does not trust, reach the port through SSH or a proxy that encrypts.

mod door;
mod guard;
mod page;

pub use door::{Door, OpenError, PORTS_TRIED_MAX, open};
pub use guard::{CONNECTIONS_MAX, serve};
