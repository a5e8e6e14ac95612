//! What a build starts from, and why one can fail: what the payload and the package share.

use crate::dsm::Dsm;
use crate::icon::{Icon, IconError};
use crate::manifest::Manifest;
use crate::platform::Target;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where everything comes from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// What to build.
    pub manifest: &'a Manifest,
    /// The manifest's folder.
    pub folder: &'a Path,
    /// What `{programs}` stands for.
    pub programs: &'a Path,
}

impl Sources<'_> {
    /// The picture every icon is made from.
    pub fn icon(&self) -> Result<Icon, BuildError> {
        let path = self.folder.join(&self.manifest.icon);
        Icon::decode(&read(&path)?).map_err(|cause| BuildError::Icon { path, cause })
    }
}

/// A script, wizard, icon or licence larger than this is refused, in bytes.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// A small file, whole.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    let unreadable = |cause| BuildError::Read { path: path.into(), cause };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(BuildError::NotAFile { path: path.into() });
    }
    if metadata.len() > TEXT_BYTES_MAX {
        return Err(BuildError::TooLarge { path: path.into(), bytes: metadata.len() });
    }
    fs::read(path).map_err(unreadable)
}

/// Why a package could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file the manifest names cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The package cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file cannot be put into an archive.
    #[error("`{path}` cannot be packed")]
    Pack {
        /// Its name in the archive.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Two sources for one place.
    #[error("the payload's `{path}` comes from two places")]
    Twice {
        /// The place.
        path: String,
    },
    /// A wizard both as a file and as pages.
    #[error("the wizard {name} is in [wizard]'s folder and in its pages")]
    WizardTwice {
        /// The file's name.
        name: String,
    },
    /// A link that would lead out of the package.
    #[error("{} is a link that leads out of the package", path.display())]
    LinkOutside {
        /// The link.
        path: PathBuf,
    },
    /// A device, a pipe, or a name that is no text.
    #[error("{} is neither file nor folder, or its name is no text", path.display())]
    NotAFile {
        /// What it is called.
        path: PathBuf,
    },
    /// More than an archive can say.
    #[error("{} is too large: {bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A script DSM never calls, named like one it does.
    #[error("{} is none of the scripts DSM calls", path.display())]
    ScriptUnknown {
        /// The script.
        path: PathBuf,
    },
    /// The script every package needs is not there.
    #[error("{} is not there; every package needs it", path.display())]
    ScriptMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The icon is not one.
    #[error("{} is no icon", path.display())]
    Icon {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: IconError,
    },
    /// No box of this DSM runs this target.
    #[error("no platform with {dsm} runs the target {target}")]
    NoPlatform {
        /// The target.
        target: Target,
        /// The DSM.
        dsm: Dsm,
    },
}

impl BuildError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Read { .. } => {
                "build the programs first, and say where they are with --programs; other files are \
                 looked for beside package.toml"
            }
            Self::Write { .. } => "check that the folder exists, is yours and has room",
            Self::Pack { .. } => "shorten its path; an archive DSM reads takes about 100 letters",
            Self::Twice { .. } => "leave one [[payload]] for it; conf/daemon.toml is [daemon]'s",
            Self::WizardTwice { .. } => "remove the file or the pages",
            Self::LinkOutside { .. } => "copy the file, or make the link relative and inside",
            Self::NotAFile { .. } => "leave it out of the folder",
            Self::TooLarge { .. } => "split it, or download it when the package is installed",
            Self::ScriptMissing { .. } => "write one that says `#!/bin/sh` and `exit 0`",
            Self::ScriptUnknown { .. } => {
                "name it preinst, postinst, preuninst, postuninst, preupgrade or postupgrade"
            }
            Self::Icon { cause, .. } => cause.remedy(),
            Self::NoPlatform { .. } => "leave the target or the DSM out",
        }
    }
}
