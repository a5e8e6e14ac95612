//! Sizes, headers and names: what keeps a room readable in one sitting.

use std::path::Path;
use tests_rules::{Source, expect_none, rooms, root, sources};

const FILE_LINES_MAX: usize = 600;
const LINE_CHARS_MAX: usize = 100;
const PACKAGE_SCRIPT_LINES_MAX: usize = 30;
const SCRIPT_LINES_MAX: usize = 250;
/// Shorter, and it only repeats the file's name.
const HEADER_CHARS_MIN: usize = 25;

/// Names that gather what nobody found a place for.
const DRAWERS: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "misc", "stuff"];

fn rust() -> impl Iterator<Item = Source> {
    sources().into_iter().filter(Source::is_rust)
}

fn header_of(source: &Source) -> String {
    source.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_file_fits_into_a_head() {
    let mut complaints = Vec::new();
    for source in rust() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            let path = source.path.display();
            complaints.push(format!("{path} has {lines} lines, more than {FILE_LINES_MAX}"));
        }
        for (number, line) in source.text.lines().enumerate() {
            if line.chars().count() > LINE_CHARS_MAX {
                let (path, number) = (source.path.display(), number + 1);
                complaints.push(format!("{path}:{number} is longer than {LINE_CHARS_MAX}"));
            }
        }
    }
    expect_none(&complaints);
}

#[test]
fn every_module_says_what_it_is() {
    let mut complaints = Vec::new();
    for source in rust().filter(|source| !source.is_in("cross/src/native")) {
        let header = header_of(&source);
        if header.len() < HEADER_CHARS_MIN {
            complaints
                .push(format!("{}: begin with `//!` and say something", source.path.display()));
        }
    }
    expect_none(&complaints);
}

#[test]
fn every_room_says_what_holds_in_it_and_what_is_not_here() {
    let mut complaints = Vec::new();
    for room in rooms() {
        let entry = ["src/lib.rs", "src/main.rs"]
            .map(|file| root().join(&room.folder).join(file))
            .into_iter()
            .find(|path| path.is_file())
            .unwrap_or_else(|| panic!("{} has neither lib.rs nor main.rs", room.name));
        let text = std::fs::read_to_string(&entry).expect("the checkout can be read");
        let header = header_of(&Source { path: entry.clone(), text });
        for wanted in ["**Invariant", "**Not here:**"] {
            let says_so = header.contains(wanted)
                || (wanted == "**Invariant" && header.contains("**Entry rule"));
            if !says_so {
                complaints.push(format!("{}: its header has no {wanted}", entry.display()));
            }
        }
    }
    expect_none(&complaints);
}

#[test]
fn no_drawers() {
    let mut complaints = Vec::new();
    for source in sources() {
        let is_drawer = |part: &std::ffi::OsStr| {
            let stem = Path::new(part).file_stem().unwrap_or_default().to_string_lossy();
            DRAWERS.contains(&&*stem)
        };
        if source.path.iter().any(is_drawer) {
            let path = source.path.display();
            complaints.push(format!("{path}: name it after what is in it"));
        }
    }
    expect_none(&complaints);
}

#[test]
fn no_test_is_switched_off_and_no_story_is_forgotten() {
    let mut complaints = Vec::new();
    for source in rust() {
        for (number, line) in source.text.lines().enumerate() {
            if line.trim_start().starts_with(concat!("#[", "ignore")) {
                let (path, number) = (source.path.display(), number + 1);
                complaints.push(format!("{path}:{number}: run it, or delete it"));
            }
        }
        let is_story = source.is_in("tests/stories/tests") && source.path.iter().count() == 4;
        if is_story && !source.text.contains("#[test]") {
            complaints.push(format!("{}: a story without a test", source.path.display()));
        }
        // Cargo finds the files directly in `tests/`; deeper ones need somebody to name them.
        if source.is_in("tests/stories") && source.path.iter().count() > 4 {
            let name = source.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let named = rust().any(|other| {
                other.is_in("tests/stories") && other.text.contains(&format!("mod {name};"))
            });
            if !named && name != "mod" {
                complaints.push(format!("{}: nobody names this module", source.path.display()));
            }
        }
    }
    let manifest = std::fs::read_to_string(root().join("tests/stories/Cargo.toml"));
    if manifest.expect("the stories' manifest").contains("autotests") {
        complaints.push("tests/stories/Cargo.toml: let Cargo find the stories itself".to_owned());
    }
    expect_none(&complaints);
}

#[test]
fn scripts_are_short_strict_and_executable() {
    use std::os::unix::fs::PermissionsExt;
    let mut complaints = Vec::new();
    for source in sources() {
        let Some(first) = source.text.lines().next().filter(|line| line.starts_with("#!/")) else {
            continue;
        };
        let path = source.path.display();
        let of_package = source.is_in("scripts/package");
        let lines = source.text.lines().count();
        let lines_max = if of_package { PACKAGE_SCRIPT_LINES_MAX } else { SCRIPT_LINES_MAX };
        if lines > lines_max {
            complaints.push(format!("{path} has {lines} lines, more than {lines_max}"));
        }
        if of_package && first != "#!/bin/sh" {
            complaints.push(format!("{path}: DSM 5 has no other shell than #!/bin/sh"));
        }
        if first.contains("bash") && !source.text.contains("set -euo pipefail") {
            complaints.push(format!("{path}: begin with `set -euo pipefail`"));
        }
        let mode = std::fs::metadata(root().join(&source.path)).expect("it is there");
        if mode.permissions().mode() & 0o111 == 0 {
            complaints.push(format!("{path}: chmod +x"));
        }
    }
    expect_none(&complaints);
}
