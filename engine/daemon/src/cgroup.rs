//! The tightest memory cgroup limit above this process: a container's, or a NAS package's.
//!
//! Version 1 and 2 are read, each where it is usually mounted. A group without a limit says so
//! with a word (version 2) or with a number no machine has (version 1).

use std::fs;
use std::path::{Path, PathBuf};

/// The limit in bytes, when there is one below what `at_most` (the installed RAM) already says.
pub fn memory_limit_bytes(root: &Path, at_most: u64) -> Option<u64> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut tightest = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (mounted, file) = match controllers {
            "" => (root.join("sys/fs/cgroup"), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("sys/fs/cgroup/memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for folder in upwards(&mounted, group) {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            let limit = text.trim().parse::<u64>().ok().filter(|limit| *limit < at_most);
            tightest = [tightest, limit].into_iter().flatten().min();
        }
    }
    tightest
}

/// The group's folder and all above it, down to where groups are mounted. Inside a container the
/// group's path is the host's and does not exist; then what is mounted is the container's own.
fn upwards(mounted: &Path, group: &str) -> Vec<PathBuf> {
    let below: PathBuf = group.trim_start_matches('/').into();
    below.ancestors().map(|part| mounted.join(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_limit_above_counts_in_both_versions() {
        let first = a_machine(&[
            ("proc/self/cgroup", "5:cpu:/x\n4:memory:/box/inner\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "67108864\n"),
            ("sys/fs/cgroup/memory/box/inner/memory.limit_in_bytes", "134217728\n"),
        ]);
        assert_eq!(memory_limit_bytes(first.path(), 1 << 34), Some(64 << 20));
        let second = a_machine(&[
            ("proc/self/cgroup", "0::/pkg\n"),
            ("sys/fs/cgroup/pkg/memory.max", "100000000\n"),
        ]);
        assert_eq!(memory_limit_bytes(second.path(), 1 << 34), Some(100_000_000));
    }

    #[test]
    fn no_limit_is_no_limit() {
        let machine = a_machine(&[
            ("proc/self/cgroup", "0::/pkg\n"),
            ("sys/fs/cgroup/pkg/memory.max", "max\n"),
        ]);
        assert_eq!(memory_limit_bytes(machine.path(), 1 << 34), None);
        assert_eq!(memory_limit_bytes(a_machine(&[]).path(), 1 << 34), None);
    }
}
