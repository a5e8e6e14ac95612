//! A line between us and a server that breaks, again and again.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Passes bytes on to a server and cuts every connection: most after few bytes, one of nine after
/// more. In either direction: at times before the request was read whole, at
/// times after it was obeyed and before the answer came.
pub struct BadLine {
    /// Where to connect to.
    pub address: SocketAddr,
    cuts: Arc<AtomicUsize>,
}

impl BadLine {
    /// Most connections last for about `few` bytes, one of nine for about `more`.
    pub fn to(server: SocketAddr, few: usize, more: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = cuts.clone();
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                let Ok(upstream) = TcpStream::connect(server) else { return };
                let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
                let mut chance = number.wrapping_mul(0x9e37_79b9) >> 7;
                let bytes_max = if number % 9 == 0 { more } else { few };
                let mut cut_after = || {
                    chance = chance.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
                    bytes_max * 3 / 4 + chance % bytes_max
                };
                let (up, down) = (cut_after(), cut_after());
                pass(client.try_clone().unwrap(), upstream.try_clone().unwrap(), up, &counted);
                pass(upstream, client, down, &counted);
            }
        });
        Self { address, cuts }
    }

    /// How often it broke.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, bytes_max: usize, cuts: &Arc<AtomicUsize>) {
    let cuts = cuts.clone();
    std::thread::spawn(move || {
        let (mut left, mut buffer) = (bytes_max, [0; 4096]);
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            let passed = bytes.min(left);
            if to.write_all(&buffer[..passed]).is_err() {
                break;
            }
            left -= passed;
            if left == 0 {
                cuts.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
        let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
    });
}
