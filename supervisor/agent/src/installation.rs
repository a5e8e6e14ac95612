//! The package this program serves: found from what DSM said, flags, or the program's own place.

use crate::description::{Description, Filling};
use crate::problem::{Problem, Result};
use std::path::{Path, PathBuf};
use supervisor_dsm::{Dsm, Folder, HookContext, Package, PackageName};

/// What `main` learnt from flags and environment; nothing below asks again.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--root` or `HOLDFAST_DSM_ROOT`.
    pub root: PathBuf,
    /// `--package`.
    pub package: Option<String>,
    /// This program's own file.
    pub program: PathBuf,
    /// What DSM said.
    pub context: HookContext,
    /// `TZ` as this box understands it, which the daemon inherits.
    pub time_zone: Option<String>,
}

/// One package on one NAS.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Its folders.
    pub package: Package,
    /// What `main` learnt.
    pub settings: Settings,
}

impl Installation {
    /// Finds the package.
    pub fn find(settings: Settings) -> Result<Self> {
        let dsm = Dsm::at(&settings.root);
        // PAYLOAD/bin/holdfast-supervisor
        let payload = settings.program.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        let own_name = payload.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let name = settings
            .package
            .clone()
            .or_else(|| settings.context.package_name.clone())
            .or(own_name)
            .ok_or_else(|| {
                Problem::new("cannot tell which package this is").remedy("name it: --package NAME")
            })?;
        let name = PackageName::new(&name)?;
        let mut context = settings.context.clone();
        if context.target.is_none() {
            let linked = Package::linked_target(&dsm, &name)?;
            context.target = Some(if linked.is_dir() { linked } else { payload.to_owned() });
        }
        let package = Package::find(&dsm, name, &context)?;
        Ok(Self { package, settings })
    }

    /// The daemon's description: in the installed payload, or (before it is installed) beside this
    /// program.
    pub fn description(&self) -> Result<Description> {
        Description::of(&self.payload()).or_else(|problem| {
            let own = self.settings.program.parent().and_then(Path::parent);
            own.and_then(|payload| Description::of(payload).ok()).ok_or(problem)
        })
    }

    /// Where the programs are: what the package brought, or a newer version in a slot.
    pub fn payload(&self) -> PathBuf {
        let slot = crate::payloads::slot_in_use(self).map(|(_, slot)| slot);
        slot.unwrap_or_else(|| self.package.target().to_owned())
    }

    /// What the placeholders stand for here, with the programs in `payload`.
    pub fn filling<'a>(&'a self, payload: &'a Path, memory_bytes: u64) -> Filling<'a> {
        Filling { target: payload, var: self.package.var(), memory_bytes }
    }

    /// The folder of locks, PID file and state; made when missing.
    pub fn run_folder(&self) -> Result<Folder> {
        Ok(self.package.open_or_make_var()?.inner_or_make("run", 0o700)?)
    }

    /// The same, but only if it is there: for commands that change nothing.
    pub fn run_folder_if_any(&self) -> Result<Option<Folder>> {
        match self.package.open_var().and_then(|var| var.inner("run")) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The folder of logs; made when missing.
    pub fn log_folder(&self) -> Result<Folder> {
        Ok(self.package.open_or_make_var()?.inner_or_make("log", 0o750)?)
    }

    /// The names of the files in the two folders.
    pub fn names(&self) -> Names {
        let name = self.package.name();
        Names {
            supervisor_lock: format!("{name}.supervisor.lock"),
            daemon_lock: format!("{name}.lock"),
            turn_lock: format!("{name}.turn.lock"),
            pid: format!("{name}.pid"),
            state: format!("{name}.state"),
            memory: format!("{name}.memory"),
            log: "supervisor.log".to_owned(),
        }
    }

    /// On DSM 7 everything belongs to the package's user. Root over SSH becomes that user first,
    /// or it would leave files the package cannot read. Below DSM 7 nothing happens.
    pub fn become_package_user(&self) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        if self.package.var_is_in_target() || !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        let Ok(meta) = std::fs::metadata(self.package.var()) else { return Ok(()) };
        if meta.uid() != 0 {
            supervisor_dsm::limits::Limits::raise(self.package.dsm());
            supervisor_dsm::launch::become_user(meta.uid(), meta.gid())?;
        }
        Ok(())
    }
}

/// Files of one daemon in `var/run` and `var/log`.
#[derive(Debug, Clone)]
pub struct Names {
    /// Held by the living supervisor.
    pub supervisor_lock: String,
    /// Inherited by the daemon.
    pub daemon_lock: String,
    /// Taken in turn by commands.
    pub turn_lock: String,
    /// The daemon's PID, for people and old habits.
    pub pid: String,
    /// What the supervisor knows.
    pub state: String,
    /// How often memory ran out.
    pub memory: String,
    /// What the supervisor says, and what the daemon prints.
    pub log: String,
}
