//! A line to an object store on which something happens: it forgets conditions, or after so many
//! writes it is cut and whoever was writing is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// What happens on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Happens {
    /// The store is told of no condition.
    ForgetsConditions,
    /// After this many writes the store hears nothing more, and nobody is answered.
    IsCutAfter(usize),
}

/// A running line; it goes on until the test ends.
pub struct Line {
    pub url: String,
    /// Says once that it was cut.
    pub cut: Receiver<()>,
    side: Arc<Side>,
}

struct Side {
    store: String,
    happens: Happens,
    writes: AtomicUsize,
    cut: Mutex<Sender<()>>,
    written: Mutex<String>,
}

impl Line {
    /// A line to the store at that address.
    pub fn to(store: &str, happens: Happens) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, cut) = channel();
        let (store, writes) = (store.to_owned(), AtomicUsize::new(0));
        let (cut_here, written) = (Mutex::new(sender), Mutex::default());
        let side = Arc::new(Side { store, happens, writes, cut: cut_here, written });
        let ours = side.clone();
        std::thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let side = side.clone();
                // A caller who is killed ends the conversation, which is what is wanted.
                std::thread::spawn(move || side.carry(caller));
            }
        });
        Self { url, cut, side: ours }
    }

    /// The path of the last object that was written.
    #[allow(dead_code, reason = "not every test asks")]
    pub fn written_last(&self) -> String {
        self.side.written.lock().unwrap().clone()
    }
}

impl Side {
    /// Carries one request there, and its answer back.
    fn carry(&self, caller: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(caller.try_clone()?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let field = |line: &str, name: &str| line.to_lowercase().starts_with(&format!("{name}:"));
        let length = head.lines().find(|line| field(line, "content-length"));
        let length = length.map_or(0, |line| line[15..].trim().parse().unwrap());
        let mut body = Vec::new();
        reader.take(length).read_to_end(&mut body)?;
        let is_write = head.starts_with("PUT ");
        let before = if is_write { self.writes.fetch_add(1, Ordering::SeqCst) } else { 0 };
        if let Happens::IsCutAfter(writes) = self.happens
            && self.writes.load(Ordering::SeqCst) > writes
        {
            if is_write && before == writes {
                let _ = self.cut.lock().unwrap().send(());
            }
            // Held, so that the writer waits until it is killed.
            let mut rest = [0];
            let _ = (&caller).read(&mut rest);
            return Ok(());
        }
        if is_write {
            let path = head.split(['?', ' ']).nth(1).unwrap();
            self.written.lock().unwrap().replace_range(.., path);
        }
        let forgets = self.happens == Happens::ForgetsConditions;
        let stays = |line: &&str| {
            let is_condition = field(line, "if-match") || field(line, "if-none-match");
            let is_ours = line.is_empty() || field(line, "connection");
            !is_ours && (!forgets || !is_condition)
        };
        let head: String = head.lines().filter(stays).map(|line| format!("{line}\r\n")).collect();
        let mut store = TcpStream::connect(&self.store)?;
        store.write_all(head.as_bytes())?;
        store.write_all(b"Connection: close\r\n\r\n")?;
        store.write_all(&body)?;
        let mut caller = caller;
        std::io::copy(&mut store, &mut caller).map(drop)
    }
}
