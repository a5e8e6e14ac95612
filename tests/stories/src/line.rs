//! A line to a server on which only so much gets through, and then nothing until it is let.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How much is passed on at once.
const PIECE_BYTES: usize = 16 << 10;

#[derive(Debug, Default)]
struct Passing {
    /// How many bytes may still be sent.
    left: u64,
    /// How many were sent.
    sent: u64,
    /// How many senders wait for more.
    waiting: usize,
    /// How often the line was cut.
    cuts: usize,
}

#[derive(Debug, Default)]
struct Gate {
    passing: Mutex<Passing>,
    changed: Condvar,
}

/// The line. It stays until the story's process ends.
#[derive(Debug)]
pub struct Line {
    address: String,
    gate: Arc<Gate>,
}

impl Line {
    /// A line to the server at `address`, on which nothing gets through yet.
    pub fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("a port").to_string();
        let gate = Arc::new(Gate::default());
        let (shared, server) = (Arc::clone(&gate), address.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, server) = (Arc::clone(&shared), server.clone());
                std::thread::spawn(move || connect(&client, &server, &shared));
            }
        });
        Self { address: own, gate }
    }

    /// Where it begins: host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// So many more bytes get through to the server.
    pub fn lets_through(&self, bytes: u64) {
        let mut passing = self.gate.passing.lock().expect("nobody panicked");
        passing.left = passing.left.saturating_add(bytes);
        drop(passing);
        self.gate.changed.notify_all();
    }

    /// Ends all connections; what did not get through is lost.
    pub fn is_cut(&self) {
        let mut passing = self.gate.passing.lock().expect("nobody panicked");
        passing.left = 0;
        passing.cuts += 1;
        drop(passing);
        self.gate.changed.notify_all();
    }

    /// How many bytes got through to the server.
    pub fn sent(&self) -> u64 {
        self.gate.passing.lock().expect("nobody panicked").sent
    }

    /// Waits until somebody sends and nothing gets through any more.
    ///
    /// # Panics
    /// When that does not happen within five minutes.
    pub fn wait_until_stuck(&self) {
        let passing = self.gate.passing.lock().expect("nobody panicked");
        let (passing, timeout) = self
            .gate
            .changed
            .wait_timeout_while(passing, Duration::from_secs(300), |it| it.waiting == 0)
            .expect("nobody panicked");
        assert!(!timeout.timed_out(), "nobody sends so much: {passing:?}");
    }
}

impl Gate {
    /// How many of so many bytes get through now; none when the line was cut since.
    fn pass(&self, wanted: u64, cuts_before: usize) -> u64 {
        let mut passing = self.passing.lock().expect("nobody panicked");
        passing.waiting += 1;
        while passing.left == 0 && passing.cuts == cuts_before {
            self.changed.notify_all();
            passing = self.changed.wait(passing).expect("nobody panicked");
        }
        passing.waiting -= 1;
        if passing.cuts != cuts_before {
            return 0;
        }
        let bytes = wanted.min(passing.left);
        passing.left -= bytes;
        passing.sent += bytes;
        bytes
    }
}

fn connect(client: &TcpStream, server: &str, gate: &Gate) -> Option<()> {
    let cuts = gate.passing.lock().ok()?.cuts;
    let server = TcpStream::connect(server).ok()?;
    let (mut answers, mut to_client) = (server.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let sent = send(client, &server, gate, cuts);
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    sent
}

fn send(mut client: &TcpStream, mut server: &TcpStream, gate: &Gate, cuts: usize) -> Option<()> {
    let mut piece = [0; PIECE_BYTES];
    loop {
        let count = client.read(&mut piece).ok().filter(|count| *count > 0)?;
        let mut rest = &piece[..count];
        while !rest.is_empty() {
            let passes = usize::try_from(gate.pass(rest.len() as u64, cuts)).ok()?;
            if passes == 0 {
                return None;
            }
            server.write_all(&rest[..passes]).ok()?;
            rest = &rest[passes..];
        }
    }
}
