//! Where blobs are.
