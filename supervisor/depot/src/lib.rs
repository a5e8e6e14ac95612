//! The depot: shelves of packages, the protocol of Package Center, publishing.
//!
//! A depot is a folder. `publish` reads packages, copies them in by their hash, and renders a new
//! *tree* (what is on the shelves, and the signed metadata over it) beside the old one; one rename
//! of the link `current` puts it in force. `serve` hands out what the tree in force says.
//!
//! ```text
//! keys/*.key           signing keys, mode 0600; the root says which role each signs for
//! tokens.json          who may publish over HTTP, by the hashes of their tokens
//! uploads/             what came of packages so far
//! mirrors/             what was last seen of other depots
//! acme/                the account and certificate that an authority gave, if one is asked
//! downloads.json       how often each file was fetched
//! spare.root.json      the next root, signed in advance, if one was made
//! store.json           what an object store had in force when last seen, if there is one
//! files/SHA256.spk     packages by content, never changed
//! icons/SHA256.png     icons by content, never changed
//! trees/N/shelves.json what is on the shelves
//! trees/N/metadata/    N.root.json …, N.snapshot.json, N.targets.json, timestamp.json
//! current -> trees/N   the tree in force
//! lock                 held while somebody publishes
//! ```
//!
//! **Invariant:** whoever reads `current` once sees one whole tree, old or new; bytes that were
//! published under a version never change; nothing `spk check` calls an error is ever published.
//!
//! **Not here:** what a package is (`spk`), what a signature is worth (`supervisor-trust`), flags,
//! the environment, random numbers. The clock comes in as an argument.

mod asked;
mod catalog;
mod challenges;
mod connection;
mod counts;
mod error;
mod files;
mod intake;
mod keyring;
mod leaving;
mod limits;
mod metadata;
mod mirror;
mod origin;
mod page;
mod place;
mod publish;
mod publisher;
mod publisher_key;
mod replica;
mod rotation;
mod server;
mod shelves;
#[cfg(test)]
mod stage;
mod tls;
mod tokens;
mod under_way;
mod unnamed;
mod upload;

pub use challenges::Challenges;
pub use connection::Door;
pub use counts::downloads;
pub use error::DepotError;
pub use metadata::{KeysReport, RoleReport, Seeds};
pub use mirror::{Mirror, Parcel, export, import, keep, read_trust};
pub use origin::{Net, Proxies};
pub use place::write_whole;
pub use publish::{
    Delivery, Published, init, keys, promote, publish, publish_all, renew, shelves, withdraw,
};
pub use publisher::{InFolder, Publisher, renew_if_due};
pub use publisher_key::{PublisherKey, add_publisher, publishers, remove_publisher};
pub use replica::{
    CONTENTS, CURRENT, CURRENT_BYTES_MAX, Current, Outgoing, Piece, Pushed, Replica, collection,
    outgoing,
};
pub use rotation::{
    Changed, Dice, KeyChange, Means, change_keys, days_left, make_spare, plan, publish_spare,
    warnings,
};
pub use server::{ServeSettings, serve, serve_at};
pub use shelves::{Channel, Item, Shelves};
pub use tls::Certificates;
pub use tokens::{Token, Tokens, add_token, remove_token};
pub use upload::OFFSET as UPLOAD_OFFSET;
