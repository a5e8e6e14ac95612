//! How much one asker may ask: so many requests a minute, with a reserve for a burst.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Askers remembered at one time; beyond it the quietest are forgotten.
const ASKERS_MAX: usize = 4096;
/// After this an asker's reserve is full again, and it can be forgotten.
const MINUTE: Duration = Duration::from_secs(60);

/// The table of who asked lately.
#[derive(Debug)]
pub struct Limits {
    per_minute: u32,
    askers: Mutex<HashMap<IpAddr, Reserve>>,
}

#[derive(Debug, Clone, Copy)]
struct Reserve {
    left: f64,
    at: Instant,
}

impl Limits {
    /// So many requests a minute for each asker; with 0 there is no limit.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, askers: Mutex::default() }
    }

    /// Whether the asker may ask now. Nothing is remembered of it but how much it may still ask.
    pub fn allow(&self, asker: IpAddr, now: Instant) -> bool {
        if self.per_minute == 0 {
            return true;
        }
        let full = f64::from(self.per_minute);
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        if askers.len() >= ASKERS_MAX {
            askers.retain(|_, reserve| now.duration_since(reserve.at) < MINUTE);
        }
        if askers.len() >= ASKERS_MAX {
            // Rather let some ask twice as much than refuse who asks for the first time.
            askers.clear();
        }
        let reserve = askers.entry(network(asker)).or_insert(Reserve { left: full, at: now });
        let passed = now.duration_since(reserve.at).as_secs_f64() / MINUTE.as_secs_f64();
        reserve.left = (reserve.left + passed * full).min(full);
        reserve.at = now;
        let is_allowed = reserve.left >= 1.0;
        if is_allowed {
            reserve.left -= 1.0;
        }
        is_allowed
    }
}

/// Who has one address of IPv6 has 2^64 of them.
fn network(asker: IpAddr) -> IpAddr {
    match asker {
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_much_waits_and_nobody_else_does() {
        let limits = Limits::new(3);
        let begin = Instant::now();
        let ask = |who: &str, seconds| {
            limits.allow(who.parse().unwrap(), begin + Duration::from_secs(seconds))
        };
        assert_eq!([(); 4].map(|()| ask("2001:db8::1", 0)), [true, true, true, false]);
        assert!(!ask("2001:db8::2", 0), "it is in the same network");
        assert!(ask("192.0.2.1", 0));
        assert!(ask("2001:db8::1", 20));
        assert!(!ask("2001:db8::1", 20));
    }

    #[test]
    fn however_many_ask_the_table_stays_small() {
        let limits = Limits::new(1);
        let now = Instant::now();
        for asker in 0..3 * u32::try_from(ASKERS_MAX).unwrap() {
            assert!(limits.allow(IpAddr::V4(asker.into()), now));
        }
        assert!(limits.askers.lock().unwrap().len() <= ASKERS_MAX);
    }
}
