//! Signed metadata: keys, signing, and the rules of the client
