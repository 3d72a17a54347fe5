//! Times on the command line: milliseconds since 1970, or RFC 3339.

use std::time::UNIX_EPOCH;

use super::failure::Failure;

/// Milliseconds since 1970 of a time that was given to `flag`.
///
/// # Errors
/// When it is no time.
pub(super) fn milliseconds(flag: &str, text: &str) -> Result<i64, Failure> {
    if let Ok(ms @ 0..) = text.parse() {
        return Ok(ms);
    }
    // Without a zone it is UTC; the hour may be left out.
    let time = humantime::parse_rfc3339_weak(text)
        .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")));
    let since = time
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let ms = since.and_then(|since| i64::try_from(since.as_millis()).ok());
    ms.ok_or_else(|| {
        Failure::WrongUse(format!(
            "{flag} is {text:?}; milliseconds since 1970, or a UTC time such as \
             2026-03-01T12:00:00Z, is expected"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_or_dates() {
        let ms = |text| milliseconds("--from-time", text).unwrap();
        assert_eq!(ms("1700000000000"), 1_700_000_000_000);
        assert_eq!(ms("2023-11-14T22:13:20Z"), 1_700_000_000_000);
        assert_eq!(ms("2023-11-14 22:13:20"), 1_700_000_000_000);
        assert_eq!(ms("1970-01-02"), 86_400_000);
        for wrong in ["", "-5", "yesterday", "2023-13-01"] {
            assert!(milliseconds("--from-time", wrong).is_err(), "{wrong}");
        }
    }
}
