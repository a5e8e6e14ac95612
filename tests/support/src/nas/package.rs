//! A package as DSM's installer sees it: unpacked by `tar`, its INFO and rules checked.

use super::error::{AtPath, NasError};
use super::system::{Dsm, Hardware};
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// INFO is a page of text, never more.
const INFO_BYTES_MAX: u64 = 1 << 20;

/// The keys and values of a package's INFO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    values: BTreeMap<String, String>,
}

impl Info {
    /// Reads INFO by DSM's rules: `key="value"` lines, no quotes inside.
    pub fn parse(text: &str) -> Result<Self, NasError> {
        let mut values = BTreeMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let wrong = || {
                NasError::refused(
                    261,
                    format!("INFO line {} is not key=\"value\": {line}", number + 1),
                )
            };
            let (key, value) = line.split_once('=').ok_or_else(wrong)?;
            let value = value
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .ok_or_else(wrong)?;
            let is_key = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if key.is_empty() || !is_key || value.contains(['"', '\\']) {
                return Err(wrong());
            }
            if values.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(NasError::refused(261, format!("INFO says `{key}` twice")));
            }
        }
        Ok(Self { values })
    }

    /// The INFO of a folder: an unpacked package, or an installed one.
    pub fn in_folder(folder: &Path) -> Result<Self, NasError> {
        let path = folder.join("INFO");
        let mut text = String::new();
        fs::File::open(&path)
            .and_then(|file| file.take(INFO_BYTES_MAX).read_to_string(&mut text))
            .at(&path)?;
        Self::parse(&text)
    }

    /// A value, when the key is there.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    fn required(&self, key: &str) -> Result<&str, NasError> {
        self.get(key)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| NasError::refused(261, format!("INFO has no `{key}`")))
    }

    /// The package's name.
    pub fn package(&self) -> &str {
        self.get("package").unwrap_or_default()
    }

    /// The package's version.
    pub fn version(&self) -> &str {
        self.get("version").unwrap_or_default()
    }
}

/// Compares two versions as Package Center does: number by number, the feature part first.
pub fn compare_versions(left: &str, right: &str) -> std::cmp::Ordering {
    let numbers = |version: &str| -> (Vec<u64>, Vec<u64>) {
        let (feature, build) = version.rsplit_once('-').unwrap_or((version, ""));
        let numbers = |part: &str| {
            part.split(['.', '-', '_']).filter_map(|number| number.parse().ok()).collect()
        };
        (numbers(feature), numbers(build))
    };
    numbers(left).cmp(&numbers(right))
}

/// A package unpacked into a temporary folder of the NAS, before anything is installed.
#[derive(Debug)]
pub struct Unpacked {
    /// The folder with INFO, scripts, conf.
    pub folder: PathBuf,
    /// The payload: what becomes `target`. `SYNOPKG_PKGINST_TEMP_DIR` is this.
    pub payload: PathBuf,
    /// INFO, read.
    pub info: Info,
    /// The user to run as on DSM 7.
    pub user: String,
}

impl Unpacked {
    /// Unpacks `spk` into `folder` (emptied first) and applies every rule of DSM's installer.
    pub fn unpack(
        spk: &Path,
        folder: &Path,
        dsm: Dsm,
        hardware: &Hardware,
    ) -> Result<Self, NasError> {
        check_outer(spk)?;
        if folder.exists() {
            fs::remove_dir_all(folder).at(folder)?;
        }
        let payload = folder.join("package");
        fs::create_dir_all(&payload).at(&payload)?;
        untar(&["--extract", "--no-same-owner", "--preserve-permissions"], spk, folder)?;
        let info = Info::in_folder(folder)?;
        check_info(&info, dsm, hardware)?;
        check_members(folder, &info, dsm)?;
        let user = match dsm {
            Dsm::Seven => check_privilege(folder, &info)?,
            _ => "root".to_owned(),
        };
        // DSM 5 calls `tar zxf`; later ones look at the content.
        let how = if dsm == Dsm::Five { "--gzip" } else { "--auto-compress" };
        let inner = folder.join("package.tgz");
        untar(&["--extract", "--no-same-owner", "--preserve-permissions", how], &inner, &payload)?;
        fs::remove_file(&inner).at(&inner)?;
        Ok(Self { folder: folder.to_path_buf(), payload, info, user })
    }
}

/// The outer archive is a plain tar: a compressed one is error 263.
fn check_outer(spk: &Path) -> Result<(), NasError> {
    let mut header = [0; 512];
    fs::File::open(spk).at(spk)?.read_exact(&mut header).map_err(|_| {
        NasError::refused(263, "the file is shorter than one header: it is no package")
    })?;
    if header[..2] == [0x1f, 0x8b] {
        return Err(NasError::refused(263, "the outer archive is gzipped; it must be a plain tar"));
    }
    if &header[257..262] != b"ustar" {
        return Err(NasError::refused(263, "invalid file format: not a tar archive"));
    }
    Ok(())
}

fn untar(options: &[&str], archive: &Path, folder: &Path) -> Result<(), NasError> {
    let ended = Command::new("tar")
        .args(options)
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(folder)
        .output()
        .at(Path::new("tar"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    Err(NasError::refused(263, format!("{} cannot be unpacked: {said}", archive.display())))
}

fn check_info(info: &Info, dsm: Dsm, hardware: &Hardware) -> Result<(), NasError> {
    let name = info.required("package")?;
    if name.contains([':', '/', '>', '<', '=', '|']) || name.starts_with('.') {
        return Err(NasError::refused(261, format!("`{name}` is no package name")));
    }
    let version = info.required("version")?;
    let is_number = |part: &str| part.parse::<u32>().is_ok_and(|number| number < 1 << 31);
    if dsm == Dsm::Seven && !version.split(['.', '-', '_']).all(is_number) {
        return Err(NasError::refused(261, format!("`{version}` is no version of digits")));
    }
    info.required("description")?;
    info.required("maintainer")?;
    let arch = info.required("arch")?;
    if !hardware.runs(arch) {
        let platform = &hardware.platform;
        return Err(NasError::refused(261, format!("made for {arch}, this NAS is {platform}")));
    }
    check_release(info, dsm)
}

/// The rules of `os_min_ver`, `firmware` and `os_max_ver`.
fn check_release(info: &Info, dsm: Dsm) -> Result<(), NasError> {
    let running = dsm.version();
    let release = |text: &str| -> Option<(u32, u32, u32)> {
        let (dotted, build) = text.split_once('-')?;
        let mut numbers = dotted.split('.').map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some((major, minor, build.parse().ok()?))
    };
    let lowest = match dsm {
        Dsm::Seven => info.required("os_min_ver")?,
        _ => info.get("os_min_ver").or(info.get("firmware")).unwrap_or("0.0-0"),
    };
    let Some((major, _, build)) = release(lowest) else {
        return Err(NasError::refused(261, format!("`{lowest}` is no release of DSM")));
    };
    if dsm == Dsm::Seven && (major != running.major || info.get("firmware").is_some()) {
        let rule = "package should have same major number of current os in os_min_ver / firmware";
        return Err(NasError::refused(261, rule));
    }
    if build > running.build || major > running.major {
        return Err(NasError::refused(261, format!("needs {lowest} at least, this is {dsm}")));
    }
    match info.get("os_max_ver").map(release) {
        Some(Some((_, _, highest))) if highest < running.build => {
            Err(NasError::refused(261, format!("works up to build {highest}, this is {dsm}")))
        }
        _ => Ok(()),
    }
}

fn check_members(folder: &Path, info: &Info, dsm: Dsm) -> Result<(), NasError> {
    let scripts = folder.join("scripts");
    if !fs::symlink_metadata(&scripts).is_ok_and(|meta| meta.is_dir()) {
        return Err(NasError::refused(313, "`scripts` is not a folder"));
    }
    let mut wanted = vec!["start-stop-status"];
    if dsm == Dsm::Seven {
        wanted.extend(["preupgrade", "postupgrade"]);
    }
    if let Some(missing) = wanted.iter().find(|name| !scripts.join(name).is_file()) {
        return Err(NasError::refused(261, format!("package does not have {missing} script")));
    }
    let inner = folder.join("package.tgz");
    let md5 = md5_of(&inner)?;
    match info.get("checksum") {
        Some(checksum) if !checksum.eq_ignore_ascii_case(&md5) => Err(NasError::refused(
            263,
            "the file is corrupt: package.tgz does not fit INFO's checksum",
        )),
        _ => Ok(()),
    }
}

/// What an unsigned package may ask for on DSM 7; gives the name of its user.
fn check_privilege(folder: &Path, info: &Info) -> Result<String, NasError> {
    let invalid = |why: &str| NasError::refused(319, format!("invalid package privilege: {why}"));
    let path = folder.join("conf/privilege");
    let text = fs::read_to_string(&path).map_err(|_| invalid("no conf/privilege"))?;
    let privilege: serde_json::Value =
        serde_json::from_str(&text).map_err(|_| invalid("conf/privilege is no JSON"))?;
    if privilege["defaults"]["run-as"] != "package" {
        return Err(invalid("defaults.run-as is not `package`"));
    }
    for forbidden in ["ctrl-script", "executable"] {
        if !privilege[forbidden].is_null() {
            return Err(invalid(&format!("`{forbidden}` needs Synology's signature")));
        }
    }
    let tools = privilege["tool"].as_array().map(Vec::as_slice).unwrap_or_default();
    if tools.iter().any(|tool| !tool["capabilities"].is_null() || tool["user"] != "package") {
        return Err(invalid("a tool of another user, or with capabilities"));
    }
    let name = privilege["username"].as_str().unwrap_or(info.package());
    Ok(name.to_owned())
}

/// The name in a package file's INFO, without unpacking the rest.
pub fn name_of(spk: &Path) -> Result<String, NasError> {
    check_outer(spk)?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--to-stdout", "--file"]);
    let ended = tar.arg(spk).arg("INFO").output().at(Path::new("tar"))?;
    Ok(Info::parse(&String::from_utf8_lossy(&ended.stdout))?.package().to_owned())
}

/// The md5 of a file, in hex, as catalogs and INFO write it.
pub(crate) fn md5_of(path: &Path) -> Result<String, NasError> {
    let mut file = fs::File::open(path).at(path)?;
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).at(path)?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    #[test]
    fn versions_are_compared_number_by_number_and_leading_zeros_mean_nothing() {
        for (left, right, order) in [
            ("0.1.0-0001", "0.1.0-1", Ordering::Equal),
            ("0.1.0-0002", "0.1.0-0010", Ordering::Less),
            ("0.10.0-1", "0.9.0-9999", Ordering::Greater),
            ("20180319-23", "20180319-22", Ordering::Greater),
        ] {
            assert_eq!(compare_versions(left, right), order, "{left} and {right}");
        }
    }

    #[test]
    fn a_line_of_info_that_dsm_could_misread_is_refused() {
        for line in ["version=1.0", "version=\"1.0", "ver sion=\"1\"", "a=\"say \\\"hi\\\"\"", "x"]
        {
            assert!(Info::parse(line).is_err(), "{line}");
        }
        let info = Info::parse("package=\"a\"\n\nversion=\"1-1\"\n").unwrap();
        assert_eq!((info.package(), info.version()), ("a", "1-1"));
    }

    fn release_of(line: &str, dsm: Dsm) -> Result<(), NasError> {
        check_release(&Info::parse(line).unwrap(), dsm)
    }

    #[test]
    fn a_package_for_another_generation_of_dsm_is_refused_by_dsm_seven() {
        assert!(release_of("os_min_ver=\"7.0-40000\"", Dsm::Seven).is_ok());
        assert!(release_of("os_min_ver=\"6.1-15047\"", Dsm::Seven).is_err());
        assert!(release_of("os_min_ver=\"7.3-86009\"", Dsm::Seven).is_err());
        assert!(release_of("os_min_ver=\"6.1-15047\"", Dsm::Six).is_ok());
        assert!(release_of("os_min_ver=\"7.0-40000\"", Dsm::Six).is_err());
        assert!(release_of("firmware=\"5.2-5644\"", Dsm::Six).is_ok());
    }
}
