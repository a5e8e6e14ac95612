//! Who is asking, and under which name the depot was asked: from the connection, or from a proxy
//! in front of it when the keeper trusts that one.

use axum::http::{HeaderMap, header};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A host's name in a request is not longer than this.
const HOST_BYTES_MAX: usize = 255;
/// Hops of a chain of proxies that are looked at.
const HOPS_MAX: usize = 16;

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    first: u128,
    bits: u32,
}

impl Net {
    /// Whether the address is one of them.
    pub fn has(&self, address: IpAddr) -> bool {
        let difference = self.first ^ number(address);
        self.bits == 0 || difference >> (128 - self.bits) == 0
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let wrong = || format!("`{text}` is neither an address nor a net such as 10.0.0.0/8");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(whole), str::parse::<u32>).map_err(|_| wrong())?;
        if bits > whole {
            return Err(wrong());
        }
        Ok(Self { first: number(address), bits: bits + 128 - whole })
    }
}

/// An address as a number; one of IPv4 as IPv6 writes it.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Which proxies are believed.
#[derive(Debug, Clone, Default)]
pub struct Proxies(pub Vec<Net>);

impl Proxies {
    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.has(address))
    }

    /// Who really asks: the last hop that is no trusted proxy.
    pub fn asker(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let mut asker = peer.address.ip();
        let hops = headers.get_all("x-forwarded-for").iter().rev();
        let hops = hops.filter_map(|value| value.to_str().ok()).flat_map(|text| text.rsplit(','));
        for hop in hops.take(HOPS_MAX) {
            match hop.trim().parse() {
                Ok(address) if self.trusts(asker) => asker = address,
                _ => break,
            }
        }
        asker
    }

    /// The scheme and host the depot was asked by; no host when none was named, or a strange one.
    pub fn asked_by(&self, peer: Peer, headers: &HeaderMap) -> (&'static str, Option<String>) {
        let last = |name: &str| {
            let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
            Some(value.rsplit(',').next()?.trim().to_owned())
        };
        let is_believed = self.trusts(peer.address.ip());
        let forwarded = |name| last(name).filter(|_| is_believed);
        let is_tls = match forwarded("x-forwarded-proto") {
            Some(scheme) => scheme.eq_ignore_ascii_case("https"),
            None => peer.is_tls,
        };
        let host = forwarded("x-forwarded-host").or_else(|| last(header::HOST.as_str()));
        (if is_tls { "https" } else { "http" }, host.filter(|host| is_host(host)))
    }
}

/// A name or address with an optional port, and nothing that could become part of a path.
fn is_host(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_net_is_its_first_bits_and_nothing_else() {
        for (net, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.168.1.5", "192.168.1.5", "192.168.1.4"),
            ("::1", "::1", "::2"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "128.0.0.1"),
        ] {
            let net: Net = net.parse().unwrap();
            assert!(net.has(inside.parse().unwrap()), "{inside}");
            assert!(!net.has(outside.parse().unwrap()), "{outside}");
        }
        for wrong in ["", "10.0.0.0/33", "x", "10.0.0.0/-1", "::/129"] {
            assert!(wrong.parse::<Net>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_says_who_asks_and_by_which_name() {
        let peer =
            |ip: &str| Peer { address: SocketAddr::new(ip.parse().unwrap(), 9), is_tls: false };
        let proxies = Proxies(vec!["127.0.0.0/8".parse().unwrap(), "10.0.0.2".parse().unwrap()]);
        let said = headers(&[
            ("host", "inner:8484"),
            ("x-forwarded-host", "depot.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "6.6.6.6, 203.0.113.7, 10.0.0.2"),
        ]);
        assert_eq!(proxies.asker(peer("127.0.0.1"), &said).to_string(), "203.0.113.7");
        let host = |name: &str| Some(name.to_owned());
        assert_eq!(proxies.asked_by(peer("127.0.0.1"), &said), ("https", host("depot.example")));
        assert_eq!(proxies.asker(peer("198.51.100.1"), &said).to_string(), "198.51.100.1");
        assert_eq!(proxies.asked_by(peer("198.51.100.1"), &said), ("http", host("inner:8484")));
        let none = headers(&[("host", "a/../b")]);
        assert_eq!(proxies.asked_by(peer("127.0.0.1"), &none), ("http", None));
    }
}
