//! Host and port into a socket address, and the rule that nothing listens beyond this machine
//! by accident.

use std::net::{SocketAddr, ToSocketAddrs};

use super::layers::{ConfigError, Layers};

/// The address that a setting names. Of several that a host name has, an IPv4 one is taken
/// first.
///
/// # Errors
/// When it is no address, or none of this name is known; when it is reachable from other
/// machines and `insecure` is not set.
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
    let Some(address) = found.first() else {
        return Err(layers.refuse(name, "this host name has no address".to_owned()));
    };
    if !address.ip().is_loopback() && !layers.switch("insecure") {
        return Err(layers.refuse(
            name,
            "this address can be reached from other machines, and this version has no \
             authentication: whoever reaches it could read and write everything. Listen on \
             127.0.0.1, or say --insecure if the network keeps others out"
                .to_owned(),
        ));
    }
    Ok(*address)
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
    fn an_address_beyond_loopback_is_refused_unless_insecure_is_said() {
        let refused = address(&["--kafka-addr", "0.0.0.0:9092"])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("--insecure") && refused.contains("no authentication"));
        assert!(address(&["--kafka-addr", "[::]:9092"]).is_err());
        address(&["--kafka-addr", "0.0.0.0:9092", "--insecure"]).unwrap();
        address(&["--kafka-addr", "[::1]:9092"]).unwrap();
        assert_eq!(address(&[]).unwrap().port(), 9092);
        assert!(address(&["--kafka-addr", "localhost"]).is_err());
    }

    #[test]
    fn a_name_is_resolved_to_ipv4_first() {
        let found = address(&["--kafka-addr", "localhost:0"]).unwrap();
        assert!(found.ip().is_loopback() && found.is_ipv4());
    }
}
