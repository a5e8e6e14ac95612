//! `status`, `plan` and `identity show` for people, and the same as JSON for scripts.

use crate::identity::{Copies, legacy, other_machine, words};
use crate::installation::Installation;
use crate::payloads::{self, UpdateRecord};
use crate::plan::Plan;
use crate::record::Record;
use crate::service::{Status, status};
use engine_contract::identity::Verdict;
use serde_json::{Value, json};
use supervisor_dsm::clock;
use supervisor_dsm::limits::{Limits, one_command};
use supervisor_dsm::machine::Machine;
use supervisor_dsm::process::ProcessId;

/// A report: the same facts for people and for programs.
#[derive(Debug)]
pub struct Report {
    /// For programs.
    pub json: Value,
    /// For people.
    pub text: String,
}

/// Everything about the daemon as it is now.
pub fn of_status(installation: &Installation) -> (Status, Report) {
    let found = status(installation);
    let record = read_record(installation);
    let plan = Plan::now(installation);
    let limits = Limits::now(installation.package.dsm());
    let copies = Copies::read(installation);
    let machine = Machine::now();
    let package = &installation.package;
    let daemon = record.as_ref().and_then(|record| record.daemon);
    let resident = daemon.and_then(|daemon| ProcessId::from(daemon).resident_bytes());
    let open_files = record.as_ref().map_or(limits.open_files, |record| record.open_files);
    let reached = Limits { open_files, ..limits };
    let shortfalls: Vec<Value> = reached
        .shortfalls()
        .iter()
        .map(|short| {
            let (what, command) = (short.what, &short.command);
            let (reached, wanted) = (short.reached, short.wanted);
            json!({"what": what, "reached": reached, "wanted": wanted, "as_root": command})
        })
        .collect();
    let json = json!({
        "package": package.name().as_str(),
        "version": payloads::running_version(installation),
        "dsm": package.dsm_version().to_string(),
        "machine": {
            "host": machine.host,
            "kernel": machine.kernel,
            "architecture": machine.architecture,
        },
        "status": found.words(),
        "code": found.code(),
        "state": record.as_ref().map(|record| record.state.clone()),
        "since": record.as_ref().map(|record| record.since),
        "pid": daemon.filter(|_| found == Status::Running).map(|daemon| daemon.pid),
        "supervisor_pid": record.as_ref().map(|record| record.supervisor.pid),
        "resident_bytes": resident,
        "attempt": record.as_ref().map(|record| record.attempt),
        "failures": record.as_ref().map(|record| record.failures),
        "last_ending": record.as_ref().and_then(|record| record.last_ending.clone()),
        "next_try": record.as_ref().and_then(|record| record.next_try),
        "identity": identity_json(&copies),
        "other_machine": other_machine(installation),
        "memory": memory_json(&plan, record.as_ref()),
        "open_files": open_files,
        "shortfalls": shortfalls,
        "as_root_at_boot": one_command(&reached.shortfalls()),
        "target": package.target().to_string_lossy(),
        "var": package.var().to_string_lossy(),
    });
    let text = status_text(installation, found, record.as_ref(), &plan, &copies, &reached);
    (found, Report { json, text })
}

fn read_record(installation: &Installation) -> Option<Record> {
    let folder = installation.run_folder_if_any().ok()??;
    Record::read(&folder, &installation.names()).ok()?
}

fn status_text(
    installation: &Installation,
    found: Status,
    record: Option<&Record>,
    plan: &Plan,
    copies: &Copies,
    reached: &Limits,
) -> String {
    let package = &installation.package;
    let version =
        payloads::running_version(installation).unwrap_or_else(|| "of unknown version".to_owned());
    let mut lines = vec![format!(
        "{} {version} on DSM {}: {}",
        package.name(),
        package.dsm_version(),
        found.words()
    )];
    if let Some(record) = record {
        let mut state =
            format!("  state        {} since {}", record.state, clock::local(record.since));
        if let Some(daemon) = record.daemon.filter(|_| found == Status::Running) {
            state.push_str(&format!(", process {}", daemon.pid));
        }
        lines.push(state);
        if let Some(ending) = &record.last_ending {
            lines.push(format!("  last ending  {ending}"));
        }
        if let Some(next) = record.next_try {
            lines.push(format!("  next try     {}", clock::local(next)));
        }
    }
    lines.push(format!("  computer     {}", identity_line(copies)));
    if let Some(sentence) = other_machine(installation) {
        lines.push(format!("               {sentence}"));
    }
    if let Some(last) = UpdateRecord::read(installation).last {
        lines.push(format!("  update       {last}"));
    }
    lines.push(format!("  memory       {}", plan.sentence()));
    lines.extend(plan.complaints.iter().map(|text| format!("               {text}")));
    lines.push(format!("  open files   {}", reached.open_files));
    for short in reached.shortfalls() {
        let (what, got, wanted) = (short.what, short.reached, short.wanted);
        lines.push(format!("  limit        {what}: {got} instead of {wanted}"));
    }
    if let Some(command) = one_command(&reached.shortfalls()) {
        lines.push(format!(
            "    what to do: Control Panel, Task Scheduler, Create, Triggered Task, user root, \
             event Boot-up: {command}"
        ));
    }
    lines.push(format!("  log          {}", crate::service::log_path(installation).display()));
    lines.join("\n")
}

fn identity_line(copies: &Copies) -> String {
    match copies.verdict() {
        Verdict::Known { identity, rewrite } if rewrite.is_empty() => {
            format!("{} ({} copies agree)", identity.guid, copies.places.len())
        }
        Verdict::Known { identity, rewrite } => format!(
            "{} ({} of {} copies to be written again at the next start)",
            identity.guid,
            rewrite.len(),
            copies.places.len()
        ),
        Verdict::Nobody => "no identity yet".to_owned(),
        Verdict::Disagreement { .. } => copies
            .known()
            .err()
            .map(|problem| problem.for_people().replace('\n', "\n             "))
            .unwrap_or_default(),
    }
}

fn identity_json(copies: &Copies) -> Value {
    let guid = copies.known().ok().map(|identity| identity.guid.to_string());
    let generation = copies.known().ok().map(|identity| identity.generation);
    let places: Vec<Value> = copies
        .places
        .iter()
        .map(|place| json!({"path": place.path.to_string_lossy(), "found": words(&place.found)}))
        .collect();
    json!({"guid": guid, "generation": generation, "copies": places})
}

fn memory_json(plan: &Plan, record: Option<&Record>) -> Value {
    json!({
        "plan": plan.plan,
        "reason": plan.reason,
        "sentence": plan.sentence(),
        "in_force": record.map(|record| record.memory),
        "ram_bytes": plan.facts.ram_bytes,
        "available_bytes": plan.facts.available_bytes,
        "cgroup_limit_bytes": plan.facts.cgroup_limit_bytes,
        "wish_bytes": plan.facts.wish_bytes,
        "steps_down": plan.facts.steps_down,
        "complaints": plan.complaints,
    })
}

/// Which version runs, and how far updates are.
pub fn of_update(installation: &Installation) -> Report {
    let record = UpdateRecord::read(installation);
    let running = payloads::running_version(installation);
    let slot = payloads::slot_in_use(installation);
    let bundled = installation.package.info_version();
    let phase = record.progress().phase.word();
    let unknown = || "of unknown version".to_owned();
    let from = if slot.is_some() { "from the depot" } else { "as the package brought it" };
    let mut lines = vec![
        format!("{} runs, {from}", running.clone().unwrap_or_else(unknown)),
        format!("  package   {}", bundled.clone().unwrap_or_else(unknown)),
    ];
    if let Some(candidate) = &record.candidate {
        lines.push(format!("  update    {}, {phase}", candidate.version));
    }
    if let Some(last) = &record.last {
        lines.push(format!("  last      {last}"));
    }
    if !record.refused.is_empty() {
        lines.push(format!("  refused   {}", record.refused.join(", ")));
    }
    if let Some(pin) = &record.pin {
        lines.push(format!("  pinned    {pin}: no other version is installed"));
    }
    if record.hold {
        lines.push("  on hold   no update is installed by itself".to_owned());
    }
    let json = json!({
        "running": running, "bundled": bundled, "phase": phase,
        "slot": slot.map(|(_, path)| path.to_string_lossy().into_owned()),
        "candidate": record.candidate.as_ref().map(|candidate| &candidate.version),
        "current": record.current, "previous": record.previous, "refused": record.refused,
        "hold": record.hold, "pin": record.pin, "depot": record.depot, "channel": record.channel,
        "last": record.last,
    });
    Report { json, text: lines.join("\n") }
}

/// What an old CrashPlan left.
pub fn of_legacy(installation: &Installation) -> Report {
    let found = crate::legacy::find(installation);
    let json = serde_json::to_value(&found).unwrap_or_default();
    Report { json, text: crate::legacy::text(&found, installation) }
}

/// The memory plan, and how it came about.
pub fn of_plan(installation: &Installation) -> Report {
    let plan = Plan::now(installation);
    let mib = |bytes: u64| format!("{:>6} MiB", bytes >> 20);
    let parts = &plan.plan;
    let mut lines = vec![
        format!("memory plan: {}", plan.sentence()),
        format!("  index      {}", mib(parts.index_bytes)),
        format!("  pipeline   {}", mib(parts.pipeline_bytes)),
        format!("  slack      {}", mib(parts.slack_bytes)),
        format!("  box        {}", mib(plan.facts.ram_bytes)),
        format!("  available  {}", mib(plan.facts.available_bytes)),
    ];
    if let Some(limit) = plan.facts.cgroup_limit_bytes {
        lines.push(format!("  cgroup     {}", mib(limit)));
    }
    lines.extend(plan.complaints.iter().map(|text| format!("  {text}")));
    Report { json: memory_json(&plan, None), text: lines.join("\n") }
}

/// The identity, each copy of it, and what an old CrashPlan left.
pub fn of_identity(installation: &Installation) -> Report {
    let copies = Copies::read(installation);
    let mut lines = vec![format!("computer {}", identity_line(&copies))];
    for place in &copies.places {
        lines.push(format!("  {}: {}", place.path.display(), words(&place.found)));
    }
    let mut json = identity_json(&copies);
    if let Some((guid, path)) = legacy(installation) {
        lines.push(format!("  CrashPlan was {guid} on this box ({})", path.display()));
        lines.push(format!("    to take over: holdfast-supervisor identity adopt {guid}"));
        json["legacy"] = json!({"guid": guid, "path": path.to_string_lossy()});
    }
    Report { json, text: lines.join("\n") }
}
