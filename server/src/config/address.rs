//! Host and port into a socket address.

use std::net::{SocketAddr, ToSocketAddrs};

use super::layers::{ConfigError, Layers};

/// The address that a setting names. Of several that a host name has, an IPv4 one is taken
/// first.
///
/// # Errors
/// When it is no address, or none of this name is known.
pub fn listening_address(layers: &Layers, name: &'static str) -> Result<SocketAddr, ConfigError> {
    let text = layers.text(name).unwrap_or_default();
    let mut found: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|error| {
            layers.refuse(
                name,
                format!("host:port is expected, such as 127.0.0.1:9092 ({error})"),
            )
        })?
        .collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
        .first()
        .copied()
        .ok_or_else(|| layers.refuse(name, "this host name has no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::super::options::add_flags;
    use super::*;

    fn address(arguments: &[&str]) -> Result<SocketAddr, ConfigError> {
        let command = add_flags(Command::new("serve"));
        let all = std::iter::once(&"serve").chain(arguments);
        let flags = command.try_get_matches_from(all).unwrap();
        listening_address(&Layers::read(&flags, |_| None, None).unwrap(), "kafka_addr")
    }

    #[test]
    fn a_name_is_resolved_to_ipv4_first() {
        let found = address(&["--kafka-addr", "localhost:0"]).unwrap();
        assert!(found.ip().is_loopback() && found.is_ipv4());
        assert_eq!(address(&[]).unwrap().port(), 9092);
        assert!(address(&["--kafka-addr", "localhost"]).is_err());
    }
}
