//! Destinations as byte stores
