//! A package whose program may not be redistributed: fetched at installation, or put by the owner.

mod town;
mod world;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use world::{GOOD, Nas, QUICK};

/// A server of one file, which breaks off after so many bytes of an answer; keeps what was asked.
fn serve(content: Vec<u8>, bytes_max: usize) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/upstream.tgz", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let said = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => request.extend_from_slice(&piece[..count]),
                }
            }
            let request = String::from_utf8_lossy(&request).to_lowercase();
            let range = request.lines().find_map(|line| line.strip_prefix("range: bytes="));
            let from = range.and_then(|range| range.trim_end_matches('-').parse().ok());
            said.lock().unwrap().push(range.unwrap_or("all").to_owned());
            let rest = &content[from.unwrap_or(0)..];
            let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                rest.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&rest[..rest.len().min(bytes_max)]);
        }
    });
    (url, asked)
}

/// An archive with a program in it, and its SHA-256.
fn upstream(folder: &Path) -> (Vec<u8>, String) {
    fs::create_dir_all(folder.join("in/bin")).unwrap();
    fs::write(folder.join("in/bin/program"), "not ours to give away").unwrap();
    let noise: Vec<u8> =
        (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(folder.join("in/noise"), noise).unwrap();
    let archive = folder.join("upstream.tgz");
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&archive).arg("-C").arg(folder.join("in"));
    assert!(tar.args(["bin", "noise"]).status().unwrap().success());
    let sum = Command::new("sha256sum").arg(&archive).output().unwrap().stdout;
    (fs::read(&archive).unwrap(), String::from_utf8(sum).unwrap()[..64].to_owned())
}

fn asks_for(nas: &Nas, url: &str, bytes: usize, sum: &str) {
    nas.unpack(GOOD, QUICK);
    let text = format!(
        "[[download]]\nurls = [\"{url}\"]\nfile = \"upstream.tgz\"\nbytes = {bytes}\n\
         sha256 = \"{sum}\"\nto = \"share/upstream\"\nunpack = true\n"
    );
    fs::write(nas.target().join("conf/download.toml"), text).unwrap();
}

fn program(nas: &Nas) -> PathBuf {
    nas.target().join("share/upstream/bin/program")
}

#[test]
fn a_download_that_breaks_off_goes_on_and_is_unpacked_once() {
    let mut nas = Nas::empty(7);
    let (content, sum) = upstream(&nas.path("vendor"));
    let (url, asked) = serve(content.clone(), content.len() / 2 + 1000);
    asks_for(&nas, &url, content.len(), &sum);
    nas.hook("postinst", "INSTALL");
    assert_eq!(fs::read_to_string(program(&nas)).unwrap(), "not ours to give away");
    let first = asked.lock().unwrap().clone();
    assert!(first.len() == 2 && first[0] == "all" && first[1] != "all", "{first:?}");
    nas.hook("postinst", "INSTALL");
    assert_eq!(asked.lock().unwrap().len(), 2, "it was fetched again");
}

#[test]
fn before_the_files_are_in_place_it_is_fetched_to_where_dsm_unpacked_them() {
    let mut nas = Nas::empty(6);
    let (content, sum) = upstream(&nas.path("vendor"));
    let (url, _) = serve(content.clone(), usize::MAX);
    asks_for(&nas, &url, content.len(), &sum);
    let unpacked = nas.path("volume1/@tmp/pkginstall");
    fs::rename(nas.target(), &unpacked).unwrap();
    nas.environment.push(("SYNOPKG_PKGINST_TEMP_DIR".into(), unpacked.display().to_string()));
    nas.hook("preinst", "INSTALL");
    assert!(unpacked.join("share/upstream/bin/program").exists());
}

#[test]
fn without_a_network_the_owner_puts_the_file_into_the_shared_folder() {
    let mut nas = Nas::empty(7);
    let (content, sum) = upstream(&nas.path("vendor"));
    asks_for(&nas, "http://127.0.0.1:9/upstream.tgz", content.len(), &sum);
    let answer = nas.try_hook("postinst", "INSTALL", &[]);
    assert_eq!(answer.code, 1);
    for part in ["upstream.tgz cannot be fetched", "127.0.0.1:9", "shared folder `public`"] {
        assert!(nas.message().contains(part), "{part:?} is not in: {}", nas.message());
    }
    // Another file of that name helps nobody.
    fs::create_dir_all(nas.path("volume2/public")).unwrap();
    fs::write(nas.path("volume2/public/upstream.tgz"), "something else").unwrap();
    assert_eq!(nas.try_hook("postinst", "INSTALL", &[]).code, 1);
    assert!(!program(&nas).exists());
    fs::write(nas.path("volume2/public/upstream.tgz"), &content).unwrap();
    nas.hook("postinst", "INSTALL");
    assert!(program(&nas).exists());
}

#[test]
fn what_no_volume_has_room_for_is_not_even_asked_for() {
    let mut nas = Nas::empty(7);
    let (content, sum) = upstream(&nas.path("vendor"));
    let (url, asked) = serve(content, usize::MAX);
    asks_for(&nas, &url, 1 << 55, &sum);
    let answer = nas.try_hook("postinst", "INSTALL", &[]);
    assert_eq!(answer.code, 1);
    assert!(
        nas.message().contains("upstream.tgz needs 34359738368 MiB, and "),
        "{}",
        nas.message()
    );
    assert!(nas.message().contains("what to do: free "), "{}", nas.message());
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
fn what_is_not_what_the_packager_saw_is_not_installed() {
    let mut nas = Nas::empty(7);
    let (mut content, sum) = upstream(&nas.path("vendor"));
    content[100] ^= 1;
    let (url, _) = serve(content.clone(), usize::MAX);
    asks_for(&nas, &url, content.len(), &sum);
    let answer = nas.try_hook("postinst", "INSTALL", &[]);
    assert_eq!(answer.code, 1);
    assert!(answer.said.contains("hash differs"), "{}", answer.said);
    assert!(!program(&nas).exists());
}
