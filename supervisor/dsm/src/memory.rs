//! How much memory the box has, could give, and allows.
//!
//! Read by hand, because every convenient library was wrong somewhere (facts: cgroup v1's "no
//! limit" taken for a limit, a parent's limit overlooked, no `MemAvailable` before Linux 3.14).
//! Where `/proc/meminfo` cannot be read at all, the `sysinfo` library is asked.

use crate::Dsm;
use std::path::{Path, PathBuf};

/// More levels of control groups are not walked.
const CGROUP_LEVELS_MAX: usize = 32;

/// Memory of the box in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What the kernel manages (`MemTotal`).
    pub total_bytes: u64,
    /// What could be had without swapping (`MemAvailable`, or its estimate).
    pub available_bytes: u64,
    /// The tightest limit of a control group above this process, if below the total.
    pub cgroup_limit_bytes: Option<u64>,
}

impl Memory {
    /// Reads the box. A folder that looks like a NAS may hold its own `proc/meminfo`; else the
    /// running system's counts.
    pub fn of(dsm: &Dsm) -> Self {
        let running = Dsm::at("/");
        let text =
            dsm.system_text("/proc/meminfo").or_else(|| running.system_text("/proc/meminfo"));
        let (total_bytes, available_bytes) =
            text.and_then(|text| from_meminfo(&text)).unwrap_or_else(from_library);
        let limit = cgroup_limit(dsm).filter(|limit| *limit < total_bytes);
        Self { total_bytes, available_bytes, cgroup_limit_bytes: limit }
    }
}

fn from_library() -> (u64, u64) {
    // Knowing nothing, plan for the smallest box.
    let Ok(mut system) = sysinfo::System::new() else { return (128 << 20, 64 << 20) };
    system.refresh_memory();
    (system.total_memory(), system.available_memory())
}

/// Total and available bytes from the text of `/proc/meminfo`.
fn from_meminfo(text: &str) -> Option<(u64, u64)> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let number: u64 = line.trim().split_ascii_whitespace().next()?.parse().ok()?;
        number.checked_mul(1024)
    };
    let total = bytes("MemTotal")?;
    let estimate = || {
        // Before Linux 3.14: what is free or could be dropped, less what only looks droppable.
        let free = bytes("MemFree")?;
        let droppable = bytes("Buffers").unwrap_or(0) + bytes("Cached").unwrap_or(0);
        Some(free + droppable.saturating_sub(bytes("Shmem").unwrap_or(0)))
    };
    let available = bytes("MemAvailable").or_else(estimate)?;
    Some((total, available.min(total)))
}

/// The tightest limit on the way from the process's own control group to the root.
fn cgroup_limit(dsm: &Dsm) -> Option<u64> {
    let (place, groups) = own_groups(dsm);
    let limits = groups.iter().flat_map(|group| {
        // Above `memory.high` nobody is ended, but everything is slowed down until it is below.
        let files: &[&str] = match group.is_v2 {
            true => &["memory.max", "memory.high"],
            false => &["memory.limit_in_bytes"],
        };
        files.iter().filter_map(|file| tightest(&place, group, file))
    });
    limits.min()
}

/// A control group of this process that knows about memory.
struct OwnGroup {
    is_v2: bool,
    mount: PathBuf,
    /// Its path below `mount`; empty for the group of everybody.
    inside: PathBuf,
}

/// Those there are, and the root they are seen from: a folder that looks like a NAS may have its
/// own `proc/self/cgroup`; else the running system's.
fn own_groups(dsm: &Dsm) -> (Dsm, Vec<OwnGroup>) {
    let text = |dsm: &Dsm| dsm.system_text("/proc/self/cgroup");
    let (place, own) = match text(dsm) {
        Some(own) => (dsm.clone(), own),
        None => {
            let running = Dsm::at("/");
            let own = text(&running).unwrap_or_default();
            (running, own)
        }
    };
    let groups = own.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (is_v2, mount) = match controllers {
            "" => (true, v2_mount(&place)),
            list if list.split(',').any(|name| name == "memory") => {
                (false, PathBuf::from("/sys/fs/cgroup/memory"))
            }
            _ => return None,
        };
        let inside = path.strip_prefix('/').unwrap_or(path).into();
        Some(OwnGroup { is_v2, mount, inside })
    });
    let groups = groups.collect();
    (place, groups)
}

/// Where version 2 is mounted: alone, or beside version 1.
fn v2_mount(dsm: &Dsm) -> PathBuf {
    let beside = Path::new("/sys/fs/cgroup/unified");
    let is_beside = dsm.system_text(beside.join("cgroup.controllers")).is_some();
    if is_beside { beside.to_owned() } else { PathBuf::from("/sys/fs/cgroup") }
}

fn tightest(dsm: &Dsm, group: &OwnGroup, file: &str) -> Option<u64> {
    group
        .inside
        .ancestors()
        .take(CGROUP_LEVELS_MAX)
        .filter_map(|level| dsm.system_text(group.mount.join(level).join(file)))
        .filter_map(|text| text.trim().parse().ok())
        .min()
}

/// How often the kernel ended a process for want of memory, as far as it counts that (Linux 4.13).
/// Older kernels say nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OomKills {
    /// In the control group of this process, and so of the daemon; `None` where there is no group
    /// but the one of everybody.
    pub own_group: Option<u64>,
    /// Anywhere on the box: `oom_kill` in `/proc/vmstat`.
    pub anywhere: Option<u64>,
}

impl OomKills {
    /// Counts, as they are now.
    pub fn now(dsm: &Dsm) -> Self {
        let vmstat = dsm.system_text("/proc/vmstat");
        Self { own_group: own_group_kills(dsm), anywhere: vmstat.and_then(|it| oom_kill(&it)) }
    }

    /// Whether one of this group's processes was ended since `before`.
    pub fn has_ours_since(&self, before: &Self) -> bool {
        matches!((before.own_group, self.own_group), (Some(before), Some(now)) if now > before)
    }

    /// Whether any process was ended since `before`.
    pub fn has_any_since(&self, before: &Self) -> bool {
        self.has_ours_since(before) || self.anywhere > before.anywhere
    }
}

/// The number in the line `oom_kill N`, which all files that count them have.
fn oom_kill(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

fn own_group_kills(dsm: &Dsm) -> Option<u64> {
    let (place, groups) = own_groups(dsm);
    // The group of everybody has no such file in version 2; a container sees its own group there.
    let is_own = |group: &&OwnGroup| group.is_v2 || !group.inside.as_os_str().is_empty();
    let mut own = groups.iter().filter(is_own);
    own.find_map(|group| {
        let files: &[&str] = match group.is_v2 {
            // Only its own, where the kernel tells them from those of groups below.
            true => &["memory.events.local", "memory.events"],
            false => &["memory.oom_control"],
        };
        let folder = group.mount.join(&group.inside);
        files.iter().find_map(|file| oom_kill(&place.system_text(folder.join(file))?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn a_nas_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Memory) {
        let place = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = place.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let memory = Memory::of(&Dsm::at(place.path()));
        (place, memory)
    }

    const NEW: &str = "MemTotal: 1048576 kB\nMemFree: 1024 kB\nMemAvailable: 524288 kB\n";
    const OLD: &str = "MemTotal: 126976 kB\nMemFree: 4096 kB\nBuffers: 2048 kB\n\
                       Cached: 30720 kB\nSwapCached: 0 kB\nShmem: 1024 kB\n";

    #[test]
    fn a_kernel_without_an_estimate_of_its_own_gets_ours() {
        let (_place, memory) = a_nas_with(&[("proc/meminfo", OLD), ("proc/self/cgroup", "")]);
        assert_eq!(memory.total_bytes, 124 * MIB);
        assert_eq!(memory.available_bytes, 35 * MIB);
        assert_eq!(memory.cgroup_limit_bytes, None);
    }

    #[test]
    fn the_limit_of_a_parent_counts_and_no_limit_is_no_limit() {
        let (_place, two) = a_nas_with(&[
            ("proc/meminfo", NEW),
            ("proc/self/cgroup", "0::/system.slice/pkg\n"),
            ("sys/fs/cgroup/system.slice/pkg/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "268435456\n"),
        ]);
        assert_eq!(two.cgroup_limit_bytes, Some(256 * MIB));
        assert_eq!(two.available_bytes, 512 * MIB);
        let (_place, one) = a_nas_with(&[
            ("proc/meminfo", NEW),
            ("proc/self/cgroup", "5:cpu:/\n4:memory,hugetlb:/a\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(one.cgroup_limit_bytes, None);
    }

    #[test]
    fn who_was_ended_for_want_of_memory_is_counted_in_both_versions_of_control_groups() {
        let kills = |files: &[(&str, &str)]| {
            let place = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = place.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            OomKills::now(&Dsm::at(place.path()))
        };
        let one = kills(&[
            ("proc/self/cgroup", "5:cpu:/\n4:memory,hugetlb:/a/b\n0::/\n"),
            ("proc/vmstat", "nr_free_pages 7\noom_kill 12\n"),
            ("sys/fs/cgroup/memory/a/b/memory.oom_control", "under_oom 0\noom_kill 3\n"),
        ]);
        assert_eq!(one, OomKills { own_group: Some(3), anywhere: Some(12) });
        let two = kills(&[
            ("proc/self/cgroup", "0::/slice/pkg\n"),
            ("sys/fs/cgroup/slice/pkg/memory.events", "low 0\nmax 9\noom 5\noom_kill 4\n"),
        ]);
        assert_eq!(two, OomKills { own_group: Some(4), anywhere: None });
        // Everybody's group says nothing about us, and old files have no such line.
        let old = kills(&[
            ("proc/self/cgroup", "4:memory:/\n3:memory:/a\n"),
            ("sys/fs/cgroup/memory/memory.oom_control", "oom_kill 3\n"),
            ("sys/fs/cgroup/memory/a/memory.oom_control", "under_oom 0\n"),
        ]);
        assert_eq!(old, OomKills::default());
        let later = OomKills { own_group: Some(4), anywhere: Some(13) };
        assert!(later.has_ours_since(&one) && !one.has_ours_since(&one));
        let others = OomKills { anywhere: Some(13), ..one };
        assert!(others.has_any_since(&one) && !others.has_ours_since(&one));
        assert!(!later.has_ours_since(&old), "a count that was not there before says nothing");
    }

    /// A hierarchy of version 2 as a kernel shows it: everything below a slice, the service in it.
    fn version_2(own: &'static str) -> Vec<(&'static str, &'static str)> {
        const EVENTS: &str = "low 0\nhigh 12\nmax 31\noom 2\noom_kill 2\noom_group_kill 0\n";
        const LOCAL: &str = "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n";
        vec![
            ("proc/meminfo", NEW),
            ("proc/self/cgroup", own),
            ("proc/vmstat", "nr_free_pages 1201\noom_kill 5\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n"),
            ("sys/fs/cgroup/cgroup.subtree_control", "cpu io memory pids\n"),
            ("sys/fs/cgroup/pkg.slice/memory.current", "41267200\n"),
            ("sys/fs/cgroup/pkg.slice/memory.high", "max\n"),
            ("sys/fs/cgroup/pkg.slice/memory.max", "402653184\n"),
            ("sys/fs/cgroup/pkg.slice/memory.events", EVENTS),
            ("sys/fs/cgroup/pkg.slice/memory.events.local", LOCAL),
            ("sys/fs/cgroup/pkg.slice/holdfast.service/memory.current", "40894464\n"),
            ("sys/fs/cgroup/pkg.slice/holdfast.service/memory.high", "268435456\n"),
            ("sys/fs/cgroup/pkg.slice/holdfast.service/memory.max", "max\n"),
            ("sys/fs/cgroup/pkg.slice/holdfast.service/memory.events", EVENTS),
            ("sys/fs/cgroup/pkg.slice/holdfast.service/memory.events.local", LOCAL),
        ]
    }

    #[test]
    fn a_hierarchy_of_version_2_is_read_from_the_own_group_up_hard_and_soft_limits_alike() {
        let limit = |changed: &[(&str, &str)], own| {
            let mut files = version_2(own);
            for (path, text) in changed {
                files.retain(|(known, _)| known != path);
                files.push((*path, *text));
            }
            a_nas_with(&files).1.cgroup_limit_bytes.map(|bytes| bytes / MIB)
        };
        let service = "0::/pkg.slice/holdfast.service\n";
        assert_eq!(limit(&[], service), Some(256), "its own soft limit is the tightest");
        let high = "sys/fs/cgroup/pkg.slice/holdfast.service/memory.high";
        assert_eq!(limit(&[(high, "max\n")], service), Some(384), "the slice's hard limit");
        let max = "sys/fs/cgroup/pkg.slice/holdfast.service/memory.max";
        assert_eq!(limit(&[(max, "134217728\n")], service), Some(128), "its own hard limit");
        let slice = "sys/fs/cgroup/pkg.slice/memory.max";
        assert_eq!(limit(&[(high, "max\n"), (slice, "max\n")], service), None);
        // More than the box has is none, and the group of everybody has no such files.
        assert_eq!(limit(&[(high, "max\n"), (slice, "4294967296\n")], service), None);
        assert_eq!(limit(&[], "0::/\n"), None);
        // Inside a container its own group is at the top.
        let container = [("sys/fs/cgroup/memory.max", "100663296\n")];
        assert_eq!(limit(&container, "0::/\n"), Some(96));
        // Version 1 beside it holds memory on a box that mixes both.
        let mixed = [
            ("sys/fs/cgroup/unified/cgroup.controllers", "\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "201326592\n"),
        ];
        assert_eq!(limit(&mixed, "4:memory:/a\n0::/pkg.slice/holdfast.service\n"), Some(192));
    }

    #[test]
    fn in_version_2_only_the_groups_own_dead_are_ours() {
        let place = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = place.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for (path, text) in version_2("0::/pkg.slice/holdfast.service\n") {
            put(path, text);
        }
        let dsm = Dsm::at(place.path());
        let before = OomKills::now(&dsm);
        assert_eq!(before, OomKills { own_group: Some(1), anywhere: Some(5) });
        // Somebody in a group below ours, and somebody else on the box.
        let events = "sys/fs/cgroup/pkg.slice/holdfast.service/memory.events";
        put(events, "low 0\nhigh 12\nmax 32\noom 3\noom_kill 3\noom_group_kill 0\n");
        put("proc/vmstat", "nr_free_pages 1201\noom_kill 6\n");
        let now = OomKills::now(&dsm);
        assert!(!now.has_ours_since(&before) && now.has_any_since(&before));
        put(&format!("{events}.local"), "low 0\nmax 8\noom 2\noom_kill 2\noom_group_kill 0\n");
        assert!(OomKills::now(&dsm).has_ours_since(&before));
        // Before Linux 5.2 there is only the sum.
        std::fs::remove_file(place.path().join(format!("{events}.local"))).unwrap();
        assert_eq!(OomKills::now(&dsm).own_group, Some(3));
    }

    #[test]
    fn a_folder_without_proc_is_answered_for_by_the_running_system() {
        let (_place, memory) = a_nas_with(&[]);
        assert!(memory.total_bytes > 16 * MIB && memory.available_bytes <= memory.total_bytes);
    }
}
