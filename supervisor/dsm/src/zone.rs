//! The box's time zone, in a name every program on it understands.
//!
//! DSM sets a zone in Control Panel and writes it down in several ways: `/etc/localtime`, which the
//! C library reads by itself; `/etc/TZ`; and `timezone="Amsterdam"` in `synoinfo.conf`, which is
//! the name of a city and of no zone. Task Scheduler and an owner's shell may hand down a `TZ` of
//! their own, such as `US/Pacific` or `Asia/Calcutta`, names that came and went. A name nobody
//! knows means UTC to the C library, without a word: people then take hours for wrong that are not.

use crate::Dsm;
use std::path::{Path, PathBuf};

/// No zone's name is longer.
const NAME_BYTES_MAX: usize = 64;

/// Regions of the world in `zoneinfo`, in which a city is looked for.
const REGIONS: [&str; 10] = [
    "Europe",
    "America",
    "Asia",
    "Australia",
    "Africa",
    "Pacific",
    "Atlantic",
    "Indian",
    "Antarctica",
    "America/Argentina",
];

/// Names of one zone, of which a box may know only some.
const TWINS: [&[&str]; 20] = [
    &["Asia/Kolkata", "Asia/Calcutta"],
    &["Europe/Kyiv", "Europe/Kiev"],
    &["Asia/Ho_Chi_Minh", "Asia/Saigon"],
    &["Asia/Kathmandu", "Asia/Katmandu"],
    &["Asia/Yangon", "Asia/Rangoon"],
    &["Asia/Dhaka", "Asia/Dacca"],
    &["America/Nuuk", "America/Godthab"],
    &["America/Argentina/Buenos_Aires", "America/Buenos_Aires"],
    &["America/Sao_Paulo", "Brazil/East"],
    &["America/New_York", "US/Eastern", "EST5EDT"],
    &["America/Chicago", "US/Central", "CST6CDT"],
    &["America/Denver", "US/Mountain", "MST7MDT"],
    &["America/Los_Angeles", "US/Pacific", "PST8PDT"],
    &["America/Anchorage", "US/Alaska"],
    &["Pacific/Honolulu", "US/Hawaii"],
    &["Asia/Shanghai", "PRC", "Asia/Chongqing", "Beijing"],
    &["Asia/Taipei", "ROC"],
    &["Asia/Tokyo", "Japan", "Osaka"],
    &["Asia/Seoul", "ROK"],
    &["Europe/London", "GB", "Edinburgh"],
];

/// What `TZ` should be: what was said if it means something here, else what the box's own files
/// say. `None`: nothing, because the C library finds `/etc/localtime` or nobody knows.
pub fn of(dsm: &Dsm, said: Option<&str>) -> Option<String> {
    if let Some(zone) = said.and_then(|said| known(dsm, said)) {
        return Some(zone);
    }
    if dsm.find("/etc/localtime").is_ok_and(|path| path.is_file()) {
        return None;
    }
    let written =
        dsm.system_text("/etc/TZ").and_then(|text| text.lines().next().map(str::to_owned));
    let chosen = dsm.system_text("/etc/synoinfo.conf").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("timezone="))?;
        Some(line.trim().trim_matches('"').to_owned())
    });
    [written, chosen].into_iter().flatten().find_map(|name| known(dsm, &name))
}

/// The name as this box knows it.
fn known(dsm: &Dsm, name: &str) -> Option<String> {
    let name = name.trim();
    let plain = name.strip_prefix(':').unwrap_or(name);
    let is_odd = |letter: char| letter.is_control() || letter.is_whitespace() && letter != ' ';
    if plain.is_empty() || plain.len() > NAME_BYTES_MAX || plain.contains(is_odd) {
        return None;
    }
    let twins = TWINS.iter().find(|twins| twins.contains(&plain)).copied().unwrap_or_default();
    let names: Vec<String> =
        [plain].iter().chain(twins).map(|name| name.replace(' ', "_")).collect();
    let zones = Zones::of(dsm);
    let own = names.iter().find(|name| zones.has(name));
    own.cloned()
        .or_else(|| is_rule(plain).then(|| name.to_owned()))
        .or_else(|| {
            REGIONS.iter().flat_map(|region| in_region(region, &names)).find(|it| zones.has(it))
        })
        // Without a table of zones nobody can tell; this looks like one.
        .or_else(|| (zones.0.is_none() && is_path(plain)).then(|| name.to_owned()))
}

fn in_region<'a>(region: &'a str, cities: &'a [String]) -> impl Iterator<Item = String> + 'a {
    cities.iter().map(move |city| format!("{region}/{city}"))
}

/// `CET-1CEST,M3.5.0,M10.5.0/3` and `<+03>-3`: the rule itself, which needs no table.
fn is_rule(name: &str) -> bool {
    let offset = match name.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((_, offset)) => offset,
        None => name.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()),
    };
    let letters = name.len() - offset.len();
    letters >= 3
        && offset.trim_start_matches(['+', '-']).starts_with(|it: char| it.is_ascii_digit())
}

fn is_path(name: &str) -> bool {
    name.contains('/') && stays_inside(name)
}

/// Whether a name leads out of no folder.
fn stays_inside(name: &str) -> bool {
    !name.starts_with('/') && !name.split('/').any(|part| part == "..")
}

/// The box's own table of zones, if it has one.
struct Zones(Option<PathBuf>);

impl Zones {
    fn of(dsm: &Dsm) -> Self {
        Self(dsm.find("/usr/share/zoneinfo").ok().filter(|path| path.is_dir()))
    }

    fn has(&self, name: &str) -> bool {
        let path = self.0.as_ref().map(|folder| folder.join(name));
        stays_inside(name) && path.is_some_and(|path| is_zone(&path))
    }
}

fn is_zone(path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && &start == b"TZif"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn a_box(files: &[(&str, &str)]) -> (tempfile::TempDir, Dsm) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let dsm = Dsm::at(root.path());
        (root, dsm)
    }

    const ZONES: [(&str, &str); 5] = [
        ("usr/share/zoneinfo/Europe/Amsterdam", "TZif"),
        ("usr/share/zoneinfo/America/Los_Angeles", "TZif"),
        ("usr/share/zoneinfo/Asia/Calcutta", "TZif"),
        ("usr/share/zoneinfo/America/Argentina/Buenos_Aires", "TZif"),
        ("usr/share/zoneinfo/tzdata.zi", "# version"),
    ];

    #[test]
    fn whatever_a_zone_is_called_it_is_the_name_this_box_knows() {
        let (_root, dsm) = a_box(&ZONES);
        for (said, zone) in [
            ("Europe/Amsterdam", Some("Europe/Amsterdam")),
            (":Europe/Amsterdam", Some("Europe/Amsterdam")),
            ("Amsterdam", Some("Europe/Amsterdam")),
            ("Los Angeles", Some("America/Los_Angeles")),
            ("US/Pacific", Some("America/Los_Angeles")),
            ("Asia/Kolkata", Some("Asia/Calcutta")),
            ("Asia/Calcutta", Some("Asia/Calcutta")),
            ("Buenos Aires", Some("America/Argentina/Buenos_Aires")),
            ("CET-1CEST,M3.5.0,M10.5.0/3", Some("CET-1CEST,M3.5.0,M10.5.0/3")),
            ("<+0330>-3:30", Some("<+0330>-3:30")),
            ("UTC0", Some("UTC0")),
            ("tzdata.zi", None),
            ("Middle Earth", None),
            ("../../../etc/passwd", None),
            ("Europe/Amsterdam\nTZ=x", None),
            ("", None),
        ] {
            assert_eq!(of(&dsm, Some(said)).as_deref(), zone, "{said:?}");
        }
        assert_eq!(of(&dsm, Some(&"x/".repeat(100))), None);
    }

    #[test]
    fn what_means_nothing_gives_way_to_what_the_box_says_itself() {
        let of_files = |files: &[(&str, &str)], said| {
            let (_root, dsm) = a_box(&[&ZONES, files].concat());
            of(&dsm, said)
        };
        let conf = ("etc/synoinfo.conf", "language=\"enu\"\ntimezone=\"Amsterdam\"\n");
        let written = ("etc/TZ", "PST8PDT,M3.2.0,M11.1.0\n");
        let local = ("etc/localtime", "TZif");
        let amsterdam = Some("Europe/Amsterdam".to_owned());
        assert_eq!(of_files(&[conf], Some("Atlantis")), amsterdam);
        assert_eq!(of_files(&[conf], None), amsterdam);
        assert_eq!(of_files(&[conf, written], None).as_deref(), Some("PST8PDT,M3.2.0,M11.1.0"));
        assert_eq!(of_files(&[conf, local], Some("Atlantis")), None);
        assert_eq!(
            of_files(&[conf, local], Some("US/Pacific")).as_deref(),
            Some("America/Los_Angeles")
        );
        assert_eq!(of_files(&[], None), None);
    }

    #[test]
    fn a_box_without_a_table_of_zones_is_taken_at_its_word() {
        let (_root, dsm) = a_box(&[]);
        assert_eq!(of(&dsm, Some("Europe/Vienna")).as_deref(), Some("Europe/Vienna"));
        assert_eq!(of(&dsm, Some("Vienna")), None);
    }
}
