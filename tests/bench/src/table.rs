//! What was found out, as Markdown.

use crate::Run;
use crate::bars;
use crate::corpus::Corpus;
use crate::life::{Account, Row};
use crate::measure::Figure;
use crate::tools::Name;
use std::fmt::Write;

/// The tables of one corpus.
pub fn markdown(corpus: &Corpus, wanted: &Run, account: &Account) -> String {
    let mut page = format!("## {corpus}\n\n");
    let _ = writeln!(page, "Cells: CPU s / clock s / peak MiB. Bars are ratios, ours by theirs.\n");
    heading(&mut page, "step", &account.rows, &["bars"]);
    for row in &account.rows {
        let bar = bars::of(corpus.kind, row.step).judge(&row.figures);
        let cells = row.figures.iter().map(|(_, figure)| cell(figure));
        let cells: Vec<String> = cells.chain([bar.join("; ")]).collect();
        let _ = writeln!(page, "| {} | {} |", row.title, cells.join(" | "));
    }
    if !account.limited.is_empty() {
        let _ = writeln!(page, "\nThe same inside a memory cgroup of {} MiB:\n", wanted.limit);
        heading(&mut page, "step", &account.limited, &["bar"]);
        for row in &account.limited {
            let is_met =
                |(name, figure): &(Name, Figure)| *name != Name::Holdfast || figure.is_done();
            let bar = if row.figures.iter().all(is_met) { "met" } else { "**missed**" };
            let cells: Vec<String> = row.figures.iter().map(|(_, figure)| cell(figure)).collect();
            let _ = writeln!(page, "| {} | {} | {bar} |", row.title, cells.join(" | "));
        }
    }
    for note in &account.notes {
        let _ = writeln!(page, "\nNote: {}", note.replace('\n', " "));
    }
    page
}

fn heading(page: &mut String, first: &str, rows: &[Row], last: &[&str]) {
    let names = rows.first().map(|row| row.figures.iter());
    let names = names.into_iter().flatten().map(|(name, _)| format!("{name:?}").to_lowercase());
    let columns: Vec<String> = std::iter::once(first.to_owned())
        .chain(names)
        .chain(last.iter().map(|text| (*text).to_owned()))
        .collect();
    let rule = vec!["---"; columns.len()].join("|");
    let _ = writeln!(page, "| {} |\n|{rule}|", columns.join(" | "));
}

/// One step's figures of one tool.
pub fn cell(figure: &Figure) -> String {
    if figure.is_out_of_memory() {
        return "killed".to_owned();
    }
    if figure.is_stuck() {
        return format!("not done in {:.0} s", figure.wall_seconds);
    }
    if !figure.is_done() {
        return format!("failed ({})", figure.code);
    }
    let Figure { cpu_seconds, wall_seconds, memory_mib, .. } = figure;
    format!("{cpu_seconds:.2} / {wall_seconds:.2} / {memory_mib:.0}")
}

/// One step's figures for a terminal.
pub fn in_a_line(figures: &[(Name, Figure)]) -> String {
    let cells: Vec<String> =
        figures.iter().map(|(name, figure)| format!("{name:?} {}", cell(figure))).collect();
    cells.join(", ")
}
