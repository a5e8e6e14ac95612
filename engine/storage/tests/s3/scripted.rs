//! A service that answers as a test tells it to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// With the question, which holds the signature.
    pub target: String,
    /// Lower case, one line each.
    pub head: String,
    pub body: Vec<u8>,
}

/// What was asked so far.
pub type Heard = Arc<Mutex<Vec<Asked>>>;

/// Starts it: where it listens, and what it hears. An empty answer hangs up; so does one whose
/// request asks for it by ending in the middle of the body.
pub fn serve(answer: impl Fn(&Asked, usize) -> String + Send + 'static) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heard = Heard::default();
    let hears = heard.clone();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            if let Some(asked) = hear(&mut client) {
                let number = hears.lock().unwrap().len();
                let said = answer(&asked, number);
                hears.lock().unwrap().push(asked);
                let _ = client.write_all(said.as_bytes());
            }
            let _ = client.shutdown(Shutdown::Both);
        }
    });
    (url, heard)
}

fn hear(client: &mut TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines.first()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let head = lines[1..].join("\n").to_ascii_lowercase();
    if head.contains("expect: 100-continue") {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, target, head, body })
}

/// An answer with a body.
pub fn http(head: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A refusal as services write it.
pub fn refusal(status: &str, code: &str) -> String {
    http(status, &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>"))
}
