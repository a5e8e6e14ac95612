//! What a built file says about itself: an ELF file read into plain values.
//!
//! The file is untrusted in the small sense that it may be anything at all, a truncated one
//! included; every table is read through a library that checks its bounds.

use crate::targets::{Float, Glibc};
use object::elf;
use object::read::elf::{
    AttributesSection, FileHeader, ProgramHeader as _, SectionHeader as _, SectionTable, Sym as _,
};
use object::{Endianness, FileKind};

/// Everything a check wants to know about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Length of the file, in bytes.
    pub file_bytes: u64,
    /// The `e_machine` number.
    pub machine: u16,
    /// Whether it is an ELF of class 64.
    pub is_64_bit: bool,
    /// Whether numbers in it are little endian.
    pub is_little_endian: bool,
    /// Whether it is a program (or a position-independent one) and not an object or a core.
    pub is_program: bool,
    /// The loader it asks for.
    pub interpreter: Option<String>,
    /// The libraries it asks for.
    pub libraries: Vec<String>,
    /// The functions and variables it wants from them.
    pub imports: Vec<Import>,
    /// The smallest alignment of its loaded segments, in bytes.
    pub segment_align_bytes_min: u64,
    /// Whether its stack may hold code.
    pub stack_is_executable: bool,
    /// What 32-bit ARM says besides.
    pub arm: ArmFacts,
}

/// One symbol that a library must provide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name.
    pub name: String,
    /// The version it was linked against, such as `GLIBC_2.4`.
    pub version: Option<String>,
    /// A weak one may be missing; the program looks before it calls.
    pub is_weak: bool,
}

/// The ARM-only part of [`Facts`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArmFacts {
    /// The float convention in the header's flags, if either bit is set.
    pub header_float: Option<Float>,
    /// `Tag_CPU_arch` (6); absent counts as 0, "before v4". The linker keeps the attributes of the
    /// first object only, so this is a hint about the whole.
    pub cpu_arch: u64,
    /// `Tag_ABI_VFP_args` (28), if there: 0 is soft, 1 is hard. A hint as well; but the linker
    /// refuses to mix the two, and writes what it found into the header.
    pub vfp_args: Option<u64>,
    /// Instructions in `.text` that ARMv5 does not have: what and where.
    pub newer_than_v5: Vec<(&'static str, u64)>,
}

impl Facts {
    /// Reads an ELF file; the error says in a few words what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        match FileKind::parse(bytes) {
            Ok(FileKind::Elf32) => Self::read_class::<elf::FileHeader32<Endianness>>(bytes),
            Ok(FileKind::Elf64) => Self::read_class::<elf::FileHeader64<Endianness>>(bytes),
            Ok(other) => Err(format!("it is {other:?}, not ELF")),
            Err(_) => Err("it does not start like an ELF file".to_owned()),
        }
        .map_err(|why| why.to_lowercase())
    }

    fn read_class<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<Self, String> {
        Self::read_elf::<Elf>(bytes).map_err(|cause| cause.to_string())
    }

    fn read_elf<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> object::Result<Self> {
        let header = Elf::parse(bytes)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, bytes)?;
        let mut facts = Self {
            file_bytes: bytes.len() as u64,
            machine: header.e_machine(endian).0,
            is_64_bit: header.is_type_64(),
            is_little_endian: header.is_little_endian(),
            is_program: [elf::ET_EXEC, elf::ET_DYN].contains(&header.e_type(endian)),
            interpreter: None,
            libraries: Vec::new(),
            imports: imports(&sections, endian, bytes)?,
            segment_align_bytes_min: u64::MAX,
            stack_is_executable: true,
            arm: ArmFacts::default(),
        };
        for segment in header.program_headers(endian, bytes)? {
            match segment.p_type(endian) {
                elf::PT_LOAD => {
                    let align = segment.p_align(endian).into();
                    facts.segment_align_bytes_min = facts.segment_align_bytes_min.min(align);
                }
                elf::PT_GNU_STACK => {
                    facts.stack_is_executable = segment.p_flags(endian).0 & elf::PF_X.0 != 0;
                }
                _ => {}
            }
            if let Some(path) = segment.interpreter(endian, bytes)? {
                facts.interpreter = Some(text(path));
            }
        }
        let dynamic = sections.dynamic_table(endian, bytes)?;
        for entry in &dynamic {
            if entry.tag == elf::DT_NEEDED {
                facts.libraries.push(text(dynamic.string(entry)?));
            }
        }
        if facts.machine == elf::EM_ARM.0 {
            facts.arm = arm_facts(header, &sections, endian, bytes)?;
        }
        Ok(facts)
    }

    /// The newest glibc it needs, and one symbol that needs it.
    pub fn newest_glibc(&self) -> Option<(Glibc, &str)> {
        self.imports
            .iter()
            .filter_map(|import| {
                let (major, minor) =
                    import.version.as_deref()?.strip_prefix("GLIBC_")?.split_once('.')?;
                let minor = minor.split('.').next()?;
                Some((Glibc(major.parse().ok()?, minor.parse().ok()?), import.name.as_str()))
            })
            .max_by_key(|(version, _)| *version)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn imports<Elf: FileHeader<Endian = Endianness>>(
    sections: &SectionTable<'_, Elf>,
    endian: Endianness,
    bytes: &[u8],
) -> object::Result<Vec<Import>> {
    let symbols = sections.symbols(endian, bytes, elf::SHT_DYNSYM)?;
    let versions = sections.versions(endian, bytes)?.unwrap_or_default();
    let mut found = Vec::new();
    for (index, symbol) in symbols.enumerate() {
        if !symbol.is_undefined(endian) || symbol.name(endian, symbols.strings())?.is_empty() {
            continue;
        }
        let version = versions.version(versions.version_index(endian, index).index())?;
        found.push(Import {
            name: text(symbol.name(endian, symbols.strings())?),
            version: version.map(|version| text(version.name())),
            is_weak: symbol.st_bind() == elf::STB_WEAK,
        });
    }
    Ok(found)
}

fn arm_facts<Elf: FileHeader<Endian = Endianness>>(
    header: &Elf,
    sections: &SectionTable<'_, Elf>,
    endian: Endianness,
    bytes: &[u8],
) -> object::Result<ArmFacts> {
    let flags = header.e_flags(endian).0;
    let mut facts = ArmFacts {
        header_float: match flags & (elf::EF_ARM_ABI_FLOAT_HARD | elf::EF_ARM_ABI_FLOAT_SOFT) {
            elf::EF_ARM_ABI_FLOAT_HARD => Some(Float::Hard),
            elf::EF_ARM_ABI_FLOAT_SOFT => Some(Float::Soft),
            _ => None,
        },
        ..ArmFacts::default()
    };
    if let Some((_, section)) = sections.section_by_name(endian, b".ARM.attributes") {
        let data = section.data(endian, bytes)?;
        if !data.is_empty() {
            read_attributes(&AttributesSection::<Elf>::new(endian, data)?, &mut facts)?;
        }
    }
    if let Some((_, section)) = sections.section_by_name(endian, b".text") {
        let address = section.sh_addr(endian).into();
        facts.newer_than_v5 = newer_than_v5(section.data(endian, bytes)?, address);
    }
    Ok(facts)
}

/// Tags 4, 5 and 67 of the ARM ABI carry a string, 32 a number and a string; below 32 the others
/// carry a number, and from 33 on the odd ones carry a string.
fn read_attributes<Elf: FileHeader>(
    section: &AttributesSection<'_, Elf>,
    facts: &mut ArmFacts,
) -> object::Result<()> {
    let mut subsections = section.subsections()?;
    while let Some(subsection) = subsections.next()? {
        if subsection.vendor() != b"aeabi" {
            continue;
        }
        let mut parts = subsection.subsubsections();
        while let Some(part) = parts.next()? {
            if part.tag() != elf::Tag_File {
                continue;
            }
            let mut attributes = part.attributes();
            while let Some(tag) = attributes.read_tag()? {
                match tag {
                    4 | 5 => _ = attributes.read_string()?,
                    6 => facts.cpu_arch = attributes.read_integer()?,
                    28 => facts.vfp_args = Some(attributes.read_integer()?),
                    32 => {
                        attributes.read_integer()?;
                        attributes.read_string()?;
                    }
                    tag if tag > 32 && tag % 2 == 1 => _ = attributes.read_string()?,
                    _ => _ = attributes.read_integer()?,
                }
            }
        }
    }
    Ok(())
}

/// The instructions, as mask and value of a 32-bit word. Code chosen at run time by the CPU's
/// capabilities is legitimate (`ring`'s SHA-512 for NEON begins with a barrier, so `dmb` is not
/// here); these are the ones compilers and runtime libraries use without asking.
const NEWER_THAN_V5: [(&str, u32, u32); 3] = [
    ("the thread pointer read from a coprocessor (mrc p15)", 0x0fff_0fff, 0x0e1d_0f70),
    ("an exclusive load (ldrex)", 0x0ff0_0fff, 0x0190_0f9f),
    ("an exclusive store (strex)", 0x0ff0_0ff0, 0x0180_0f90),
];

fn newer_than_v5(code: &[u8], address: u64) -> Vec<(&'static str, u64)> {
    let mut found = Vec::new();
    for (at, word) in (0u64..).step_by(4).zip(code.chunks_exact(4)) {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        for (what, mask, value) in NEWER_THAN_V5 {
            let is_new = found.iter().all(|(known, _)| *known != what);
            if word & mask == value && is_new {
                found.push((what, address + at));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_program_is_described_in_words() {
        assert_eq!(Facts::read(b"#!/bin/sh\n").unwrap_err(), "it does not start like an elf file");
        assert!(Facts::read(b"").is_err());
        assert!(Facts::read(b"\x7fELF\x02\x01\x01").is_err());
    }

    #[test]
    fn a_program_cut_off_anywhere_is_an_error_or_an_incomplete_one_but_never_a_crash() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let facts = Facts::read(&whole).unwrap();
        assert!(facts.is_program && facts.is_64_bit && facts.is_little_endian);
        assert!(facts.libraries.contains(&"libc.so.6".to_owned()), "{:?}", facts.libraries);
        for length in (0..whole.len().min(4096)).chain([whole.len() / 2, whole.len() - 1]) {
            assert!(Facts::read(&whole[..length]).is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn the_instructions_an_old_core_lacks_are_found_where_they_are() {
        // push {fp, lr}; mrc p15, 0, r0, c13, c0, 3; ldrex r1, [r0]; strex r2, r1, [r0]
        let code: Vec<u8> = [0xe92d_4800_u32, 0xee1d_0f70, 0xe190_1f9f, 0xe180_2f91]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let found = newer_than_v5(&code, 0x1000);
        let places: Vec<u64> = found.iter().map(|(_, at)| *at).collect();
        assert_eq!(places, [0x1004, 0x1008, 0x100c], "{found:?}");
        assert_eq!(newer_than_v5(&code[..4], 0), []);
    }

    #[test]
    fn the_attributes_of_an_arm_file_are_read_past_those_with_strings() {
        // Tag_CPU_name "7-A" (5), Tag_CPU_arch 10 (6), Tag_compatibility (32), Tag_conformance
        // "2.09" (67), Tag_ABI_VFP_args 1 (28)
        let tags = b"\x057-A\0\x06\x0a\x20\x01gnu\0\x432.09\0\x1c\x01";
        let mut file = vec![1];
        file.extend((5 + tags.len() as u32).to_le_bytes());
        file.extend(tags);
        let mut section = vec![b'A'];
        section.extend((4 + 6 + file.len() as u32).to_le_bytes());
        section.extend(b"aeabi\0");
        section.extend(file);
        let mut facts = ArmFacts::default();
        let parsed =
            AttributesSection::<elf::FileHeader32<Endianness>>::new(Endianness::Little, &section);
        read_attributes(&parsed.unwrap(), &mut facts).unwrap();
        assert_eq!((facts.cpu_arch, facts.vfp_args), (10, Some(1)));
    }
}
