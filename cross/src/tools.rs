//! The tools a cross build needs, installed where they are missing.
//!
//! The C compiler and linker for every target is Zig, and `cargo-zigbuild` puts it between cargo
//! and the linker; both come from PyPI with a pinned version, into a virtual environment in the
//! cache. The source of the standard library, and ready-made ones for the static targets, come
//! from rustup. Nothing is installed outside the cache and the toolchain.
//!
//! **Not here:** compiling anything; that is [`crate::build`].

use crate::Places;
use crate::run::{RunError, output, run};
use crate::targets::{TARGETS, Target};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What pip installs. Zig 0.13 fails on the assembly in `ring`.
const PINNED: [&str; 2] = ["ziglang==0.15.2", "cargo-zigbuild==0.24.0"];

/// Why the tools could not be brought together.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// No Python, or one without `venv`.
    #[error("python3 cannot make a virtual environment in {}", folder.display())]
    NoVenv {
        /// Where it was to be.
        folder: PathBuf,
        /// What went wrong.
        #[source]
        cause: RunError,
    },
    /// pip could not install.
    #[error("pip cannot install {}", PINNED.join(" and "))]
    NoPip {
        /// What went wrong.
        #[source]
        cause: RunError,
    },
    /// No compiler.
    #[error("rustc does not say where its toolchain is")]
    NoRustc {
        /// What went wrong.
        #[source]
        cause: RunError,
    },
    /// The toolchain has no library source, and rustup could not add it.
    #[error("the source of the standard library (rust-src) is missing and could not be added")]
    NoRustSrc {
        /// What went wrong.
        #[source]
        cause: RunError,
    },
    /// The cache cannot be written.
    #[error("cannot write {}", path.display())]
    Cache {
        /// The path in question.
        path: PathBuf,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
}

impl ToolError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoVenv { .. } => {
                "install Python 3 with its venv module (Debian: apt-get install python3-venv)"
            }
            Self::NoPip { .. } => {
                "check the network and pip's settings (pip config list), then run `cargo nas \
                 setup` again; what is done is kept"
            }
            Self::NoRustc { .. } => "install Rust with rustup, at least the version in Cargo.toml",
            Self::NoRustSrc { .. } => {
                "run `rustup component add rust-src`, or install your distribution's rust-src \
                 package for the same compiler"
            }
            Self::Cache { .. } => "make room there, or set HOLDFAST_CACHE to a folder you own",
        }
    }
}

/// The tools, ready to use.
#[derive(Debug)]
pub struct Tools {
    /// The folder with `cargo-zigbuild` and the Python that has Zig.
    pub bin: PathBuf,
    /// The root of the Rust toolchain.
    pub sysroot: PathBuf,
    /// Triples whose standard library is ready-made.
    ready_made_std: BTreeSet<&'static str>,
}

impl Tools {
    /// Tools in these folders, and no ready-made standard library.
    pub fn at(bin: PathBuf, sysroot: PathBuf) -> Self {
        Self { bin, sysroot, ready_made_std: BTreeSet::new() }
    }

    /// Finds the tools, installing what is missing; `say` hears of each thing done.
    pub fn ready(places: &Places, say: &mut dyn FnMut(&str)) -> Result<Self, ToolError> {
        let bin = zig(places, say)?;
        let sysroot = output(
            Command::new(&places.rustc).args(["--print", "sysroot"]).current_dir(&places.root),
        )
        .map_err(|cause| ToolError::NoRustc { cause })?;
        let mut tools = Self::at(bin, PathBuf::from(sysroot));
        tools.rust_src(say)?;
        for target in TARGETS.iter().filter(|target| !target.builds_std) {
            tools.std_of(target, say);
        }
        Ok(tools)
    }

    /// Whether the standard library must be compiled for this target.
    pub fn must_build_std(&self, target: &Target) -> bool {
        target.builds_std || !self.ready_made_std.contains(target.triple)
    }

    fn rust_src(&self, say: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
        if self.sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml").exists() {
            return Ok(());
        }
        say("adding the source of the standard library (rustup component add rust-src)");
        run(Command::new("rustup").args(["component", "add", "rust-src", "--toolchain"]).arg(
            // rustup takes a toolchain's folder name, and links to foreign ones by path.
            self.sysroot.file_name().unwrap_or(self.sysroot.as_os_str()),
        ))
        .map_err(|cause| ToolError::NoRustSrc { cause })
    }

    /// Not having one is no error: it is compiled then, which takes a minute longer.
    fn std_of(&mut self, target: &'static Target, say: &mut dyn FnMut(&str)) {
        let library = self.sysroot.join("lib/rustlib").join(target.triple).join("lib");
        if !library.exists() {
            say(&format!("adding the standard library for {}", target.triple));
            let toolchain = self.sysroot.file_name().unwrap_or_default();
            let added = run(Command::new("rustup")
                .args(["target", "add", target.triple, "--toolchain"])
                .arg(toolchain));
            if let Err(cause) = added {
                say(&format!("{cause}; the standard library will be compiled instead"));
                return;
            }
        }
        self.ready_made_std.insert(target.triple);
    }
}

/// The `bin` folder of a virtual environment that has exactly [`PINNED`].
fn zig(places: &Places, say: &mut dyn FnMut(&str)) -> Result<PathBuf, ToolError> {
    let folder = places.cache.join("nas-tools");
    let bin = folder.join("bin");
    let done = folder.join("holdfast-pinned");
    let wanted = PINNED.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|pinned| pinned == wanted) {
        return Ok(bin);
    }
    say(&format!("installing {} in {}", PINNED.join(" and "), folder.display()));
    let writable = |path: &Path, result: io::Result<()>| {
        result.map_err(|cause| ToolError::Cache { path: path.to_owned(), cause })
    };
    writable(&places.cache, std::fs::create_dir_all(&places.cache))?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .map_err(|cause| ToolError::NoVenv { folder: folder.clone(), cause })?;
    run(Command::new(bin.join("python3"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PINNED))
    .map_err(|cause| ToolError::NoPip { cause })?;
    writable(&done, std::fs::write(&done, wanted))?;
    Ok(bin)
}
