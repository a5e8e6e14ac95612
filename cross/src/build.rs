//! Compiling the programs for a target into `dist/<target>`.
//!
//! **Invariant:** a file appears in `dist` whole or not at all, and the same sources give the same
//! bytes wherever the checkout and the cache lie: no path of the build machine gets in.

use crate::Places;
use crate::checkout::{ROOT, Turn, WRAPPER, put_wrapper};
use crate::run::{RunError, run};
use crate::targets::{Linking, PROGRAMS, Target};
use crate::tools::Tools;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The cargo profile, described in the workspace's Cargo.toml.
const PROFILE: &str = "nas";

/// What cargo told us about our own package when it started us. The build script of `ring` asks for
/// these, so another checkout's folder in them would make it, and all above it, be compiled anew.
const OF_OUR_PACKAGE: [&str; 18] = [
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PKG_AUTHORS",
    "CARGO_PKG_DESCRIPTION",
    "CARGO_PKG_HOMEPAGE",
    "CARGO_PKG_LICENSE",
    "CARGO_PKG_LICENSE_FILE",
    "CARGO_PKG_NAME",
    "CARGO_PKG_README",
    "CARGO_PKG_REPOSITORY",
    "CARGO_PKG_RUST_VERSION",
    "CARGO_PKG_VERSION",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
    "CARGO_PKG_VERSION_PATCH",
    "CARGO_PKG_VERSION_PRE",
];

/// Why a target was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The compiler or linker said no.
    #[error("{} was not built", target.name)]
    Compile {
        /// The target.
        target: &'static Target,
        /// What went wrong.
        #[source]
        cause: RunError,
    },
    /// The file system said no.
    #[error("cannot write {}", path.display())]
    Write {
        /// The path in question.
        path: PathBuf,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
}

impl BuildError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Compile { target, .. } if target.arm.is_some() => {
                "read the first error above; `undefined symbol` means a function newer than the \
                 target's glibc floor, `AtomicU64` a dependency that 32-bit ARM cannot have"
            }
            Self::Compile { .. } => "read the first error above",
            Self::Write { .. } => "make room there, and check whose folder it is",
        }
    }
}

/// Builds every program for `target` and puts it in `dist`; returns the finished files.
pub fn build(
    target: &'static Target,
    places: &Places,
    tools: &Tools,
) -> Result<Vec<PathBuf>, BuildError> {
    let objects = compile_native(target, places, tools)?;
    write_to(&places.scripts(), put_wrapper(&places.scripts()))?;
    let cross_target = places.cross_target();
    let _turn = write_to(&cross_target, Turn::take(&places.root, &cross_target, PROFILE))?;
    let flags = rustflags(target, places, tools, &objects);
    let mut command = zigbuild(places, tools);
    command
        .args(["zigbuild", "--locked", "--profile", PROFILE])
        .args(["--target", &target.triple_with_floor()])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(&OsString::from("\x1f")));
    for program in PROGRAMS {
        command.args(["--package", program.package, "--bin", program.name]);
    }
    if tools.must_build_std(target) {
        command.arg("-Zbuild-std=std,panic_abort").env("RUSTC_BOOTSTRAP", "1");
    }
    run(&mut command).map_err(|cause| BuildError::Compile { target, cause })?;
    let built = places.cross_target().join(target.triple).join(PROFILE);
    let folder = places.dist.join(target.name);
    write_to(&folder, std::fs::create_dir_all(&folder))?;
    PROGRAMS.iter().map(|program| publish(&built, &folder, program.name)).collect()
}

/// `cargo-zigbuild` with an environment in which only we decide.
fn zigbuild(places: &Places, tools: &Tools) -> Command {
    let mut command = Command::new(tools.bin.join("cargo-zigbuild"));
    let mut path = vec![tools.bin.clone(), places.scripts()];
    path.extend(places.path.iter().cloned());
    // Only a folder with a colon in its name cannot be joined; PATH has none.
    if let Ok(path) = std::env::join_paths(path) {
        command.env("PATH", path);
    }
    for name in OF_OUR_PACKAGE {
        command.env_remove(name);
    }
    command
        .current_dir(&places.root)
        .env("CARGO_TARGET_DIR", places.cross_target())
        .env("CARGO_ZIGBUILD_CACHE_DIR", places.cache.join("zig-wrappers"))
        .env("ZIG_GLOBAL_CACHE_DIR", places.cache.join("zig"))
        .env("RUSTC_WORKSPACE_WRAPPER", WRAPPER)
        .env(ROOT, &places.root)
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("LD_LIBRARY_PATH");
    command
}

fn rustflags(
    target: &Target,
    places: &Places,
    tools: &Tools,
    objects: &[PathBuf],
) -> Vec<OsString> {
    // rustix would otherwise make system calls of its own, past the C library that knows the
    // kernel of its box.
    let mut flags: Vec<OsString> = vec!["--cfg=rustix_use_libc".into()];
    if target.arm.is_some() {
        // As C programs say _FILE_OFFSET_BITS=64: without it, crates that call `stat` or `open`
        // through libc fail on files over 2 GiB and on inode numbers over 32 bits (EOVERFLOW).
        flags.push("--cfg=gnu_file_offset_bits64".into());
    }
    if target.triple.starts_with("aarch64") {
        // Without it `aes` only knows how to do without the AES extension; with it, it looks at
        // run time whether the processor has one.
        flags.push("--cfg=aes_armv8".into());
    }
    flags.push(format!("-Clink-arg=-Wl,-z,max-page-size={}", target.page_bytes_max).into());
    if target.linking == Linking::Static {
        flags.push("-Ctarget-feature=+crt-static".into());
        if tools.must_build_std(target) {
            // The start files are in the ready-made std only; Zig has its own.
            flags.push("-Clink-self-contained=no".into());
        }
    }
    for object in objects {
        let mut flag = OsString::from("-Clink-arg=");
        flag.push(object);
        flags.push(flag);
    }
    let library = tools.sysroot.join("lib/rustlib/src/rust");
    // The checkout's own path is hidden by the wrapper: here, it would be another flag for every
    // dependency, too, and each checkout would compile all of them anew.
    let homes = [(&library, "rust"), (&places.cargo_home, "cargo")];
    for (path, name) in homes {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(path);
        flag.push(format!("={name}"));
        flags.push(flag);
    }
    flags
}

/// Compiles the target's files of `native/`; the objects lie in the cache.
fn compile_native(
    target: &'static Target,
    places: &Places,
    tools: &Tools,
) -> Result<Vec<PathBuf>, BuildError> {
    let (Some(arm), Linking::Dynamic { floor, .. }) = (target.arm, target.linking) else {
        return Ok(Vec::new());
    };
    let folder = places.cache.join("native").join(target.name);
    write_to(&folder, std::fs::create_dir_all(&folder))?;
    let mut objects = Vec::new();
    for native in target.native {
        let source = format!("{}.c", native.name);
        let object = folder.join(format!("{}.o", native.name));
        write_to(&folder, std::fs::write(folder.join(&source), native.source))?;
        run(Command::new(tools.bin.join("python3"))
            .args(["-m", "ziglang", "cc", "-target", &format!("{}.{floor}", arm.c_target)])
            .args([&format!("-mcpu={}", arm.c_core), "-fno-sanitize=all", "-Os", "-g0"])
            .args(["-Wall", "-Wextra", "-Werror", "-c", &source, "-o"])
            .arg(&object)
            .current_dir(&folder)
            .env("ZIG_GLOBAL_CACHE_DIR", places.cache.join("zig")))
        .map_err(|cause| BuildError::Compile { target, cause })?;
        objects.push(object);
    }
    Ok(objects)
}

/// Copies a program beside its final place and renames it there.
fn publish(built: &Path, folder: &Path, name: &str) -> Result<PathBuf, BuildError> {
    let whole = folder.join(name);
    let part = folder.join(format!(".{name}.part"));
    write_to(&part, std::fs::copy(built.join(name), &part).map(drop))?;
    write_to(&whole, std::fs::rename(&part, &whole))?;
    Ok(whole)
}

fn write_to<T>(path: &Path, result: io::Result<T>) -> Result<T, BuildError> {
    result.map_err(|cause| BuildError::Write { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::{Native, TARGETS};

    fn flags_of(target: &Target) -> Vec<String> {
        let places = Places {
            root: "/home/somebody/holdfast".into(),
            dist: "/home/somebody/holdfast/dist".into(),
            cache: "/cache of mine".into(),
            cargo_home: "/home/somebody/.cargo".into(),
            cargo: "cargo".into(),
            rustc: "rustc".into(),
            path: vec![],
        };
        let tools = Tools::at("/tools".into(), "/toolchain".into());
        let object = |native: &Native| Path::new("/cache of mine").join(native.name);
        let objects: Vec<PathBuf> = target.native.iter().map(object).collect();
        let flags = rustflags(target, &places, &tools, &objects);
        flags.iter().map(|flag| flag.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn no_path_of_the_build_machine_gets_into_a_program() {
        for target in TARGETS {
            let flags = flags_of(&target);
            for path in ["/toolchain/lib/rustlib/src/rust=rust", "/home/somebody/.cargo=cargo"] {
                let flag = format!("--remap-path-prefix={path}");
                assert!(flags.contains(&flag), "{}: {flags:?}", target.name);
            }
        }
    }

    #[test]
    fn dependencies_are_compiled_alike_wherever_the_checkout_lies() {
        for target in TARGETS {
            let flags = flags_of(&target);
            assert!(!flags.iter().any(|flag| flag.contains("somebody/holdfast")), "{flags:?}");
        }
    }

    #[test]
    fn every_target_gets_the_flags_it_cannot_start_without() {
        for target in TARGETS {
            let flags = flags_of(&target);
            let has = |wanted: &str| flags.iter().any(|flag| flag.contains(wanted));
            assert!(has("rustix_use_libc"), "{}", target.name);
            assert_eq!(has("+crt-static"), target.arm.is_none(), "{}", target.name);
            assert_eq!(has("gnu_file_offset_bits64"), target.arm.is_some(), "{}", target.name);
            assert_eq!(has("cache of mine/armv5"), target.name == "armv5", "{}", target.name);
            assert_eq!(has("cache of mine/arm"), target.arm.is_some(), "{}", target.name);
            assert_eq!(has("max-page-size=65536"), target.name != "x86_64", "{}", target.name);
        }
    }
}
