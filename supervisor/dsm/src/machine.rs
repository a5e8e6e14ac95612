//! What the machine says about itself, for reports.

use crate::Dsm;

/// The machine in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name in the network.
    pub host: String,
    /// Its kernel's version.
    pub kernel: String,
    /// Its processor's architecture (`x86_64`, `armv7l`).
    pub architecture: String,
}

/// What tells this machine from every other: its serial number and its network cards. Empty when
/// the system says nothing of the kind.
pub fn marks(dsm: &Dsm) -> Vec<String> {
    const CARDS_MAX: usize = 16;
    let one_line = |path: &str| {
        let text = dsm.system_text(path)?;
        let line: String = text.trim().chars().filter(|letter| !letter.is_control()).collect();
        Some(line).filter(|line| !line.is_empty() && line.len() <= 100)
    };
    let serial = one_line("/proc/sys/kernel/syno_serial").map(|text| format!("serial {text}"));
    let cards = dsm.find("/sys/class/net").ok().and_then(|path| std::fs::read_dir(path).ok());
    let mut names: Vec<String> = cards
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        // Bridges, bonds and containers get addresses of their own making.
        .filter(|name| name.starts_with("eth"))
        .take(CARDS_MAX)
        .collect();
    names.sort();
    let card = |name: &String| one_line(&format!("/sys/class/net/{name}/address"));
    let cards = names.iter().filter_map(card).map(|text| format!("network card {text}"));
    serial.into_iter().chain(cards).collect()
}

impl Machine {
    /// Asks the running system.
    pub fn now() -> Self {
        let unknown = "unknown";
        Self {
            host: sysinfo::System::host_name().unwrap_or_else(|_| unknown.to_owned()),
            kernel: sysinfo::System::kernel_version().unwrap_or_else(|_| unknown.to_owned()),
            architecture: sysinfo::System::cpu_arch(),
        }
    }
}
