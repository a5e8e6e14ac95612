//! Texts that may not stand in some rooms, each with what to write instead and why.

use tests_rules::{Source, expect_none, sources};

/// A text that is banned from programs, not from their tests.
struct Ban {
    text: &'static str,
    /// Where it is banned: paths from the root, a name in front of the rest.
    rooms: &'static [&'static str],
    /// Where it may stand all the same.
    but_not: &'static [&'static str],
    instead: &'static str,
    why: &'static str,
}

const ENGINE: &[&str] = &["engine"];
const PROGRAMS: &[&str] = &["engine", "supervisor", "spk", "cross"];
const LIBRARIES: &[&str] = &[
    "engine/contract",
    "engine/repository",
    "engine/storage",
    "engine/transfer",
    "engine/console",
    "supervisor/dsm",
    "supervisor/lifecycle",
    "supervisor/trust",
    "supervisor/fetch",
    "supervisor/depot",
];
/// Rooms of values: facts, times and random bytes come in as arguments.
const PURE: &[&str] =
    &["engine/contract", "engine/repository", "supervisor/lifecycle", "supervisor/trust"];

const BANS: &[Ban] = &[
    Ban {
        text: "env::var",
        rooms: LIBRARIES,
        but_not: &[],
        instead: "take it as an argument",
        why: "the world is read once, at the top of main",
    },
    Ban {
        text: "println!",
        rooms: LIBRARIES,
        but_not: &[],
        instead: "return it, or an event",
        why: "libraries are mute: only a program knows who listens",
    },
    Ban {
        text: "std::fs",
        rooms: PURE,
        but_not: &[],
        instead: "take the bytes as an argument",
        why: "a room of values can be tried without a disk",
    },
    Ban {
        text: "std::net",
        rooms: PURE,
        but_not: &[],
        instead: "take the bytes as an argument",
        why: "a room of values can be tried without a network",
    },
    Ban {
        text: "SystemTime::now",
        rooms: PURE,
        but_not: &[],
        instead: "take the time as an argument",
        why: "a room of values gives the same answer every day",
    },
    Ban {
        text: "Instant::now",
        rooms: PURE,
        but_not: &[],
        instead: "take the time as an argument",
        why: "a room of values gives the same answer every day",
    },
    Ban {
        text: "/var/packages",
        rooms: PROGRAMS,
        but_not: &["supervisor/dsm", "spk"],
        instead: "ask supervisor-dsm",
        why: "one room knows where DSM keeps things, and follows its links inside the root",
    },
    Ban {
        text: "usr/syno",
        rooms: PROGRAMS,
        but_not: &["supervisor/dsm"],
        instead: "ask supervisor-dsm",
        why: "one room knows DSM's programs, and runs them from the root it was given",
    },
    Ban {
        text: "SYNOPKG_",
        rooms: ENGINE,
        but_not: &[],
        instead: "let the supervisor pass it on",
        why: "the engine runs on any Linux box",
    },
    Ban {
        text: "AtomicU64",
        rooms: PROGRAMS,
        but_not: &["cross"],
        instead: "AtomicUsize, or a Mutex",
        why: "armv5te has no 64-bit atomics",
    },
    Ban {
        text: "AtomicI64",
        rooms: PROGRAMS,
        but_not: &["cross"],
        instead: "AtomicIsize, or a Mutex",
        why: "armv5te has no 64-bit atomics",
    },
    Ban {
        text: ".unpack(",
        rooms: PROGRAMS,
        but_not: &[],
        instead: "walk the entries by hand",
        why: "tar's unpack skips a name with `..` in silence; a bad archive must be refused",
    },
    Ban {
        text: "todo!",
        rooms: PROGRAMS,
        but_not: &[],
        instead: "write it",
        why: "nothing on the path is a stub",
    },
];

/// Texts that belong to a machine or a workplace, in no file at all. Split, so that this is none.
const NOWHERE: &[(&str, &str)] = &[
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("index.crates", ".io"), "a registry's host"),
    (concat!("static.crates", ".io"), "a registry's host"),
    (concat!("pypi", ".org"), "a registry's host"),
    (concat!("deb.debian", ".org"), "a registry's host"),
    (concat!("FIX", "ME"), "an unfinished thought"),
    (concat!("XX", "X:"), "an unfinished thought"),
];

#[test]
fn no_banned_text() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        for ban in BANS {
            let is_in = |rooms: &[&str]| rooms.iter().any(|room| source.is_in(room));
            if !is_in(ban.rooms) || is_in(ban.but_not) {
                continue;
            }
            for (number, _) in source.program_lines().filter(|(_, line)| line.contains(ban.text)) {
                complaints.push(format!(
                    "{}:{number}: `{}` is banned here: {} ({})",
                    source.path.display(),
                    ban.text,
                    ban.instead,
                    ban.why
                ));
            }
        }
    }
    expect_none(&complaints);
}

#[test]
fn no_text_of_one_machine_or_workplace() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !is_record(source)) {
        for (number, line) in source.text.lines().enumerate() {
            for (text, what) in NOWHERE.iter().filter(|(text, _)| line.contains(text)) {
                let (path, number) = (source.path.display(), number + 1);
                complaints.push(format!("{path}:{number}: `{text}` is {what}"));
            }
        }
    }
    expect_none(&complaints);
}

/// The lock file is Cargo's; it names the registry by its index, and nobody edits it.
fn is_record(source: &Source) -> bool {
    source.path.ends_with("Cargo.lock")
}

#[test]
fn the_bans_can_fail() {
    let source = Source {
        path: "engine/repository/src/x.rs".into(),
        text: "// std::fs in a comment\nuse std::fs;\n#[cfg(test)]\nmod tests { use std::fs; }\n"
            .to_owned(),
    };
    let found: Vec<usize> = source
        .program_lines()
        .filter(|(_, line)| line.contains("std::fs"))
        .map(|(number, _)| number)
        .collect();
    assert_eq!(found, [2]);
}
