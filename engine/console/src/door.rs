//! Taking a port: the one that is wanted or the next free one, for IPv6 and IPv4 alike.
//!
//! What cannot be had is an error with a remedy and nothing worse: whoever asks goes on without.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// So many ports are tried, from the wanted one upwards.
pub const PORTS_TRIED_MAX: u16 = 16;

/// Connections that wait to be taken, in the kernel.
const WAITING_MAX: i32 = 32;

/// A port that is ours.
#[derive(Debug)]
pub struct Door {
    pub(crate) listener: TcpListener,
    /// The address and port that are listened at.
    pub address: SocketAddr,
}

/// Why no port could be taken.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Others have them all.
    #[error("ports {first} to {last} are all taken by other programs")]
    AllTaken {
        /// The wanted one.
        first: u16,
        /// The last one tried.
        last: u16,
    },
    /// The system does not allow it.
    #[error("{address} cannot be listened at")]
    Refused {
        /// What was tried.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl OpenError {
    /// What its owner can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::AllTaken { .. } => "end one of them, or choose another port: \
                 `holdfast console --listen ADDRESS:PORT`"
                .to_owned(),
            Self::Refused { cause, .. } if cause.kind() == ErrorKind::PermissionDenied => {
                "choose a port from 1024 on".to_owned()
            }
            Self::Refused { .. } => "`holdfast console --listen everywhere` listens at all \
                 addresses this computer has"
                .to_owned(),
        }
    }
}

/// Takes the wanted port, or the next free one above it. Port 0 is any that is free.
pub fn open(wanted: SocketAddr) -> Result<Door, OpenError> {
    open_by(wanted, bind)
}

fn open_by(
    wanted: SocketAddr,
    bind: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> Result<Door, OpenError> {
    let mut ip = wanted.ip();
    let mut last = wanted.port();
    for step in 0..PORTS_TRIED_MAX {
        let Some(port) = wanted.port().checked_add(step) else { break };
        last = port;
        let mut bound = bind(SocketAddr::new(ip, port));
        if ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && bound.as_ref().is_err_and(is_not_taken) {
            // A kernel without IPv6.
            ip = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            bound = bind(SocketAddr::new(ip, port));
        }
        let address = SocketAddr::new(ip, port);
        match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((address, listener)) => return Ok(Door { listener, address }),
            Err(cause) if is_not_taken(&cause) => {
                return Err(OpenError::Refused { address, cause });
            }
            Err(_) => (),
        }
    }
    Err(OpenError::AllTaken { first: wanted.port(), last })
}

fn is_not_taken(error: &io::Error) -> bool {
    error.kind() != ErrorKind::AddrInUse
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Whatever the system's default is: `::` means both.
        socket.set_only_v6(false)?;
    }
    // A daemon that is started again must not wait until the kernel forgot old connections.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(WAITING_MAX)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const EVERYWHERE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    fn somewhere() -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
    }

    /// Opens in a world where `answer` decides; the addresses that were tried.
    fn tried(
        wanted: SocketAddr,
        answer: impl Fn(SocketAddr) -> io::Result<TcpListener>,
    ) -> (Result<Door, OpenError>, Vec<String>) {
        let tried = RefCell::new(Vec::new());
        let opened = open_by(wanted, |address| {
            tried.borrow_mut().push(address.to_string());
            answer(address)
        });
        (opened, tried.into_inner())
    }

    #[test]
    fn a_taken_port_leads_to_the_next_and_never_on_for_ever() {
        let taken = || Err(io::Error::from(ErrorKind::AddrInUse));
        let wanted = SocketAddr::new(EVERYWHERE, 4243);
        let (opened, way) =
            tried(wanted, |at| if at.port() < 4245 { taken() } else { bind(somewhere()) });
        assert!(opened.is_ok());
        assert_eq!(way, ["[::]:4243", "[::]:4244", "[::]:4245"]);
        let (opened, way) = tried(wanted, |_| taken());
        assert_eq!(
            opened.unwrap_err().to_string(),
            "ports 4243 to 4258 are all taken by other programs"
        );
        assert_eq!(way.len(), usize::from(PORTS_TRIED_MAX));
        let (opened, way) = tried(SocketAddr::new(EVERYWHERE, 65534), |_| taken());
        assert!(opened.is_err() && way.len() == 2, "there is no port 65536");
    }

    #[test]
    fn without_ipv6_it_is_ipv4_and_what_the_system_forbids_is_said_with_a_remedy() {
        let wanted = SocketAddr::new(EVERYWHERE, 4243);
        let none = |at: SocketAddr| {
            if at.is_ipv6() {
                Err(io::Error::from(ErrorKind::Unsupported))
            } else if at.port() == 4243 {
                Err(io::Error::from(ErrorKind::AddrInUse))
            } else {
                bind(somewhere())
            }
        };
        let (opened, way) = tried(wanted, none);
        assert!(opened.is_ok());
        assert_eq!(way, ["[::]:4243", "0.0.0.0:4243", "0.0.0.0:4244"]);
        let foreign = SocketAddr::new([192, 0, 2, 1].into(), 4243);
        let refused = tried(foreign, |_| Err(io::Error::from(ErrorKind::AddrNotAvailable)));
        assert_eq!(refused.1.len(), 1);
        assert!(refused.0.unwrap_err().remedy().contains("everywhere"));
    }

    #[test]
    fn one_port_is_reached_by_both_kinds_of_address_and_not_given_twice() {
        let door = open(SocketAddr::new(EVERYWHERE, 0)).unwrap();
        let port = door.address.port();
        assert_ne!(port, 0);
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        if door.address.is_ipv6() {
            std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
        let other = open(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).unwrap();
        assert_ne!(other.address.port(), port);
    }
}
