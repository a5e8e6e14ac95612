//! Build, read, check and compare Synology packages
