//! Turning a manifest and built programs into SPK files.
