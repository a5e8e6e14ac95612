//! Every policy, decided as restic decides it, over random histories.

mod place;

use engine_repository::{FileKind, Id, MasterKey, Snapshot, Time, Version};
use engine_repository::{KeyFile, unpacked};
use engine_storage::Name;
use engine_transfer::retention::Policy;
use engine_transfer::{ForgetRequest, GroupBy, TransferError, forget, snapshots};
use place::{PASSWORD, Place, back_up};
use std::collections::BTreeMap;
use std::fs;

const HISTORIES: u64 = 4;
const POLICIES: u64 = 8;

/// Since restic 0.16 the oldest snapshot is kept while a count is not used up.
const OLDEST_KEPT_SINCE: u32 = 16;

fn minor_version(place: &Place) -> u32 {
    let said = place.restic_must(&["version"]);
    let minor = said.split('.').nth(1).and_then(|minor| minor.parse().ok());
    minor.expect("restic says its version as `restic 0.14.0 …`")
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// Snapshots at random times: in bursts, days and years apart, on both sides of new years.
fn write_history(place: &Place, key: &MasterKey, tree: Id, dice: &mut Dice) {
    let folder = place.path("repository/snapshots");
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    let mut seconds = 1_700_000_000 + dice.below(1 << 26) as i64;
    for _ in 0..8 + dice.below(50) {
        seconds -= [600, 7_000, 90_000, 900_000, 40_000_000][dice.below(5) as usize]
            * (1 + dice.below(3) as i64);
        let nanoseconds = [0, 500_000_000][dice.below(2) as usize];
        let offset_seconds = [0, 0, 3600, -34_200][dice.below(4) as usize];
        let time = Time { seconds, nanoseconds, offset_seconds };
        let mut snapshot = Snapshot::new(time, tree, vec!["/a".into()]);
        if dice.below(4) == 0 {
            snapshot.paths.insert(0, "/b".into());
        }
        snapshot.hostname = ["box", "nas"][dice.below(2) as usize].into();
        for tag in ["daily", "held"] {
            if dice.below(4) == 0 {
                snapshot.tags.push(tag.into());
            }
        }
        let nonce = [1 + dice.below(250) as u8; 16];
        let file = unpacked::seal(&snapshot, Version::V2, key, nonce).unwrap();
        place.folder().write(Name::of(FileKind::Snapshot, Id::of(&file)), &file).unwrap();
    }
}

fn random_policy(dice: &mut Dice) -> (Policy, Vec<String>) {
    let mut policy = Policy::default();
    let mut flags = Vec::new();
    let counts = [
        ("last", &mut policy.last),
        ("hourly", &mut policy.hourly),
        ("daily", &mut policy.daily),
        ("weekly", &mut policy.weekly),
        ("monthly", &mut policy.monthly),
        ("yearly", &mut policy.yearly),
    ];
    for (name, count) in counts {
        if dice.below(4) == 0 {
            *count = 1 + dice.below(6) as i32;
            flags.extend([format!("--keep-{name}"), count.to_string()]);
        }
    }
    let spans = [
        ("within", &mut policy.within),
        ("within-hourly", &mut policy.within_hourly),
        ("within-daily", &mut policy.within_daily),
        ("within-weekly", &mut policy.within_weekly),
        ("within-monthly", &mut policy.within_monthly),
        ("within-yearly", &mut policy.within_yearly),
    ];
    for (name, span) in spans {
        if dice.below(6) == 0 {
            let text = ["3h", "2d", "1m", "1m3d5h", "2y", "11m30d"][dice.below(6) as usize];
            *span = text.parse().unwrap();
            flags.extend([format!("--keep-{name}"), text.into()]);
        }
    }
    for tags in ["held", "daily,held"] {
        if dice.below(5) == 0 {
            policy.tags.push(tags.split(',').map(str::to_owned).collect());
            flags.extend(["--keep-tag".into(), tags.into()]);
        }
    }
    // Newer ones refuse what may keep nothing of a group.
    if flags.iter().all(|flag| !flag.starts_with("--keep") || flag == "--keep-tag") {
        policy.daily = 3;
        flags.extend(["--keep-daily".into(), "3".into()]);
    }
    (policy, flags)
}

type Verdicts = BTreeMap<String, Vec<String>>;

fn restics_verdicts(place: &Place, group_by: &str, flags: &[String]) -> Verdicts {
    let mut arguments = vec!["forget", "--dry-run", "--json", "--group-by", group_by];
    arguments.extend(flags.iter().map(String::as_str));
    let said = place.restic_must(&arguments);
    let groups: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let mut verdicts = Verdicts::new();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    for group in groups.as_array().unwrap() {
        for gone in group["remove"].as_array().into_iter().flatten() {
            verdicts.insert(text(&gone["short_id"]), Vec::new());
        }
        // The snapshots of the reasons have no id in this version; they come as those kept do.
        let reasons = group["reasons"].as_array().into_iter().flatten();
        for (kept, reason) in group["keep"].as_array().into_iter().flatten().zip(reasons) {
            let matches = reason["matches"].as_array().unwrap();
            verdicts.insert(text(&kept["short_id"]), matches.iter().map(text).collect());
        }
    }
    verdicts
}

fn master_key(place: &Place) -> MasterKey {
    let file = fs::read_dir(place.path("repository/keys")).unwrap().next().unwrap().unwrap();
    KeyFile::from_json(&fs::read(file.path()).unwrap()).unwrap().open(PASSWORD).unwrap()
}

#[test]
fn every_policy_decides_as_restic_does_and_for_the_same_reasons() {
    let place = Place::new();
    let repository = place.init();
    let key = master_key(&place);
    let keeps_oldest = minor_version(&place) >= OLDEST_KEPT_SINCE;
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for history in 0..HISTORIES {
        write_history(&place, &key, Id::of(b"tree"), &mut dice);
        for _ in 0..POLICIES {
            let (policy, flags) = random_policy(&mut dice);
            let by = ["host,paths", "", "host,paths,tags", "tags"][dice.below(4) as usize];
            let request = ForgetRequest {
                policy,
                group_by: GroupBy {
                    host: by.contains("host"),
                    paths: by.contains("paths"),
                    tags: by.contains("tags"),
                },
                dry_run: true,
                may_remove_all: true,
                ..ForgetRequest::default()
            };
            let report = forget(&repository, &request).unwrap();
            let mut ours = Verdicts::new();
            for group in report.groups {
                ours.extend(group.remove.iter().map(|gone| (gone.id.short()[..8].into(), vec![])));
                let kept = group.keep.into_iter();
                ours.extend(kept.map(|k| (k.snapshot.id.short()[..8].into(), k.reasons)));
            }
            if !keeps_oldest {
                for reasons in ours.values_mut() {
                    reasons.retain(|reason| !reason.starts_with("oldest"));
                }
            }
            let restics = restics_verdicts(&place, by, &flags);
            assert_eq!(ours, restics, "history {history}, by `{by}`: {flags:?}");
        }
    }
}

#[test]
fn what_is_forgotten_is_gone_what_is_named_too_and_never_all_by_mistake() {
    let place = Place::new();
    let repository = place.init();
    let source = place.source();
    let ids: Vec<_> = (0..3).map(|_| back_up(&repository, &source).snapshot).collect();
    let left = || snapshots(&repository).unwrap().iter().map(|s| s.id).collect::<Vec<_>>();
    let mut request = ForgetRequest::default();
    request.policy.tags = vec![vec!["no such tag".into()]];
    let refused = forget(&repository, &request).unwrap_err();
    assert!(matches!(refused, TransferError::NothingKept { snapshots: 3 }), "{refused}");
    request.policy = Policy { last: 2, ..Policy::default() };
    request.dry_run = true;
    assert_eq!((forget(&repository, &request).unwrap().removed(), left().len()), (1, 3));
    request.dry_run = false;
    assert_eq!(forget(&repository, &request).unwrap().removed(), 1);
    assert_eq!(left(), ids[1..]);
    let snapshots = vec![ids[1].to_string(), ids[1].short()];
    let named = ForgetRequest { snapshots, ..ForgetRequest::default() };
    assert_eq!(forget(&repository, &named).unwrap().removed(), 1);
    assert_eq!(left(), ids[2..]);
    assert!(matches!(forget(&repository, &named), Err(TransferError::NoSnapshot { .. })));
    place.restic_must(&["check", "--read-data"]);
}
