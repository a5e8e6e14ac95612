//! `holdfast console`: the addresses that let their reader into the web console.
//!
//! The token stands in an address's fragment, the part after `#`, which browsers send to nobody:
//! it is in no log of a server or proxy.

use crate::arguments;
use crate::control_client::ControlClient;
use crate::failure::Failure;
use crate::world::World;
use engine_contract::console::{Listen, PORT};
use engine_contract::control::{ChangeConsole, ConsoleAccess, ConsolePlace};
use hyper::Method;
use serde_json::json;
use std::net::{IpAddr, UdpSocket};
use std::process::ExitCode;

/// Prints where the console is, after moving it if that was asked.
pub fn run(
    world: &World,
    client: &ControlClient,
    wanted: &arguments::Console,
) -> Result<ExitCode, Failure> {
    let change = ChangeConsole { listen: wanted.listen, new_token: wanted.new_token };
    let access: ConsoleAccess = if change.listen.is_some() || change.new_token {
        client.ask(Method::POST, "/v1/console", &change)?
    } else {
        client.ask(Method::GET, "/v1/console", &())?
    };
    let hosts = hosts(world, &access.place);
    let urls: Vec<String> = hosts.iter().map(|host| url(host, &access)).collect();
    let shown = json!({
        "port": access.place.port,
        "usual_port": PORT,
        "address": access.place.address,
        "wanted": access.place.wanted,
        "trouble": access.place.trouble,
        "token": access.token,
        "urls": urls,
    });
    world.say(&shown, || text(&access.place, &urls));
    Ok(ExitCode::SUCCESS)
}

fn text(place: &ConsolePlace, urls: &[String]) -> String {
    let mut lines = Vec::new();
    if let Some(trouble) = &place.trouble {
        lines.push(trouble.clone());
    }
    if urls.is_empty() {
        if place.trouble.is_none() {
            let usual = "`holdfast console --listen everywhere` switches it on";
            lines.push(format!("the console is switched off; {usual}"));
        }
        return lines.join("\n");
    }
    lines.push("Open one of these addresses in a browser:".to_owned());
    lines.extend(urls.iter().map(|url| format!("  {url}")));
    lines.push(
        "What follows # is the token: it lets its reader in, and the browser keeps it, so that \
         this is needed once. A new one: `holdfast console --new-token`."
            .to_owned(),
    );
    if place.port != Some(PORT) && place.trouble.is_none() {
        lines.push(format!("The icon on DSM's desktop leads to port {PORT}, and so not here."));
    }
    lines.join("\n")
}

fn url(host: &str, access: &ConsoleAccess) -> String {
    let port = access.place.port.unwrap_or(PORT);
    format!("http://{host}:{port}/#token={}", access.token.as_str())
}

/// The console's place in one line, for `holdfast status`.
pub fn place_text(place: &ConsolePlace) -> String {
    match (&place.trouble, place.port) {
        (Some(trouble), _) => trouble.clone(),
        (None, Some(port)) => format!("port {port}; `holdfast console` prints its address"),
        (None, None) => "switched off".to_owned(),
    }
}

/// How this computer is called by others, as far as it knows.
fn hosts(world: &World, place: &ConsolePlace) -> Vec<String> {
    let Some(address) = place.address.filter(|_| place.wanted != Listen::Off) else {
        return Vec::new();
    };
    if !address.is_unspecified() {
        return vec![in_a_url(address)];
    }
    let is_plain = |name: &str| {
        name != "localhost" && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
    };
    let name = Some(world.hostname.clone()).filter(|name| is_plain(name));
    let own = addresses().into_iter().filter(|own| own.is_ipv4() || address.is_ipv6());
    let mut hosts: Vec<String> = name.into_iter().chain(own.map(in_a_url)).collect();
    if hosts.is_empty() {
        hosts.push("127.0.0.1".to_owned());
    }
    hosts
}

fn in_a_url(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The addresses of this computer towards the rest of the network. A socket for datagrams learns
/// its own when it is told where to, and sends nothing for that; where to is nobody's address.
fn addresses() -> Vec<IpAddr> {
    let towards = |own: &str, other: &str| {
        let socket = UdpSocket::bind(own).ok()?;
        socket.connect(other).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let found = [towards("0.0.0.0:0", "192.0.2.1:9"), towards("[::]:0", "[2001:db8::1]:9")];
    found.into_iter().flatten().filter(is_of_use).collect()
}

/// Not one that needs the name of an interface beside it.
fn is_of_use(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: Option<u16>, trouble: Option<&str>) -> ConsolePlace {
        ConsolePlace {
            wanted: Listen::default(),
            address: port.map(|_| "::".parse().unwrap()),
            port,
            trouble: trouble.map(str::to_owned),
        }
    }

    #[test]
    fn a_console_that_is_elsewhere_says_so_and_one_that_is_off_how_to_switch_it_on() {
        let urls = ["http://nas:8043/#token=x".to_owned()];
        assert!(!text(&place(Some(PORT), None), &urls).contains("icon"));
        assert!(text(&place(Some(8043), None), &urls).contains("icon on DSM's desktop"));
        assert!(text(&place(None, None), &[]).contains("--listen everywhere"));
        assert_eq!(text(&place(None, Some("all taken")), &[]), "all taken");
        assert_eq!(place_text(&place(Some(4244), Some("4243 is taken"))), "4243 is taken");
    }

    #[test]
    fn an_address_of_ipv6_stands_in_brackets() {
        assert_eq!(in_a_url("fd00::5".parse().unwrap()), "[fd00::5]");
        assert!(!is_of_use(&"fe80::1".parse().unwrap()));
        assert!(!addresses().iter().any(IpAddr::is_loopback));
    }
}
