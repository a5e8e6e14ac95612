//! The five targets, as a table with reasons: what each must be built with, and what a finished
//! file for it must look like.
//!
//! A DSM version ships the C library it was compiled with, and a box keeps the kernel it was sold
//! with. So each row states floors, not wishes.

use std::fmt;

/// A version of glibc: major, minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc(pub u32, pub u32);

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The processor family a file is for, with its class and byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit Intel and AMD, little endian.
    X86_64,
    /// 64-bit ARM, little endian.
    Aarch64,
    /// 32-bit ARM, little endian.
    Arm,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "64-bit x86_64",
            Self::Aarch64 => "64-bit aarch64",
            Self::Arm => "32-bit little-endian ARM",
        })
    }
}

/// How floating-point arguments travel between functions on 32-bit ARM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float {
    /// In VFP registers.
    Hard,
    /// In integer registers.
    Soft,
}

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
        })
    }
}

/// What only 32-bit ARM needs to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arm {
    /// The float convention of the box's C library.
    pub float: Float,
    /// `Tag_CPU_arch` of the ARM ABI: 4 is v5TE, 10 is v7.
    pub cpu_arch_max: u64,
    /// The core as people call it.
    pub cpu_arch_name: &'static str,
    /// The C compiler's words for the system and the core.
    pub c_target: &'static str,
    /// See `c_target`; a leading minus takes away.
    pub c_core: &'static str,
    /// Whether the core lacks what came with ARMv6: exclusive loads and stores, barriers, and the
    /// register of the thread pointer.
    pub before_v6: bool,
}

/// How the file finds its C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linking {
    /// It carries musl inside and needs nothing of the box.
    Static,
    /// It uses the box's glibc.
    Dynamic {
        /// The path of the loader on the box.
        interpreter: &'static str,
        /// The oldest glibc it must start with.
        floor: Glibc,
    },
}

/// One of the five builds.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Our word for it, and the folder in `dist`.
    pub name: &'static str,
    /// The compiler's word for it.
    pub triple: &'static str,
    /// Which boxes, and why it is built this way.
    pub reason: &'static str,
    /// The processor.
    pub machine: Machine,
    /// More about the processor, when it is a 32-bit ARM.
    pub arm: Option<Arm>,
    /// The C library.
    pub linking: Linking,
    /// The largest page size of the target's kernels, in bytes: segments must be aligned to it.
    pub page_bytes_max: u64,
    /// Whether the standard library is compiled with the programs. There is no ready-made one for
    /// every 32-bit ARM, and the ready-made ones are not built for the oldest core.
    pub builds_std: bool,
    /// C files of ours that are linked in front of the C library.
    pub native: &'static [Native],
}

/// A file of `native/`.
#[derive(Debug, Clone, Copy)]
pub struct Native {
    /// Its name without the ending.
    pub name: &'static str,
    /// What is in it; the reasons are there as well.
    pub source: &'static str,
}

const NATIVE_ARM: Native = Native { name: "arm", source: include_str!("native/arm.c") };
const NATIVE_ARMV5: Native = Native { name: "armv5", source: include_str!("native/armv5.c") };

/// Kernels of 64-bit and 32-bit ARM may use pages of 64 KiB; DSM has a platform named `alpine4k`,
/// so 4 KiB is not a given.
const PAGE_BYTES_ARM: u64 = 64 << 10;
const PAGE_BYTES_INTEL: u64 = 4 << 10;

/// Our targets, the most common first.
pub const TARGETS: [Target; 5] = [
    Target {
        name: "x86_64",
        triple: "x86_64-unknown-linux-musl",
        reason: "every Intel and AMD box; static, so the age of its C library does not matter",
        machine: Machine::X86_64,
        arm: None,
        linking: Linking::Static,
        page_bytes_max: PAGE_BYTES_INTEL,
        builds_std: false,
        native: &[],
    },
    Target {
        name: "aarch64",
        triple: "aarch64-unknown-linux-musl",
        reason: "rtd1296, rtd1619b, armada37xx; static, as on Intel",
        machine: Machine::Aarch64,
        arm: None,
        linking: Linking::Static,
        page_bytes_max: PAGE_BYTES_ARM,
        builds_std: false,
        native: &[],
    },
    Target {
        name: "armhf",
        triple: "armv7-unknown-linux-gnueabihf",
        reason: "alpine, armada370, 375, 38x and xp, comcerto2k, monaco; the box's own glibc, \
                 because their kernels use the numbers of newer system calls for calls of their \
                 own, which a static musl takes for an answer; glibc is 2.17 on DSM 5.2",
        machine: Machine::Arm,
        arm: Some(Arm {
            float: Float::Hard,
            cpu_arch_max: 10,
            cpu_arch_name: "ARMv7",
            c_target: "arm-linux-gnueabihf",
            c_core: "generic+v7a+vfp3-d32-neon",
            before_v6: false,
        }),
        linking: Linking::Dynamic { interpreter: "/lib/ld-linux-armhf.so.3", floor: Glibc(2, 17) },
        page_bytes_max: PAGE_BYTES_ARM,
        builds_std: true,
        native: &[NATIVE_ARM],
    },
    Target {
        name: "armv7",
        triple: "armv7-unknown-linux-gnueabi",
        reason: "ARMv7 cores under a soft-float userland: hi3535, and armada370 and xp on DSM 5",
        machine: Machine::Arm,
        arm: Some(Arm {
            float: Float::Soft,
            cpu_arch_max: 10,
            cpu_arch_name: "ARMv7",
            c_target: "arm-linux-gnueabi",
            c_core: "generic+v7a+soft_float-neon",
            before_v6: false,
        }),
        linking: Linking::Dynamic { interpreter: "/lib/ld-linux.so.3", floor: Glibc(2, 17) },
        page_bytes_max: PAGE_BYTES_ARM,
        builds_std: true,
        native: &[NATIVE_ARM],
    },
    Target {
        name: "armv5",
        triple: "armv5te-unknown-linux-gnueabi",
        reason: "88f6281 and 88f6282: an ARM926 without floating point, Linux 2.6.32, and glibc \
                 2.15 up to DSM 6.2",
        machine: Machine::Arm,
        arm: Some(Arm {
            float: Float::Soft,
            cpu_arch_max: 4,
            cpu_arch_name: "ARMv5TE",
            c_target: "arm-linux-gnueabi",
            c_core: "generic+v5te+soft_float+strict_align",
            before_v6: true,
        }),
        linking: Linking::Dynamic { interpreter: "/lib/ld-linux.so.3", floor: Glibc(2, 15) },
        page_bytes_max: PAGE_BYTES_ARM,
        builds_std: true,
        native: &[NATIVE_ARM, NATIVE_ARMV5],
    },
];

/// The libraries a dynamic program may ask for: the parts of glibc, which every box has. `libgcc_s`
/// is not among them: not every DSM ships it.
pub const LIBRARIES_ALLOWED: [&str; 8] = [
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
    "ld-linux.so.3",
    "ld-linux-armhf.so.3",
];

/// A program we ship.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The file's name.
    pub name: &'static str,
    /// The package that has it.
    pub package: &'static str,
    /// The largest file we accept, in bytes: flash is small on these boxes, and weight grows
    /// unseen.
    pub file_bytes_max: u64,
}

/// What is built for every target.
pub const PROGRAMS: [Program; 3] = [
    Program { name: "holdfast", package: "engine-daemon", file_bytes_max: 8 << 20 },
    Program { name: "holdfast-supervisor", package: "supervisor-agent", file_bytes_max: 4 << 20 },
    Program { name: "holdfast-depot", package: "supervisor-server", file_bytes_max: 8 << 20 },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The program of that file name.
pub fn program(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}

impl Target {
    /// The target as the cross linker wants it: the triple, and the glibc floor if there is one.
    pub fn triple_with_floor(&self) -> String {
        match self.linking {
            Linking::Static => self.triple.to_owned(),
            Linking::Dynamic { floor, .. } => format!("{}.{floor}", self.triple),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_32_bit_arm_is_static_and_every_64_bit_target_is() {
        for target in TARGETS {
            assert_eq!(target.arm.is_some(), target.machine == Machine::Arm, "{}", target.name);
            assert_eq!(
                target.arm.is_none(),
                target.linking == Linking::Static,
                "{}: static musl misreads the answers of Synology's 32-bit ARM kernels",
                target.name
            );
        }
    }

    #[test]
    fn the_floor_travels_with_the_triple() {
        let spelt = |name| target(name).map(Target::triple_with_floor);
        assert_eq!(spelt("armv5").as_deref(), Some("armv5te-unknown-linux-gnueabi.2.15"));
        assert_eq!(spelt("x86_64").as_deref(), Some("x86_64-unknown-linux-musl"));
        assert_eq!(spelt("qoriq"), None);
    }
}
