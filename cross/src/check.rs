//! Whether a built file will start on the boxes it is for.
//!
//! Emulators forgive what boxes do not: they load a newer C library, know every instruction and
//! answer every system call. So the files themselves are asked.
//!
//! **Invariant:** [`faults`] is pure; each fault is a sentence about this file, with a remedy.

use crate::facts::{Facts, Import};
use crate::targets::{Arm, Float, Glibc, LIBRARIES_ALLOWED, Linking, Machine, Program, Target};

/// Why a file is not fit for its target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Another processor.
    #[error("it is for {found}, but {target} boxes are {wanted}")]
    Machine { found: String, wanted: Machine, target: &'static str },
    /// An object file, a library's archive member, a core.
    #[error("it is ELF, but not a program")]
    NotAProgram,
    /// The wrong float convention.
    #[error(
        "its floating-point convention is {header} in the header and {tagged} in the attributes, \
         and {target} needs {wanted} float"
    )]
    FloatAbi { header: String, tagged: String, wanted: Float, target: &'static str },
    /// Code for a newer ARM than the box's.
    #[error("it asks for ARM architecture {found} (Tag_CPU_arch), {target} ends at {wanted}")]
    CpuArch { found: u64, wanted: &'static str, target: &'static str },
    /// An instruction that ends in SIGILL.
    #[error("at {address:#x} it has {what}, which an ARMv5 core answers with SIGILL")]
    Instruction { what: &'static str, address: u64 },
    /// A static target's file that needs a loader.
    #[error("it is not static: it asks for {wants}")]
    NotStatic { wants: String },
    /// A dynamic target's file with another loader, or none.
    #[error("its loader is {found}, and on {target} boxes that is {wanted}")]
    Interpreter { found: String, wanted: &'static str, target: &'static str },
    /// A library that boxes may not have.
    #[error("it needs {library}, which DSM does not promise to have")]
    Library { library: String },
    /// A symbol newer than the floor.
    #[error("{symbol} needs glibc {found}, and the oldest {target} box has {floor}")]
    Glibc { symbol: String, found: Glibc, floor: Glibc, target: &'static str },
    /// A symbol the floor's glibc does not have at all.
    #[error("it insists on {symbol}, which glibc {floor} does not have")]
    Unprovided { symbol: String, floor: Glibc },
    /// Segments that a kernel with large pages cannot map.
    #[error("its segments are aligned to {found} bytes, and {target} kernels may need {wanted}")]
    PageSize { found: u64, wanted: u64, target: &'static str },
    /// A stack that may be executed.
    #[error("its stack may hold code")]
    ExecutableStack,
    /// Too heavy.
    #[error("it is {found} bytes long, and the bound for {program} is {wanted}")]
    TooLarge { found: u64, wanted: u64, program: &'static str },
}

impl Fault {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Machine { .. } | Self::NotAProgram => {
                "build it again with `cargo nas build`, and do not copy files into dist by hand"
            }
            Self::FloatAbi { .. } => {
                "compare the triple in cross/src/targets.rs with the box's loader: `eabihf` is \
                 hard float, `eabi` is soft"
            }
            Self::CpuArch { .. } => {
                "look for a dependency whose C code is compiled with its own -march or -mcpu"
            }
            Self::Instruction { .. } => {
                "link a version without it in front (see cross/src/native/armv5.c), or find the \
                 dependency that brought it"
            }
            Self::NotStatic { .. } => {
                "a build script linked a shared library: turn on that crate's `static`, \
                 `bundled` or `vendored` feature"
            }
            Self::Interpreter { .. } => "link with `cargo nas build`, which uses the right triple",
            Self::Library { .. } => {
                "turn on the `static`, `bundled` or `vendored` feature of the crate that links it"
            }
            Self::Glibc { .. } | Self::Unprovided { .. } => {
                "find the crate that calls it (`cargo tree -i`), switch off the feature that does, \
                 or look it up at run time with a fallback"
            }
            Self::PageSize { .. } => "link with -z max-page-size as `cargo nas build` does",
            Self::ExecutableStack => {
                "an assembler file lacks the section .note.GNU-stack; add it, or link with -z \
                 noexecstack"
            }
            Self::TooLarge { .. } => {
                "see what grew with `cargo tree` and a size report; raise the bound in \
                 cross/src/targets.rs only with a reason"
            }
        }
    }
}

/// Everything that is wrong with a file of these `facts`, as `program` for `target`.
pub fn faults(facts: &Facts, program: &Program, target: &'static Target) -> Vec<Fault> {
    if !is_machine(facts, target.machine) {
        let (found, wanted) = (machine_name(facts), target.machine);
        return vec![Fault::Machine { found, wanted, target: target.name }];
    }
    if !facts.is_program {
        return vec![Fault::NotAProgram];
    }
    let mut found = Vec::new();
    if let Some(arm) = &target.arm {
        arm_faults(facts, arm, target.name, &mut found);
    }
    match target.linking {
        Linking::Static => {
            let wants: Vec<&str> =
                facts.interpreter.iter().chain(&facts.libraries).map(String::as_str).collect();
            if !wants.is_empty() {
                found.push(Fault::NotStatic { wants: wants.join(", ") });
            }
        }
        Linking::Dynamic { interpreter, floor } => {
            loader_faults(facts, interpreter, target.name, &mut found);
            symbol_faults(facts, floor, target.name, &mut found);
        }
    }
    if facts.segment_align_bytes_min < target.page_bytes_max {
        found.push(Fault::PageSize {
            found: facts.segment_align_bytes_min,
            wanted: target.page_bytes_max,
            target: target.name,
        });
    }
    if facts.stack_is_executable {
        found.push(Fault::ExecutableStack);
    }
    if facts.file_bytes > program.file_bytes_max {
        found.push(Fault::TooLarge {
            found: facts.file_bytes,
            wanted: program.file_bytes_max,
            program: program.name,
        });
    }
    found
}

fn is_machine(facts: &Facts, wanted: Machine) -> bool {
    let (machine, is_64_bit) = match wanted {
        Machine::X86_64 => (object::elf::EM_X86_64, true),
        Machine::Aarch64 => (object::elf::EM_AARCH64, true),
        Machine::Arm => (object::elf::EM_ARM, false),
    };
    facts.machine == machine.0 && facts.is_64_bit == is_64_bit && facts.is_little_endian
}

fn machine_name(facts: &Facts) -> String {
    for known in [Machine::X86_64, Machine::Aarch64, Machine::Arm] {
        if is_machine(facts, known) {
            return known.to_string();
        }
    }
    let class = if facts.is_64_bit { 64 } else { 32 };
    let order = if facts.is_little_endian { "little" } else { "big" };
    format!("{class}-bit {order}-endian machine number {}", facts.machine)
}

fn arm_faults(facts: &Facts, wanted: &Arm, target: &'static str, found: &mut Vec<Fault>) {
    let tagged = match facts.arm.vfp_args {
        Some(0) => Some(Float::Soft),
        Some(1) => Some(Float::Hard),
        _ => None,
    };
    let in_header = facts.arm.header_float;
    if in_header != Some(wanted.float) || tagged.is_some_and(|float| float != wanted.float) {
        let name = |float: Option<Float>| float.map_or("unsaid".to_owned(), |it| it.to_string());
        found.push(Fault::FloatAbi {
            header: name(in_header),
            tagged: name(tagged),
            wanted: wanted.float,
            target,
        });
    }
    if facts.arm.cpu_arch == 0 || facts.arm.cpu_arch > wanted.cpu_arch_max {
        found.push(Fault::CpuArch {
            found: facts.arm.cpu_arch,
            wanted: wanted.cpu_arch_name,
            target,
        });
    }
    if wanted.before_v6 {
        let newer = facts.arm.newer_than_v5.iter();
        found.extend(newer.map(|&(what, address)| Fault::Instruction { what, address }));
    }
}

fn loader_faults(
    facts: &Facts,
    wanted: &'static str,
    target: &'static str,
    found: &mut Vec<Fault>,
) {
    let loader = facts.interpreter.as_deref();
    if loader != Some(wanted) {
        let name = loader.unwrap_or("none at all (it is static)").to_owned();
        found.push(Fault::Interpreter { found: name, wanted, target });
    }
    for library in &facts.libraries {
        if !LIBRARIES_ALLOWED.contains(&library.as_str()) {
            found.push(Fault::Library { library: library.clone() });
        }
    }
}

fn symbol_faults(facts: &Facts, floor: Glibc, target: &'static str, found: &mut Vec<Fault>) {
    if let Some((newest, symbol)) = facts.newest_glibc()
        && newest > floor
    {
        found.push(Fault::Glibc { symbol: symbol.to_owned(), found: newest, floor, target });
    }
    // A symbol without a version was not in the floor's glibc when the program was linked. A
    // weak one (statx, getrandom, gettid) is looked for and done without.
    let insisted = |import: &&Import| !import.is_weak && import.version.is_none();
    for import in facts.imports.iter().filter(insisted) {
        found.push(Fault::Unprovided { symbol: import.name.clone(), floor });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::ArmFacts;
    use crate::targets::{TARGETS, program, target};

    fn the(name: &str) -> &'static Target {
        target(name).unwrap()
    }

    fn good(target: &Target) -> Facts {
        let (interpreter, libraries, imports) = match target.linking {
            Linking::Static => (None, vec![], vec![]),
            Linking::Dynamic { interpreter, floor } => (
                Some(interpreter.to_owned()),
                vec!["libc.so.6".to_owned()],
                vec![
                    import("read", Some(&format!("GLIBC_{floor}")), false),
                    import("statx", None, true),
                ],
            ),
        };
        Facts {
            file_bytes: 1 << 20,
            machine: match target.machine {
                Machine::X86_64 => object::elf::EM_X86_64.0,
                Machine::Aarch64 => object::elf::EM_AARCH64.0,
                Machine::Arm => object::elf::EM_ARM.0,
            },
            is_64_bit: target.arm.is_none(),
            is_little_endian: true,
            is_program: true,
            interpreter,
            libraries,
            imports,
            segment_align_bytes_min: target.page_bytes_max,
            stack_is_executable: false,
            arm: ArmFacts {
                header_float: target.arm.map(|arm| arm.float),
                cpu_arch: target.arm.map_or(0, |arm| arm.cpu_arch_max),
                vfp_args: target.arm.map(|arm| (arm.float == Float::Hard).into()),
                newer_than_v5: vec![],
            },
        }
    }

    fn import(name: &str, version: Option<&str>, is_weak: bool) -> Import {
        Import { name: name.to_owned(), version: version.map(str::to_owned), is_weak }
    }

    /// The sentences about an otherwise good file for `name`, spoilt by `spoil`.
    fn said(name: &str, spoil: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut facts = good(the(name));
        spoil(&mut facts);
        let found = faults(&facts, program("holdfast").unwrap(), the(name));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_file_for_one_target_is_good_and_for_any_other_it_is_not() {
        for made_for in &TARGETS {
            for used_for in &TARGETS {
                let found = faults(&good(made_for), program("holdfast").unwrap(), used_for);
                let same = made_for.name == used_for.name;
                // Old code runs on newer cores of the same float convention.
                let older = (made_for.name, used_for.name) == ("armv5", "armv7");
                assert_eq!(
                    found.is_empty(),
                    same || older,
                    "{} as {}: {found:?}",
                    made_for.name,
                    used_for.name
                );
            }
        }
    }

    #[test]
    fn the_program_running_this_test_is_refused_for_every_nas() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let facts = Facts::read(&bytes).unwrap();
        for target in &TARGETS {
            let found = faults(&facts, program("holdfast").unwrap(), target);
            let first = found.first().map(ToString::to_string).unwrap_or_default();
            if target.machine == Machine::X86_64 && cfg!(target_arch = "x86_64") {
                assert!(first.starts_with("it is not static: it asks for /lib64/ld-linux"));
            } else if cfg!(target_arch = "x86_64") {
                assert_eq!(
                    first,
                    format!(
                        "it is for 64-bit x86_64, but {} boxes are {}",
                        target.name, target.machine
                    )
                );
            }
            assert!(!found.is_empty(), "{}", target.name);
            assert!(found.iter().all(|fault| !fault.remedy().is_empty()));
        }
    }

    #[test]
    fn a_hard_float_file_is_refused_where_the_userland_is_soft_and_the_other_way_round() {
        for name in ["armv5", "armv7"] {
            assert_eq!(
                said(name, |facts| facts.arm.vfp_args = Some(1)),
                [format!(
                    "its floating-point convention is soft in the header and hard in the \
                     attributes, and {name} needs soft float"
                )]
            );
            assert_eq!(said(name, |facts| facts.arm.vfp_args = None), [""; 0]);
        }
        assert_eq!(said("armhf", |facts| facts.arm.vfp_args = Some(0)).len(), 1);
        assert_eq!(said("armhf", |facts| facts.arm.header_float = Some(Float::Soft)).len(), 1);
        assert_eq!(
            said("armhf", |facts| facts.arm.header_float = None),
            ["its floating-point convention is unsaid in the header and hard in the attributes, \
              and armhf needs hard float"]
        );
    }

    #[test]
    fn code_for_a_newer_core_is_refused_by_tag_and_by_instruction() {
        assert_eq!(
            said("armv5", |facts| facts.arm.cpu_arch = 10),
            ["it asks for ARM architecture 10 (Tag_CPU_arch), armv5 ends at ARMv5TE"]
        );
        let barrier = |facts: &mut Facts| facts.arm.newer_than_v5 = vec![("a barrier", 0x40)];
        assert_eq!(
            said("armv5", barrier),
            ["at 0x40 it has a barrier, which an ARMv5 core answers with SIGILL"]
        );
        assert_eq!(said("armv7", barrier), [""; 0]);
    }

    #[test]
    fn a_symbol_above_the_floor_is_named_and_a_weak_one_is_forgiven() {
        let newer = import("clock_gettime", Some("GLIBC_2.17"), false);
        assert_eq!(
            said("armv5", |facts| facts.imports.push(newer.clone())),
            ["clock_gettime needs glibc 2.17, and the oldest armv5 box has 2.15"]
        );
        assert_eq!(said("armhf", |facts| facts.imports.push(newer)), [""; 0]);
        let statx = import("statx", Some("GLIBC_2.28"), false);
        assert_eq!(
            said("armhf", |facts| facts.imports.push(statx)),
            ["statx needs glibc 2.28, and the oldest armhf box has 2.17"]
        );
        assert_eq!(
            said("armhf", |facts| facts.imports.push(import("getrandom", None, false))),
            ["it insists on getrandom, which glibc 2.17 does not have"]
        );
    }

    #[test]
    fn a_foreign_library_a_foreign_loader_and_too_much_weight_are_refused() {
        assert_eq!(
            said("armhf", |facts| facts.libraries.push("libssl.so.3".to_owned())),
            ["it needs libssl.so.3, which DSM does not promise to have"]
        );
        assert_eq!(
            said("armhf", |facts| facts.interpreter = None),
            ["its loader is none at all (it is static), and on armhf boxes that is \
              /lib/ld-linux-armhf.so.3"]
        );
        assert_eq!(
            said("aarch64", |facts| facts.segment_align_bytes_min = 4096),
            ["its segments are aligned to 4096 bytes, and aarch64 kernels may need 65536"]
        );
        assert_eq!(
            said("x86_64", |facts| facts.file_bytes = 9 << 20),
            ["it is 9437184 bytes long, and the bound for holdfast is 8388608"]
        );
        assert_eq!(
            said("x86_64", |facts| facts.stack_is_executable = true),
            ["its stack may hold code"]
        );
    }
}
