//! Somebody on the line between a NAS and a depot, who changes one bit of what passes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Requests are short; a longer one is cut off.
const REQUEST_BYTES_MAX: u64 = 1 << 20;

/// What the meddler is after.
#[derive(Debug, Default)]
struct Aim {
    /// Answers to paths that contain this are changed.
    path: Option<String>,
    /// The paths that were asked for.
    seen: Vec<String>,
    /// How many answers were changed.
    changed: usize,
}

/// A proxy that passes everything on, but for one bit of some answers.
#[derive(Debug)]
pub struct Meddler {
    url: String,
    aim: Arc<Mutex<Aim>>,
}

impl Meddler {
    /// Sits down in front of the depot at `depot_url`. It stays until the story's process ends.
    pub fn before(depot_url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("a port"));
        let depot = depot_url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let aim = Arc::new(Mutex::new(Aim::default()));
        let shared = Arc::clone(&aim);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, depot) = (Arc::clone(&shared), depot.clone());
                std::thread::spawn(move || pass_on(client, &depot, &shared));
            }
        });
        Self { url, aim }
    }

    /// Where the NAS believes the depot to be.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on changes answers to paths that contain `path`.
    pub fn aims_at(&self, path: &str) {
        let mut aim = self.aim.lock().expect("nobody panicked");
        *aim = Aim { path: Some(path.to_owned()), ..Aim::default() };
    }

    /// From now on passes everything on as it is.
    pub fn leaves_everything_alone(&self) {
        *self.aim.lock().expect("nobody panicked") = Aim::default();
    }

    /// How many answers were changed since it took aim.
    pub fn changed(&self) -> usize {
        self.aim.lock().expect("nobody panicked").changed
    }

    /// The paths that were asked for since it took aim.
    pub fn seen(&self) -> Vec<String> {
        self.aim.lock().expect("nobody panicked").seen.clone()
    }
}

fn pass_on(mut client: TcpStream, depot: &str, aim: &Mutex<Aim>) -> Option<()> {
    let patience = Some(Duration::from_secs(60));
    client.set_read_timeout(patience).ok()?;
    let (head, body) = request(&mut client)?;
    let path = head.split(' ').nth(1)?.to_owned();
    let mut server = TcpStream::connect(depot).ok()?;
    server.set_read_timeout(patience).ok()?;
    let kept = head.lines().filter(|line| !line.to_lowercase().starts_with("connection:"));
    let mut lines: Vec<&str> = kept.take_while(|line| !line.is_empty()).collect();
    lines.push("Connection: close");
    server.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).ok()?;
    server.write_all(&body).ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    let mut aim = aim.lock().ok()?;
    aim.seen.push(path.clone());
    let start = end_of_head(&answer)?;
    if start < answer.len() && aim.path.as_ref().is_some_and(|wanted| path.contains(wanted)) {
        let middle = start + (answer.len() - start) / 2;
        answer[middle] ^= 1;
        aim.changed += 1;
    }
    drop(aim);
    client.write_all(&answer).ok()
}

fn request(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut client = client.take(REQUEST_BYTES_MAX);
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    let start = loop {
        if let Some(start) = end_of_head(&read) {
            break start;
        }
        match client.read(&mut buffer) {
            Ok(count) if count > 0 => read.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    };
    let head = String::from_utf8_lossy(&read[..start]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = read[start..].to_vec();
    while body.len() < length.unwrap_or(0) {
        match client.read(&mut buffer) {
            Ok(count) if count > 0 => body.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
    Some((head, body))
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}
