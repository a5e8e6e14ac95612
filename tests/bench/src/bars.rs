//! The bars: how ours must compare, row by row.
//!
//! They were set after measuring the peers alone on a quiet machine; processor seconds and memory
//! are the columns that count, the clock is told beside them.

use crate::corpus::Kind;
use crate::measure::Figure;
use crate::tools::{Name, Step};

/// No row may need more resident memory.
const MEMORY_MIB_MAX: f64 = 64.0;
/// Nor more than this share of the most frugal peer's.
const OF_SMALLEST_PEERS_MEMORY: f64 = 0.5;

/// What one row asks of ours, as ratios that may not be exceeded.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// Processor seconds, of restic's.
    cpu_of_restics: Option<f64>,
    /// The clock, of restic's.
    wall_of_restics: Option<f64>,
    /// The clock, of the fastest peer's.
    wall_of_fastests: Option<f64>,
    memory_mib_max: f64,
    /// Whether memory is compared with the peers', too.
    is_memory_compared: bool,
}

/// The bar of a row.
pub fn of(kind: Kind, step: Step) -> Bar {
    const TWO_THIRDS: f64 = 1.0 / 1.5;
    let is_small = kind == Kind::Small;
    let (cpu, of_restics, of_fastests) = match step {
        Step::Init | Step::Snapshots | Step::Unlock => (None, None, None),
        Step::First => (Some(0.5), None, Some(TWO_THIRDS)),
        Step::Unchanged => (Some(0.25), None, Some(1.0 / 3.0)),
        Step::Changed => (Some(0.4), None, None),
        Step::Check => (Some(if is_small { 0.6 } else { 0.7 }), None, Some(1.0)),
        Step::CheckData => (Some(0.85), None, Some(1.0)),
        Step::Restore | Step::RestoreShare => (Some(1.0), None, Some(TWO_THIRDS)),
        Step::Prune => (None, Some(0.5), Some(1.0)),
    };
    Bar {
        cpu_of_restics: cpu,
        wall_of_restics: of_restics,
        wall_of_fastests: of_fastests,
        memory_mib_max: match step {
            Step::Snapshots => 24.0,
            Step::Unchanged | Step::RestoreShare if is_small => 48.0,
            _ => MEMORY_MIB_MAX,
        },
        is_memory_compared: step != Step::Init,
    }
}

impl Bar {
    /// Each part of the bar, and whether ours is below it.
    pub fn judge(&self, figures: &[(Name, Figure)]) -> Vec<String> {
        let done = |name: Name| {
            let found = figures.iter().find(|(other, figure)| *other == name && figure.is_done());
            found.map(|(_, figure)| figure)
        };
        let Some(ours) = done(Name::Holdfast) else { return vec!["ours failed".to_owned()] };
        let peers: Vec<&Figure> = figures
            .iter()
            .filter(|(name, figure)| *name != Name::Holdfast && figure.is_done())
            .map(|(_, figure)| figure)
            .collect();
        let least = |of: fn(&Figure) -> f64| peers.iter().map(|peer| of(peer)).reduce(f64::min);
        let mut said = Vec::new();
        let mut compare = |what: &str, ours: f64, theirs: Option<f64>, bar: Option<f64>| {
            if let (Some(theirs), Some(bar)) = (theirs, bar) {
                said.push(verdict(what, ours / theirs.max(f64::MIN_POSITIVE), bar, "×"));
            }
        };
        let restic = done(Name::Restic);
        let (cpu, wall) = (ours.cpu_seconds, ours.wall_seconds);
        let restics_wall = restic.map(|restic| restic.wall_seconds);
        compare("CPU", cpu, restic.map(|restic| restic.cpu_seconds), self.cpu_of_restics);
        compare("clock/restic", wall, restics_wall, self.wall_of_restics);
        compare("clock/fastest", wall, least(|peer| peer.wall_seconds), self.wall_of_fastests);
        let smallest = least(|peer| peer.memory_mib).filter(|_| self.is_memory_compared);
        compare("memory/smallest", ours.memory_mib, smallest, Some(OF_SMALLEST_PEERS_MEMORY));
        said.push(verdict("memory", ours.memory_mib, self.memory_mib_max, " MiB"));
        said
    }
}

/// `CPU 0.41× ≤ 0.50× met`, or by how much it is missed.
fn verdict(what: &str, found: f64, bar: f64, unit: &str) -> String {
    let digits = if unit == "×" { 2 } else { 0 };
    if found <= bar {
        return format!("{what} {found:.digits$}{unit} ≤ {bar:.digits$} met");
    }
    let over = (found / bar - 1.0) * 100.0;
    format!("**{what} {found:.digits$}{unit} > {bar:.digits$} missed by {over:.0} %**")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(cpu_seconds: f64, wall_seconds: f64, memory_mib: f64) -> Figure {
        Figure { cpu_seconds, wall_seconds, memory_mib, ..Figure::default() }
    }

    #[test]
    fn a_bar_is_met_or_missed_by_so_much() {
        let figures = [
            (Name::Holdfast, figure(4.0, 4.0, 60.0)),
            (Name::Restic, figure(10.0, 8.0, 100.0)),
            (Name::Borg, figure(1.0, 5.0, 130.0)),
            (Name::Rustic, Figure { code: 1, ..figure(0.1, 0.1, 1.0) }),
        ];
        let said = of(Kind::Mixed, Step::First).judge(&figures);
        assert_eq!(
            said,
            [
                "CPU 0.40× ≤ 0.50 met",
                "**clock/fastest 0.80× > 0.67 missed by 20 %**",
                "**memory/smallest 0.60× > 0.50 missed by 20 %**",
                "memory 60 MiB ≤ 64 met"
            ]
        );
    }
}
