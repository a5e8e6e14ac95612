//! Backup, restore and check as bounded pipelines
