//! The memory plan: how much the engine may use, and for what.
//!
//! A NAS has little memory and its owner bought it for something else. The plan is a number that is
//! kept, not a hope: every queue, buffer and cache of the engine takes its bound from here.

/// One mebibyte, in bytes.
pub const MIB: u64 = 1 << 20;

/// No plan is smaller: one chunk of 8 MiB, its compressed twin and the engine itself must fit.
pub const TOTAL_BYTES_MIN: u64 = 24 * MIB;

/// No plan is larger unless the owner asks: beyond this nothing gets faster.
pub const TOTAL_BYTES_MAX: u64 = 512 * MIB;

/// A 32-bit process cannot be trusted with more, whatever the box has.
const TOTAL_BYTES_MAX_32_BIT: u64 = 768 * MIB;

/// RAM up to the first number gets the second as its plan. The classes are the ones CrashPlan's
/// package used (128, 256, 512, 1024 MB); a box reports a little less RAM than is soldered in.
const CLASSES: [(u64, u64); 5] = [
    (128 * MIB, 32 * MIB),
    (256 * MIB, 64 * MIB),
    (512 * MIB, 96 * MIB),
    (1024 * MIB, 160 * MIB),
    (4096 * MIB, 256 * MIB),
];

/// What was learnt about the box, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Installed RAM the kernel manages (`MemTotal`).
    pub ram_bytes: u64,
    /// RAM that could be had without swapping (`MemAvailable`, or its estimate on old kernels).
    pub available_bytes: u64,
    /// The tightest memory cgroup limit above the process, when there is one.
    pub cgroup_limit_bytes: Option<u64>,
    /// What the owner asked for in `syno_package.vars` (`USR_MAX_HEAP`), up or down.
    pub wish_bytes: Option<u64>,
    /// Whether the engine runs as a 32-bit process.
    pub is_32_bit: bool,
    /// How often the plan was stepped down because memory ran out.
    pub steps_down: u32,
}

/// How much memory each part of the engine may use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemoryPlan {
    /// The whole: resident memory stays below it.
    pub total_bytes: u64,
    /// The filter and cache of the blob index.
    pub index_bytes: u64,
    /// Chunks, compressed chunks and packs on their way through the pipeline.
    pub pipeline_bytes: u64,
    /// Code, stacks, allocator waste, SQLite, the control API.
    pub slack_bytes: u64,
}

/// Which fact decided the plan; shown to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The class of the installed RAM.
    RamClass,
    /// Half of what is available now is less than the class allows.
    LittleAvailable,
    /// A memory cgroup is tighter than the class.
    CgroupLimit,
    /// The owner asked for it.
    OwnerWish,
    /// Memory ran out before; the plan was stepped down.
    SteppedDown,
    /// Everything asked for less than the engine can work with.
    Floor,
}

impl MemoryPlan {
    /// The plan for a box of which `facts` are known, and what decided it.
    pub fn for_box(facts: &Facts) -> (Self, Reason) {
        let (mut total, mut reason) = match facts.wish_bytes {
            Some(wish) => (wish, Reason::OwnerWish),
            None => (class_bytes(facts.ram_bytes), Reason::RamClass),
        };
        let mut at_most = |bytes: u64, why: Reason| {
            if bytes < total {
                (total, reason) = (bytes, why);
            }
        };
        if facts.wish_bytes.is_none() {
            at_most(facts.available_bytes / 2, Reason::LittleAvailable);
        }
        at_most(facts.ram_bytes / 4 * 3, Reason::RamClass);
        if let Some(limit) = facts.cgroup_limit_bytes {
            at_most(limit / 5 * 4, Reason::CgroupLimit);
        }
        if facts.is_32_bit {
            at_most(TOTAL_BYTES_MAX_32_BIT, Reason::RamClass);
        }
        for _ in 0..facts.steps_down.min(8) {
            (total, reason) = (total / 4 * 3, Reason::SteppedDown);
        }
        if total < TOTAL_BYTES_MIN {
            (total, reason) = (TOTAL_BYTES_MIN, Reason::Floor);
        }
        (Self::of(total), reason)
    }

    /// A plan that divides `total_bytes`; less than [`TOTAL_BYTES_MIN`] counts as that.
    pub fn of(total_bytes: u64) -> Self {
        let total_bytes = total_bytes.max(TOTAL_BYTES_MIN);
        let index_bytes = (total_bytes / 4).min(64 * MIB);
        let slack_bytes = (total_bytes / 4).clamp(8 * MIB, 64 * MIB);
        Self {
            total_bytes,
            index_bytes,
            slack_bytes,
            pipeline_bytes: total_bytes - index_bytes - slack_bytes,
        }
    }
}

fn class_bytes(ram_bytes: u64) -> u64 {
    CLASSES
        .iter()
        .find(|(ram_bytes_max, _)| ram_bytes <= *ram_bytes_max)
        .map_or(TOTAL_BYTES_MAX, |(_, plan_bytes)| *plan_bytes)
}

/// Reads a size as owners of the old CrashPlan package wrote them: `512M`, `1024m`, `1G`, `4096`.
///
/// `None` when it is no such size.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().trim_matches(['"', '\'']);
    let (digits, unit) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1 << 10),
        (at, 'm' | 'M') => (&text[..at], MIB),
        (at, 'g' | 'G') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_box_with(ram_mib: u64) -> Facts {
        Facts {
            ram_bytes: ram_mib * MIB,
            available_bytes: ram_mib * MIB,
            cgroup_limit_bytes: None,
            wish_bytes: None,
            is_32_bit: false,
            steps_down: 0,
        }
    }

    fn planned_mib(facts: &Facts) -> (u64, Reason) {
        let (plan, reason) = MemoryPlan::for_box(facts);
        assert_eq!(plan.total_bytes, plan.index_bytes + plan.pipeline_bytes + plan.slack_bytes);
        (plan.total_bytes / MIB, reason)
    }

    #[test]
    fn every_class_of_box_gets_its_plan() {
        for (ram_mib, plan_mib) in [
            (122, 32),
            (128, 32),
            (249, 64),
            (503, 96),
            (1009, 160),
            (2048, 256),
            (8192, 512),
            (65536, 512),
        ] {
            assert_eq!(
                planned_mib(&a_box_with(ram_mib)),
                (plan_mib, Reason::RamClass),
                "{ram_mib} MB of RAM"
            );
        }
    }

    #[test]
    fn the_owner_may_ask_for_more_and_for_less_but_not_for_the_whole_box() {
        let wish = |mib: u64| Facts { wish_bytes: Some(mib * MIB), ..a_box_with(1024) };
        assert_eq!(planned_mib(&wish(400)), (400, Reason::OwnerWish));
        assert_eq!(planned_mib(&wish(48)), (48, Reason::OwnerWish));
        assert_eq!(planned_mib(&wish(4000)), (768, Reason::RamClass));
        assert_eq!(planned_mib(&wish(1)), (24, Reason::Floor));
    }

    #[test]
    fn a_busy_box_a_cgroup_and_a_crash_each_make_the_plan_smaller() {
        let busy = Facts { available_bytes: 100 * MIB, ..a_box_with(1024) };
        assert_eq!(planned_mib(&busy), (50, Reason::LittleAvailable));
        let caged = Facts { cgroup_limit_bytes: Some(100 * MIB), ..a_box_with(1024) };
        assert_eq!(planned_mib(&caged), (80, Reason::CgroupLimit));
        let crashed = Facts { steps_down: 1, ..a_box_with(1024) };
        assert_eq!(planned_mib(&crashed), (120, Reason::SteppedDown));
        let hopeless = Facts { steps_down: 40, ..a_box_with(128) };
        assert_eq!(planned_mib(&hopeless), (24, Reason::Floor));
    }

    #[test]
    fn sizes_are_read_as_old_hands_wrote_them_and_nonsense_is_refused() {
        assert_eq!(parse_size("512M"), Some(512 * MIB));
        assert_eq!(parse_size("\"1024m\""), Some(1024 * MIB));
        assert_eq!(parse_size("1G"), Some(1 << 30));
        assert_eq!(parse_size("4096"), Some(4096));
        for nonsense in
            ["", "M", "-5M", "5 M", "5T", "M5", "99999999999999999999G", "8000; rm -rf /"]
        {
            assert_eq!(parse_size(nonsense), None, "{nonsense}");
        }
    }
}
