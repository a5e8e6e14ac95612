//! What the machine says about itself, for reports.

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
