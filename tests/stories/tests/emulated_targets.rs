//! A day on each of the five NAS targets, with the very files that would go on a NAS.
//!
//! The programs in `dist` run on an emulated core, the oldest their target promises: an ARM926
//! without floating point, a Cortex-A9 without NEON. What an emulator cannot tell is asked of the
//! files themselves by `cargo nas check`: the emulated boxes have today's C library, which the
//! check's glibc floor makes up for.
//!
//! Some days are spent under an old kernel: system calls that came later answer ENOSYS, and
//! numbers from 403 on EINVAL, which is what Synology's ARM kernels answer there. The filter lies
//! below the emulator, so it sees the calls the emulator makes for the program.

use nix::sys::prctl;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests_support::tree::Tree;
use tests_support::{Dsm, Finished, Hardware, Nas, Shell, compare, run, tree, workspace};

/// What answers system calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// The one this test runs on.
    Todays,
    /// Linux 3.2, the oldest on ARMv7 and Intel boxes.
    Linux3,
    /// Linux 2.6.32, on 88f6281 to this day.
    Linux2,
}

/// A box of one target: its programs, and what runs them.
struct Emulated {
    target: &'static str,
    emulator: &'static [&'static str],
    kernel: Kernel,
    is_32_bit: bool,
}

const X86_64: Emulated =
    Emulated { target: "x86_64", emulator: &[], kernel: Kernel::Todays, is_32_bit: false };

/// The core of rtd1296 and armada37xx.
const AARCH64: Emulated = Emulated {
    target: "aarch64",
    emulator: &["qemu-aarch64-static", "-cpu", "cortex-a53"],
    kernel: Kernel::Todays,
    is_32_bit: false,
};

/// armada370 has VFPv3-D16 and no NEON.
const ARMHF: Emulated = Emulated {
    target: "armhf",
    emulator: &["qemu-arm-static", "-cpu", "cortex-a9,neon=off", "-L", "/usr/arm-linux-gnueabihf"],
    kernel: Kernel::Todays,
    is_32_bit: true,
};

/// A soft-float userland may lie on a core with any floating point unit, or none.
const ARMV7: Emulated = Emulated {
    target: "armv7",
    emulator: &[
        "qemu-arm-static",
        "-cpu",
        "cortex-a9,neon=off,vfp=off",
        "-L",
        "/usr/arm-linux-gnueabi",
    ],
    kernel: Kernel::Todays,
    is_32_bit: true,
};

/// The core of 88f6281.
const ARMV5: Emulated = Emulated {
    target: "armv5",
    emulator: &["qemu-arm-static", "-cpu", "arm926", "-L", "/usr/arm-linux-gnueabi"],
    kernel: Kernel::Todays,
    is_32_bit: true,
};

#[test]
fn a_day_on_x86_64() {
    X86_64.has_a_good_day();
}

#[test]
fn a_day_on_aarch64() {
    AARCH64.has_a_good_day();
}

#[test]
fn a_day_on_armhf() {
    ARMHF.has_a_good_day();
}

#[test]
fn a_day_on_armv7_without_floating_point() {
    ARMV7.has_a_good_day();
}

#[test]
fn a_day_on_armv5() {
    ARMV5.has_a_good_day();
}

#[test]
fn a_day_on_x86_64_under_an_old_kernel() {
    Emulated { kernel: Kernel::Linux2, ..X86_64 }.has_a_good_day();
}

#[test]
fn a_day_on_armhf_under_an_old_kernel() {
    Emulated { kernel: Kernel::Linux3, ..ARMHF }.has_a_good_day();
}

#[test]
fn a_day_on_armv5_under_an_old_kernel() {
    Emulated { kernel: Kernel::Linux2, ..ARMV5 }.has_a_good_day();
}

#[test]
fn an_old_kernel_really_refuses_what_is_new() {
    // getrandom, statx, pidfd_open, faccessat2; then getpid, which is as old as can be.
    let ask =
        "for (318, 332, 434, 439, 39) { $! = 0; syscall($_, 0, 0, 0, 0, 0); print $!+0, ' ' }";
    let mut perl = Command::new("perl");
    perl.args(["-e", ask]);
    under(Kernel::Linux2, &mut perl);
    let answers = run(&mut perl).must_succeed().out;
    assert_eq!(answers, "38 38 22 22 0 ", "ENOSYS is 38, EINVAL is 22");
}

impl Emulated {
    /// One of the box's programs, ready to be given arguments.
    fn program(&self, name: &str) -> Command {
        let path = workspace().join("dist").join(self.target).join(name);
        assert!(
            path.is_file(),
            "{} is missing: run `cargo nas build --target {}` first (scripts/test does)",
            path.display(),
            self.target
        );
        let mut command = match self.emulator {
            [] => Command::new(path),
            [emulator, arguments @ ..] => {
                assert!(
                    Command::new(emulator).arg("--version").output().is_ok(),
                    "{emulator} is missing: apt-get install qemu-user-static libc6-armel-cross \
                     libc6-armhf-cross"
                );
                let mut command = Command::new(emulator);
                command.args(arguments).arg(path);
                command
            }
        };
        under(self.kernel, &mut command);
        command
    }

    /// Backs up, checks, restores and compares; stock restic is the last judge.
    fn has_a_good_day(&self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("password"), "an old box's password\n").expect("a file");
        self.odd_tree(at("source"));
        let holdfast = |arguments: &[&str]| -> Finished {
            let mut command = self.program("holdfast");
            command.arg("-r").arg(at("repository")).arg("--password-file").arg(at("password"));
            run(command.args(arguments).current_dir(folder.path()))
        };
        let source = at("source");
        let source = source.to_str().expect("temporary folders have plain names");
        holdfast(&["init"]).must_succeed();
        holdfast(&["backup", source]).must_succeed();
        holdfast(&["backup", source]).must_succeed();
        holdfast(&["check", "--read-data"]).must_succeed();
        let target = at("restored");
        let target = target.to_str().expect("temporary folders have plain names");
        holdfast(&["restore", "latest", "--target", target, "--verify"]).must_succeed();
        let restored = at("restored").join(source.trim_start_matches('/'));
        compare::trees(&at("source"), &restored).expect("both are there").must_be_equal();

        let mut restic = Command::new("restic");
        restic.arg("-r").arg(at("repository")).arg("--password-file").arg(at("password"));
        run(restic.args(["--no-cache", "check", "--read-data"])).must_succeed();
        self.supervisor_knows_its_box();
    }

    /// On a NAS in a folder: the memory plan fits the box, and an identity is kept.
    fn supervisor_knows_its_box(&self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("nas");
        let hardware = Hardware::of("apollolake").expect("a known platform");
        Nas::create(&root, Dsm::Six, hardware, Shell::Ash).expect("a NAS in a folder");
        let payload = "volume1/@appstore/holdfast";
        std::fs::create_dir_all(root.join(payload).join("var")).expect("a folder");
        std::fs::create_dir_all(root.join("var/packages/holdfast")).expect("a folder");
        std::os::unix::fs::symlink(
            Path::new("/").join(payload),
            root.join("var/packages/holdfast/target"),
        )
        .expect("a link as DSM makes it");
        let supervisor = |arguments: &[&str]| {
            let mut command = self.program("holdfast-supervisor");
            command.args(arguments).arg("--root").arg(&root).args(["--package", "holdfast"]);
            run(&mut command).must_succeed()
        };
        let plan = supervisor(&["plan", "--json"]).json();
        let total_bytes = plan["plan"]["total_bytes"].as_u64().expect("a number of bytes");
        assert!(total_bytes >= 24 << 20, "{plan}");
        supervisor(&["identity", "set", "6503624866600795236"]);
        assert_eq!(supervisor(&["identity", "guid"]).out.trim(), "6503624866600795236");
    }

    /// The odd tree, with holes that an emulated core hashes in seconds.
    fn odd_tree(&self, root: PathBuf) -> Tree {
        const MIB: u64 = 1 << 20;
        let tree = tree::odd(&root);
        tree.sparse("a hole", 4 * MIB, &[]).sparse(
            "islands",
            6 * MIB + 5,
            &[(0, b"first"), (3 * MIB, b"middle"), (6 * MIB, b"last!")],
        );
        if self.is_32_bit {
            // Where time is a 32-bit number, in the C library and in the file systems of these
            // kernels, no file can be that young.
            tree.modified("times/after 2038", i64::from(i32::MAX), 999_999_999);
        }
        tree
    }
}

/// The first x86_64 system call that Linux 2.6.32 does not have: recvmmsg, of 2.6.33.
const NEWER_THAN_LINUX_2: u32 = 299;

/// The first that Linux 3.2 does not have: kcmp, of 3.5.
const NEWER_THAN_LINUX_3: u32 = 312;

/// The first number that every architecture shares, of calls made since 2019. On 32-bit ARM the
/// calls with 64-bit time begin there.
const FIRST_SHARED: u32 = 403;

/// The emulator's own threads need ENOSYS here to fall back; no program of ours asks for it, as it
/// came with glibc 2.34.
const CLONE3: u32 = 435;

/// accept4 is older on x86_64, but came to ARM with 2.6.36 only. With flags it is the program's
/// call; without, the emulator's way to say accept.
const ACCEPT4: u32 = 288;

/// Where the filter finds the call's number, and the low half of its fourth argument.
const NUMBER_AT: u32 = 0;
const FLAGS_AT: u32 = 16 + 3 * 8;

/// Makes `command` start under a seccomp filter that answers as `kernel` does.
#[allow(unsafe_code)]
fn under(kernel: Kernel, command: &mut Command) {
    let filter = match kernel {
        Kernel::Todays => return,
        Kernel::Linux3 => filter(NEWER_THAN_LINUX_3, true),
        Kernel::Linux2 => filter(NEWER_THAN_LINUX_2, false),
    };
    // SAFETY: between fork and exec, only prctl is called, on values made before.
    unsafe {
        command.pre_exec(move || {
            prctl::set_no_new_privs()?;
            install(&filter)
        });
    }
}

/// The filter, in classic BPF: code, jump if true, jump if false, value.
fn filter(first_newer: u32, has_accept4: bool) -> [libc::sock_filter; 10] {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let at_least = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let error = |number: i32| libc::SECCOMP_RET_ERRNO | number.cast_unsigned();
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).expect("BPF codes have 16 bits"),
        jt,
        jf,
        k,
    };
    [
        instruction(load, 0, 0, NUMBER_AT),
        instruction(equal, 6, 0, CLONE3),
        instruction(at_least, 6, 0, FIRST_SHARED),
        instruction(at_least, 4, 0, first_newer),
        instruction(equal, if has_accept4 { 2 } else { 0 }, 2, ACCEPT4),
        instruction(load, 0, 0, FLAGS_AT),
        instruction(equal, 0, 1, 0),
        instruction(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
        instruction(answer, 0, 0, error(libc::ENOSYS)),
        instruction(answer, 0, 0, error(libc::EINVAL)),
    ]
}

#[allow(unsafe_code)]
fn install(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("a short filter"),
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `program` and the filter outlive the call, and the kernel only reads them.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
