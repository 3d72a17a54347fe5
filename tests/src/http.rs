//! A plain HTTP client for the node's health and metrics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};

use crate::deadline::PATIENCE;

/// Status and body of an answer.
///
/// # Errors
/// When none comes within the deadline.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    get_with(address, path, "")
}

/// The same as a user, who proves it by HTTP Basic.
///
/// # Errors
/// When none comes within the deadline.
pub fn get_as(
    address: SocketAddr,
    path: &str,
    user: &str,
    password: &str,
) -> Result<(u16, String)> {
    let said = base64(format!("{user}:{password}").as_bytes());
    get_with(address, path, &format!("Authorization: Basic {said}\r\n"))
}

fn get_with(address: SocketAddr, path: &str, more: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without a head")?;
    let status = head.split(' ').nth(1).context("a head without a status")?;
    Ok((status.parse()?, body.to_owned()))
}

/// One figure of `/metrics`, named with its labels: `ringlog_blocks_total{core="0"}`.
///
/// # Errors
/// When there is no answer, or no such figure in it.
pub fn metric(address: SocketAddr, name: &str) -> Result<f64> {
    let (_, metrics) = get(address, "/metrics")?;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.with_context(|| format!("{name} is not in:\n{metrics}"))?;
    Ok(value.parse()?)
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let six = (bits >> (18 - 6 * place)) & 63;
            let padding = place > three.len();
            text.push(if padding {
                '='
            } else {
                char::from(ALPHABET[six as usize])
            });
        }
    }
    text
}
