//! The only room that touches DSM: a place that looks like the root of a Synology system
