//! Two years in the life of a depot: keys rotated, added, lost, laid by, and what is refused.

use super::*;
use crate::stage::{Recipe, Stage, TODAY};
use crate::{keys, renew};
use std::fs;

/// Makes keys that no other call makes.
struct Keeper {
    stage: Stage,
    made: u8,
    /// Where the root's keys are kept, away from the depot.
    safe: PathBuf,
}

impl Keeper {
    /// A depot with one package, whose root key lies in a safe.
    fn new() -> Self {
        let stage = Stage::new();
        stage.publish(Recipe::default());
        let safe = stage.depot().with_file_name("safe");
        fs::create_dir(&safe).unwrap();
        let key = stage.depot().join("keys/root.key");
        fs::rename(key, safe.join("root.key")).unwrap();
        Self { stage, made: 100, safe }
    }

    fn depot(&self) -> PathBuf {
        self.stage.depot()
    }

    fn in_safe(&self) -> Vec<PathBuf> {
        let mut keys: Vec<PathBuf> =
            fs::read_dir(&self.safe).unwrap().map(|entry| entry.unwrap().path()).collect();
        keys.sort();
        keys
    }

    fn with_means<T>(&mut self, role: Role, act: impl FnOnce(Means<'_>) -> T) -> T {
        let brought = self.in_safe();
        let keys_to = (role == Role::Root).then_some(self.safe.as_path());
        let made = &mut self.made;
        let mut seed = || {
            *made += 1;
            Ok([*made; 32])
        };
        act(Means { brought: &brought, keys_to, seed: &mut seed })
    }

    fn change(
        &mut self,
        role: Role,
        key_change: KeyChange,
        now: UnixSeconds,
    ) -> Result<Changed, DepotError> {
        let depot = self.depot();
        self.with_means(role, |means| change_keys(&depot, role, &key_change, means, now))
    }

    /// Makes the root two of three.
    fn two_of_three(&mut self) {
        let add = KeyChange::Add { count: 2, threshold: Some(2) };
        self.change(Role::Root, add, TODAY).unwrap();
        assert_eq!(self.in_safe().len(), 3);
    }

    fn role(&self, role: Role) -> crate::RoleReport {
        let report = keys(&self.depot(), TODAY).unwrap();
        report.roles.into_iter().find(|report| report.role == role).unwrap()
    }

    /// A client that knows the first root only believes the depot at `now`.
    fn is_believed(&self, now: UnixSeconds) -> bool {
        self.stage.verified(now).is_ok_and(|targets| targets.len() == 1)
    }
}

fn all() -> KeyChange {
    KeyChange::Rotate { keyid: None }
}

#[test]
fn two_years_with_a_rotation_of_every_role_leave_no_day_uncovered() {
    let mut keeper = Keeper::new();
    keeper.two_of_three();
    // Daily around the rotation; else the renewal runs on every fifth day only, which is harder.
    for day in (0..360).step_by(5).chain(360..370).chain((370..730).step_by(5)) {
        let now = TODAY.plus_days(day);
        renew(&keeper.depot(), now).unwrap();
        if day == 365 {
            for role in Role::ALL {
                keeper.change(role, all(), now).unwrap();
                assert!(keeper.is_believed(now), "{role}");
            }
        }
        assert_eq!(plan(&keeper.depot(), now).unwrap().gap, None, "day {day}");
        assert_eq!(warnings(&keeper.depot(), now).unwrap(), [], "day {day}");
        // Whoever looks up to three weeks later still believes what he finds.
        assert!(keeper.is_believed(now) && keeper.is_believed(now.plus_days(20)), "day {day}");
    }
    let report = keys(&keeper.depot(), TODAY).unwrap();
    assert_eq!(report.root_version, 1 + 1 + 4);
    for version in 1..=6 {
        let name = format!("current/metadata/{version}.root.json");
        assert!(keeper.depot().join(name).exists(), "root {version} is gone");
    }
}

#[test]
fn losing_one_of_three_root_keys_is_a_non_event() {
    let mut keeper = Keeper::new();
    keeper.two_of_three();
    let lost = keeper.in_safe().pop().unwrap();
    let text = fs::read_to_string(&lost).unwrap();
    let id = supervisor_trust::SigningKey::from_text(&text).unwrap().public().id();
    fs::remove_file(&lost).unwrap();
    let replace = KeyChange::Rotate { keyid: Some(id.as_str()[..10].to_owned()) };
    let changed = keeper.change(Role::Root, replace, TODAY).unwrap();
    assert_eq!(changed.retired, [id.to_string()]);
    let root = keeper.role(Role::Root);
    assert_eq!((root.keyids.len(), root.threshold), (3, 2));
    assert!(!root.keyids.contains(&id.to_string()));
    assert!(keeper.is_believed(TODAY));
    // And with two lost, the one that is left can do nothing.
    for lost in keeper.in_safe().into_iter().skip(1) {
        fs::remove_file(lost).unwrap();
    }
    let error = keeper.change(Role::Root, all(), TODAY).unwrap_err();
    assert!(matches!(error, DepotError::TooFewKeys { have: 1, threshold: 2, .. }), "{error}");
    assert!(keeper.is_believed(TODAY));
}

#[test]
fn when_every_root_key_is_lost_the_spare_root_goes_in_force_without_them() {
    let mut keeper = Keeper::new();
    keeper.two_of_three();
    let (depot, later) = (keeper.depot(), TODAY.plus_days(100));
    let old = keeper.in_safe();
    keeper.with_means(Role::Root, |means| make_spare(&depot, means, TODAY)).unwrap();
    assert_eq!(keeper.role(Role::Root).keyids.len(), 3);
    for key in old {
        fs::remove_file(key).unwrap();
    }
    renew(&depot, later).unwrap();
    assert_eq!(publish_spare(&depot, later).unwrap(), 3);
    assert!(keeper.is_believed(later));
    assert!(matches!(publish_spare(&depot, later), Err(DepotError::NoSpare)));
    // The keys that came with the spare go on from there.
    keeper.change(Role::Timestamp, all(), later).unwrap();
    assert!(keeper.is_believed(later));
}

#[test]
fn a_root_about_to_end_is_followed_by_the_spare_one_by_itself() {
    let mut keeper = Keeper::new();
    let depot = keeper.depot();
    let made = TODAY.plus_days(1000);
    renew(&depot, made).unwrap();
    keeper.with_means(Role::Root, |means| make_spare(&depot, means, made)).unwrap();
    for key in keeper.in_safe() {
        fs::remove_file(key).unwrap();
    }
    for day in (1000..2500).step_by(10) {
        let now = TODAY.plus_days(day);
        renew(&depot, now).unwrap();
        assert!(keeper.is_believed(now), "day {day}");
    }
    let end = TODAY.plus_days(2500);
    let gap = plan(&depot, end).unwrap().gap.unwrap();
    assert_eq!((gap.role, gap.from), (Role::Root, made.plus_days(1825)));
}

#[test]
fn a_spare_root_that_was_left_lying_when_it_came_into_force_is_in_nobodys_way() {
    let mut keeper = Keeper::new();
    let depot = keeper.depot();
    keeper.with_means(Role::Root, |means| make_spare(&depot, means, TODAY)).unwrap();
    let spare = fs::read(depot.join("spare.root.json")).unwrap();
    publish_spare(&depot, TODAY).unwrap();
    fs::write(depot.join("spare.root.json"), spare).unwrap();
    // In the month in which a spare root would be looked for.
    let now = TODAY.plus_days(1800);
    renew(&depot, now).unwrap();
    assert!(keeper.is_believed(now));
    assert!(matches!(publish_spare(&depot, now), Err(DepotError::NoSpare)));
    assert!(warnings(&depot, now).unwrap().iter().any(|(role, _)| *role == Role::Root));
    assert_eq!(days_left(&depot, now).unwrap()[0], (Role::Root, 25));
}

#[test]
fn changing_the_keys_voids_a_spare_that_no_client_could_follow_any_more() {
    let mut keeper = Keeper::new();
    let depot = keeper.depot();
    keeper.with_means(Role::Root, |means| make_spare(&depot, means, TODAY)).unwrap();
    assert!(keeper.change(Role::Snapshot, all(), TODAY).unwrap().spare_is_void);
    assert!(matches!(publish_spare(&depot, TODAY), Err(DepotError::NoSpare)));
}

#[test]
fn what_would_leave_a_gap_is_refused_and_changes_nothing() {
    let mut keeper = Keeper::new();
    let before = fs::read_link(keeper.depot().join("current")).unwrap();
    let only = |keeper: &Keeper, role| keeper.role(role).keyids[0].clone();
    let remove = |keyid| KeyChange::Remove { keyid, threshold: None };
    for role in Role::ALL {
        let keyid = only(&keeper, role);
        let error = keeper.change(role, remove(keyid), TODAY).unwrap_err();
        let DepotError::Gap { gap } = &error else { panic!("{role}: {error}") };
        assert_eq!((gap.role, gap.from), (role, TODAY));
        assert!(error.remedy().unwrap().contains(&format!("depot keys add {role}")));
    }
    // More signatures than keys in the folder: the renewal would stop in three weeks.
    let elsewhere = keeper.safe.clone();
    let mut seed = || Ok([77; 32]);
    let brought = keeper.in_safe();
    let means = Means { brought: &brought, keys_to: Some(&elsewhere), seed: &mut seed };
    let add = KeyChange::Add { count: 1, threshold: Some(2) };
    let error = change_keys(&keeper.depot(), Role::Timestamp, &add, means, TODAY).unwrap_err();
    let DepotError::Gap { gap } = error else { panic!("{error}") };
    assert_eq!((gap.role, gap.from), (Role::Timestamp, TODAY.plus_days(21)));
    assert_eq!(fs::read_link(keeper.depot().join("current")).unwrap(), before);
    assert_eq!(keeper.in_safe().len(), 1, "a refused change left a key behind");
}

#[test]
fn a_client_that_read_the_old_root_a_moment_ago_believes_what_a_rotation_signed() {
    let mut keeper = Keeper::new();
    let read = |name: &str| fs::read(keeper.depot().join("current/metadata").join(name));
    let old_root = read("1.root.json").unwrap();
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        keeper.change(role, all(), TODAY).unwrap();
    }
    // In the middle of the first rotation: the old root, and the timestamp of the new tree.
    let mut keeper = Keeper::new();
    keeper.change(Role::Timestamp, all(), TODAY).unwrap();
    let folder = keeper.depot().join("current/metadata");
    let moment = supervisor_trust::Moment::new(TODAY, TODAY);
    let mut client =
        supervisor_trust::Client::start(&old_root, Default::default(), moment).unwrap();
    while let Some(request) = client.request() {
        let is_root = request.name.ends_with("root.json");
        let found = fs::read(folder.join(&request.name)).ok().filter(|_| !is_root);
        client.answer(found.as_deref()).unwrap();
    }
    assert_eq!(client.verified().unwrap().root.head.version, 1);
    // The next renewal is signed by the new key alone.
    renew(&keeper.depot(), TODAY).unwrap();
    let timestamp = fs::read_to_string(keeper.depot().join("current/metadata/timestamp.json"));
    assert_eq!(timestamp.unwrap().matches("keyid").count(), 1);
}

#[test]
fn without_the_lists_key_the_timestamp_is_renewed_until_the_lists_end_and_somebody_is_warned() {
    let keeper = Keeper::new();
    fs::remove_file(keeper.depot().join("keys/targets.key")).unwrap();
    let mut warned_from = None;
    for day in (0..360).step_by(18).chain(360..400) {
        let now = TODAY.plus_days(day);
        renew(&keeper.depot(), now).unwrap();
        assert!(keeper.is_believed(now.plus_days(18.min(399 - day))), "day {day}");
        let warned = warnings(&keeper.depot(), now).unwrap();
        assert!(warned.iter().all(|(role, _)| *role == Role::Targets), "{warned:?}");
        if !warned.is_empty() && warned_from.is_none() {
            warned_from = Some(day);
        }
        let gap = plan(&keeper.depot(), now).unwrap().gap;
        assert_eq!(gap.map(|gap| gap.from), (day >= 36).then_some(TODAY.plus_days(400)));
    }
    assert_eq!(warned_from, Some(371));
    assert!(renew(&keeper.depot(), TODAY.plus_days(400)).is_err());
}

#[test]
fn a_key_is_named_by_the_beginning_of_its_id_and_never_by_chance() {
    let mut keeper = Keeper::new();
    keeper.two_of_three();
    for keyid in ["", "zz", "root"] {
        let change = KeyChange::Rotate { keyid: Some(keyid.to_owned()) };
        let error = keeper.change(Role::Root, change, TODAY).unwrap_err();
        assert!(matches!(error, DepotError::NoSuchKey { .. }), "{keyid}: {error}");
    }
}
