//! The words of `package.toml`, table by table. What is written here is what the JSON schema says.
//!
//! Every key says what it is, with its unit; what holds *without it*; and for which *DSM*. A test
//! reads these sentences out of the schema and refuses a key that leaves one out.

use super::wizard::Page;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `package.toml`: what a package is, once, for every platform and DSM.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// What the package is, for people and for DSM. DSM 5 to 7.
    pub package: Package,
    /// The generations of DSM it is made for. DSM 5 to 7.
    pub dsm: WrittenDsm,
    /// Files and folders for `target/` on the NAS. Without it: none. DSM 5 to 7.
    #[serde(default)]
    pub payload: Vec<PayloadFile>,
    /// Files the NAS fetches when the package is installed, because they may not be passed on or
    /// are too large. Without it: none. DSM 5 to 7.
    #[serde(default)]
    pub download: Vec<Download>,
    /// How holdfast-supervisor runs the program; goes into the payload as `conf/daemon.toml`, as
    /// it is. Without it: nothing is written. DSM 5 to 7.
    #[cfg_attr(feature = "tool", schemars(with = "Option<BTreeMap<String, serde_json::Value>>"))]
    pub daemon: Option<toml::Table>,
    /// The scripts DSM calls. DSM 5 to 7.
    pub scripts: Folder,
    /// Questions to the owner. Without it: nothing is asked. DSM 5 to 7.
    pub wizard: Option<Wizard>,
    /// The picture in Package Center. DSM 5 to 7.
    pub icon: IconFile,
    /// Who the package runs as. Without it: its own user on DSM 7, root before. DSM 6 and 7.
    #[serde(default)]
    pub privilege: Privilege,
    /// Shared folders that are made when they are missing, and given to the package's user.
    /// Without it: none. DSM 6 and 7.
    #[serde(default)]
    pub share: Vec<Share>,
    /// Ports that get a name in DSM's firewall; this opens nothing. Without it: none. DSM 6 and 7.
    #[serde(default)]
    pub firewall: Vec<Firewall>,
    /// Further workers for `conf/resource`, as JSON would have them: `usr-local-linker`,
    /// `syslog-config`, `webservice` and so on. Without it: none. DSM 6 and 7.
    #[serde(default)]
    #[cfg_attr(feature = "tool", schemars(with = "BTreeMap<String, serde_json::Value>"))]
    pub resources: BTreeMap<String, toml::Value>,
    /// The web page Package Center links to. Without it: no link. DSM 5 to 7.
    pub port: Option<Port>,
    /// Further lines for INFO, as they are. Without it: none. DSM 5 to 7.
    #[serde(default)]
    pub info: BTreeMap<String, String>,
    /// Several packages from this one file: each is everything above, with the keys it names
    /// replaced (lists as a whole). Without it: one package. DSM 5 to 7.
    #[serde(default)]
    #[cfg_attr(feature = "tool", schemars(with = "Vec<serde_json::Value>"))]
    pub variant: Vec<toml::Table>,
}

/// `[package]`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its identity and its folder below /var/packages; never change it. DSM 5 to 7.
    pub name: String,
    /// Digits only: a feature version, a dash, and a build number that grows, such as
    /// 1.2.3-0004. DSM 5 to 7.
    pub(super) version: String,
    /// The name people see. DSM 5 to 7.
    pub displayname: String,
    /// What it does, in a sentence or two. DSM 5 to 7.
    pub description: String,
    /// Who makes it. DSM 5 to 7.
    pub maintainer: String,
    /// Their page. Without it: no link. DSM 5 to 7.
    pub maintainer_url: Option<String>,
    /// Who distributes it, when somebody else does. Without it: nobody else. DSM 5 to 7.
    pub distributor: Option<String>,
    /// Their page. Without it: no link. DSM 5 to 7.
    pub distributor_url: Option<String>,
    /// Where to get help. Without it: no link. DSM 5 to 7.
    pub support_url: Option<String>,
    /// What is new in this version; a new line becomes a line break. Without it: nothing is
    /// said. DSM 5 to 7.
    pub changelog: Option<String>,
    /// A text file the owner must accept before anything is installed or downloaded; its path,
    /// relative to package.toml. Without it: nothing to accept. DSM 5 to 7.
    pub license: Option<String>,
    /// Whether Package Center shows Run and Stop. Without it: true. DSM 5 to 7.
    #[serde(default = "yes")]
    pub startable: bool,
    /// Names by DSM's three-letter language (ger, fre, jpn). Without it: displayname everywhere.
    /// DSM 5 to 7.
    #[serde(default)]
    pub displaynames: BTreeMap<String, String>,
    /// Descriptions by three-letter language. Without it: description everywhere. DSM 5 to 7.
    #[serde(default)]
    pub descriptions: BTreeMap<String, String>,
    /// Changelogs by three-letter language, for package sources: a NAS itself shows changelog
    /// only. Without it: changelog everywhere. DSM 5 to 7.
    #[serde(default)]
    pub changelogs: BTreeMap<String, String>,
    /// The builds it is made for: noarch, or x86_64, aarch64, armhf, armv7, armv5, i686. DSM 5
    /// to 7.
    pub(super) targets: Vec<String>,
}

pub(super) fn yes() -> bool {
    true
}

/// `[dsm]`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenDsm {
    /// The generations (major numbers) to build for: one package serves one. DSM 5 to 7.
    pub build: Vec<u32>,
    /// The oldest release of a generation, such as 7 = "7.1-42661". Without it: 5.2-5644,
    /// 6.1-15047, 7.0-40000. DSM 5 to 7.
    #[serde(default)]
    pub os_min_ver: BTreeMap<String, String>,
}

/// A `[[payload]]`: a file or a whole folder for `package.tgz`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PayloadFile {
    /// Where it comes from: relative to package.toml, or `{programs}/…` for built programs; may
    /// hold `{target}` and `{package}`. DSM 5 to 7.
    pub from: String,
    /// Where it goes, relative to `target/` on the NAS; "." for what is in a folder. DSM 5 to 7.
    pub to: String,
    /// Permission bits of files, such as 0o755. Without it: 0755 for what is executable, 0644
    /// for the rest. DSM 5 to 7.
    pub mode: Option<u32>,
    /// For these targets only. Without it: for all. DSM 5 to 7.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Whether the package can be built without it. Without it: false. DSM 5 to 7.
    #[serde(default)]
    pub optional: bool,
}

/// A `[[download]]`: a file the NAS fetches at installation, and holds against size and checksum.
///
/// `spk` writes those of one target into the payload's `conf/download.toml`; whoever answers
/// `preinst` (holdfast-supervisor does) reads it there, fetches, compares and puts into place. An
/// owner without a network may put `file` into the shared folder `share` first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Where it is: http or https addresses, tried in this order. DSM 5 to 7.
    pub urls: Vec<String>,
    /// Its file name, by which it is looked for in the shared folder. DSM 5 to 7.
    pub file: String,
    /// Its exact size in bytes. DSM 5 to 7.
    pub bytes: u64,
    /// Its SHA-256, 64 hexadecimal digits. DSM 5 to 7.
    pub sha256: String,
    /// Where it goes, relative to `target/`: the file, or the folder it is unpacked into. DSM 5
    /// to 7.
    pub to: String,
    /// Whether it is a tar archive (plain, gzip or xz) to be unpacked into `to`. Without it:
    /// false. DSM 5 to 7.
    #[serde(default)]
    pub unpack: bool,
    /// The shared folder where the owner may put the file instead. Without it: public. DSM 5
    /// to 7.
    #[serde(default = "public")]
    pub share: String,
    /// Only when the wizard's answer to this key is true (an option of a choice), or, written
    /// KEY=VALUE, when it is that value (of a list). Without it: always. DSM 5 to 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// With `when`: also when the wizard was not shown, as in a silent installation. Without it:
    /// false. DSM 5 to 7.
    #[serde(default)]
    pub otherwise: bool,
    /// For these targets only. Without it: for all. DSM 5 to 7.
    #[serde(default, skip_serializing)]
    pub targets: Vec<String>,
}

fn public() -> String {
    "public".into()
}

/// `[scripts]`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Folder {
    /// The folder they are in, relative to package.toml. Hooks that are not there are written, and
    /// say that all is well; start-stop-status must be there. DSM 5 to 7.
    pub folder: String,
}

/// `[icon]`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct IconFile {
    /// A square PNG of 256 to 2048 pixels, relative to package.toml; every other size is made
    /// from it. DSM 5 to 7.
    pub file: String,
    /// A folder below `target/` for the desktop's icons, icon_16.png to icon_256.png, which a
    /// ui/config names as icon_{0}.png. Without it: none are made. DSM 5 to 7.
    pub desktop: Option<String>,
}

/// `[wizard]`: what the owner is asked. Answers reach the scripts as environment variables.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Wizard {
    /// A folder of files in DSM's own form (install_uifile and so on), for what the pages below
    /// cannot say. Without it: none. DSM 5 to 7.
    pub folder: Option<String>,
    /// Pages shown before an installation. Without it: none. DSM 5 to 7.
    #[serde(default)]
    pub install: Vec<Page>,
    /// Pages shown before an upgrade. Without it: none. DSM 5 to 7.
    #[serde(default)]
    pub upgrade: Vec<Page>,
    /// Pages shown before an uninstallation. Without it: none. DSM 5 to 7.
    #[serde(default)]
    pub uninstall: Vec<Page>,
    /// Whether an upgrade asks the same as an installation. Without it: false. DSM 5 to 7.
    #[serde(default)]
    pub upgrade_as_install: bool,
}

/// `[privilege]`: DSM 7 runs packages as their own user, and unsigned ones may ask little else.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Privilege {
    /// The user's name; never that of a person on the NAS. Without it: the package's. DSM 6
    /// and 7.
    pub username: Option<String>,
    /// The group's name. Without it: the package's. DSM 6 and 7.
    pub groupname: Option<String>,
    /// A group of DSM the user joins, such as http. Without it: none. DSM 6 and 7.
    pub join_group: Option<String>,
    /// Whether it runs as its own user on DSM 6 too. Without it: false, which is root. DSM 6.
    #[serde(default)]
    pub own_user_on_6: bool,
    /// With own_user_on_6: the scripts that stay root's, such as postinst. Without it: none.
    /// DSM 6.
    #[serde(default)]
    pub root_scripts_on_6: Vec<String>,
}

/// A `[[share]]`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The shared folder; `{{key}}` stands for a wizard's answer. DSM 6 and 7.
    pub name: String,
    /// Whether the package's user may only read it. Without it: false. DSM 6 and 7.
    #[serde(default)]
    pub read_only: bool,
}

/// A `[[firewall]]` entry.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Firewall {
    /// A name for DSM: letters, digits and `_`; one of a kind on the whole NAS. DSM 6 and 7.
    pub id: String,
    /// What the list of rules shows. DSM 6 and 7.
    pub title: String,
    /// A few words more. Without it: the title. DSM 6 and 7.
    pub description: Option<String>,
    /// Port numbers with protocol, such as 4242/tcp, 6000:6010/udp or 53/tcp,udp. DSM 6 and 7.
    pub ports: Vec<String>,
    /// Whether DSM offers to forward them on the router. Without it: false. DSM 6 and 7.
    #[serde(default)]
    pub forward: bool,
}

/// `[port]`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The port number of its page (`adminport`). DSM 5 to 7.
    pub number: u16,
    /// http or https (`adminprotocol`). Without it: http. DSM 5 to 7.
    pub protocol: Option<String>,
    /// The page's path (`adminurl`). Without it: /. DSM 5 to 7.
    pub url: Option<String>,
    /// Whether DSM refuses to install when the port is taken (`checkport`). Without it: true.
    /// DSM 5 to 7.
    #[serde(default = "yes")]
    pub check: bool,
}

impl Wizard {
    /// The pages of each stage that asks something: `install`, `upgrade`, `uninstall`.
    pub fn stages(&self) -> impl Iterator<Item = (&'static str, &[Page])> {
        let upgrade = if self.upgrade_as_install { &self.install } else { &self.upgrade };
        let stages = [("install", &self.install), ("upgrade", upgrade)];
        let stages = stages.into_iter().chain([("uninstall", &self.uninstall)]);
        stages.filter(|(_, pages)| !pages.is_empty()).map(|(stage, pages)| (stage, &pages[..]))
    }
}
