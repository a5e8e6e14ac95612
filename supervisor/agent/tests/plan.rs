//! The memory plan of boxes from 128 MB to 64 GB, with and without control groups and wishes.

mod world;

use std::fs;
use world::{GOOD, Nas};

/// MiB of RAM as such a box reports it, what it could give, a control group's limit, the owner's
/// wish; and the plan in MiB, with its reason.
type Row = (u64, u64, Option<u64>, Option<&'static str>, u64, &'static str);

#[rustfmt::skip]
const BOXES: [Row; 19] = [
    (122,   90,    None,      None,          32,  "ram-class"),
    (122,   40,    None,      None,          24,  "floor"),
    (249,   180,   None,      None,          64,  "ram-class"),
    (249,   100,   None,      None,          50,  "little-available"),
    (249,   180,   Some(60),  None,          48,  "cgroup-limit"),
    (503,   400,   None,      None,          96,  "ram-class"),
    (1009,  800,   None,      None,          160, "ram-class"),
    (1009,  800,   None,      Some("48M"),   48,  "owner-wish"),
    (1009,  800,   None,      Some("512M"),  512, "owner-wish"),
    (1009,  100,   None,      Some("400M"),  400, "owner-wish"),
    (1009,  800,   None,      Some("4G"),    756, "ram-class"),
    (1009,  800,   Some(256), Some("512M"),  204, "cgroup-limit"),
    (2012,  1500,  None,      None,          256, "ram-class"),
    (3950,  3000,  None,      None,          256, "ram-class"),
    (8000,  6000,  None,      None,          512, "ram-class"),
    (16000, 200,   None,      None,          100, "little-available"),
    (32000, 30000, Some(512), None,          409, "cgroup-limit"),
    (64300, 60000, None,      None,          512, "ram-class"),
    (64300, 60000, None,      Some("2048M"), 2048, "owner-wish"),
];

fn put(nas: &Nas, path: &str, text: &str) {
    let path = nas.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// How a kernel of a NAS shows a limit: of version 1, of a parent in version 1, of version 2.
fn limited(nas: &Nas, mib: u64, how: usize) {
    let bytes = (mib << 20).to_string();
    let unlimited = "9223372036854771712\n";
    match how {
        0 => {
            put(nas, "proc/self/cgroup", "4:memory:/pkg\n");
            put(nas, "sys/fs/cgroup/memory/pkg/memory.limit_in_bytes", &bytes);
        }
        1 => {
            put(nas, "proc/self/cgroup", "5:cpu:/\n4:cpuset,memory:/slice/pkg\n");
            put(nas, "sys/fs/cgroup/memory/slice/pkg/memory.limit_in_bytes", unlimited);
            put(nas, "sys/fs/cgroup/memory/slice/memory.limit_in_bytes", &bytes);
        }
        _ => {
            put(nas, "proc/self/cgroup", "0::/slice/pkg\n");
            put(nas, "sys/fs/cgroup/slice/pkg/memory.max", "max\n");
            put(nas, "sys/fs/cgroup/slice/memory.max", &bytes);
        }
    }
}

#[test]
fn every_box_has_its_plan_and_is_told_why() {
    for (ram, available, limit, wish, plan, reason) in BOXES {
        for how in 0..if limit.is_some() { 3 } else { 1 } {
            let nas = Nas::with(GOOD);
            let kib = |mib: u64| mib * 1024;
            let meminfo = format!(
                "MemTotal:       {} kB\nMemFree:  1024 kB\nMemAvailable:   {} kB\n",
                kib(ram),
                kib(available)
            );
            put(&nas, "proc/meminfo", &meminfo);
            put(&nas, "proc/self/cgroup", "4:memory:/\n");
            if let Some(limit) = limit {
                limited(&nas, limit, how);
            }
            if let Some(wish) = wish {
                fs::write(nas.etc().join("syno_package.vars"), format!("USR_MAX_HEAP={wish}\n"))
                    .unwrap();
            }
            let said = nas.run(&["plan", "--json"]).said;
            let json: serde_json::Value = serde_json::from_str(&said).unwrap();
            let mib = json["plan"]["total_bytes"].as_u64().unwrap() >> 20;
            let what = format!("{ram} MiB, {available} available, {limit:?} ({how}), {wish:?}");
            assert_eq!((mib, json["reason"].as_str().unwrap()), (plan, reason), "{what}");
            assert!(json["sentence"].as_str().unwrap().contains(&format!("{plan} MiB")), "{what}");
        }
    }
}

#[test]
fn a_kernel_that_counts_no_available_memory_is_understood_too() {
    let nas = Nas::with(GOOD);
    let meminfo = "MemTotal: 255000 kB\nMemFree: 20000 kB\nBuffers: 10000 kB\nCached: 90000 kB\n\
                   Shmem: 20000 kB\n";
    put(&nas, "proc/meminfo", meminfo);
    put(&nas, "proc/self/cgroup", "4:memory:/\n");
    let said = nas.run(&["plan"]).said;
    assert!(said.contains("48 MiB: only 97 MiB are available"), "{said}");
}

#[test]
fn a_daemon_that_runs_out_of_memory_is_given_less_and_its_owner_is_told() {
    let nas = Nas::with("echo >&3; sleep 0.3; kill -KILL $$");
    put(&nas, "proc/meminfo", "MemTotal: 1030000 kB\nMemAvailable: 900000 kB\n");
    put(&nas, "proc/self/cgroup", "4:memory:/\n");
    // Whether the start sees it ready before it dies is chance.
    nas.service("start");
    world::wait_for("the plan got smaller", || {
        let said = nas.run(&["status"]).said;
        said.contains("120 MiB: memory ran out") || said.contains("90 MiB: memory ran out")
    });
    let said = nas.run(&["status"]).said;
    assert!(said.contains("probably because memory ran out (signal 9)"), "{said}");
    assert!(said.contains("set USR_MAX_HEAP in syno_package.vars"), "{said}");
}
