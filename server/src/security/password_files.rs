//! Passwords out of files: those that a node is started with, and whatever else a password comes from.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::password::{PASSWORD_BYTES, Password};

/// Why a password file has no password.
#[derive(Debug, thiserror::Error)]
#[error("the password of user {user:?} cannot be taken from {path}: {reason}")]
pub struct PasswordFileError {
    user: String,
    path: PathBuf,
    reason: String,
}

/// The password of each user: what is in the file, without the end of its last line.
pub(super) fn read(
    users: &[(String, PathBuf)],
) -> Result<Vec<(String, Password)>, PasswordFileError> {
    let read = users.iter().map(|(user, path)| match password(path) {
        Ok(password) => Ok((user.clone(), password)),
        Err(reason) => Err(PasswordFileError {
            user: user.clone(),
            path: path.clone(),
            reason,
        }),
    });
    read.collect()
}

/// The password in a file.
///
/// # Errors
/// Why there is none, for people.
pub fn password(path: &Path) -> Result<Password, String> {
    take(File::open(path).map_err(|error| error.to_string())?)
}

/// The password that comes from somewhere: all of it, without the end of its last line.
///
/// # Errors
/// Why there is none, for people.
pub fn take(from: impl Read) -> Result<Password, String> {
    // One more than there may be, and the end of its line: in a buffer that never grows, which
    // would leave copies behind.
    let most = PASSWORD_BYTES + 3;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    let mut from = from.take(most as u64);
    from.read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    let found = match bytes.len() {
        0 => "nothing",
        length if length > PASSWORD_BYTES => "more",
        _ => return Ok(bytes),
    };
    Err(format!(
        "1 to {PASSWORD_BYTES} bytes are possible, and there is {found}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_what_is_in_the_file_without_the_end_of_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let users = [("alice".to_owned(), path.clone())];
        let take = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let taken = read(&users).map_err(|error| error.to_string());
            taken.map(|mut users| String::from_utf8(users.remove(0).1.to_vec()).unwrap())
        };
        assert_eq!(take("secret\n").unwrap(), "secret");
        assert_eq!(take(" a b\r\n").unwrap(), " a b");
        let refused = take("\n").unwrap_err();
        assert!(
            refused.contains("alice") && refused.contains("there is nothing"),
            "{refused}"
        );
        let longest = "x".repeat(PASSWORD_BYTES);
        assert_eq!(take(&format!("{longest}\r\n")).unwrap(), longest);
        for more in [format!("{longest}x"), format!("{longest}\n\n\n")] {
            let refused = take(&more).unwrap_err();
            assert!(refused.contains("there is more"), "{refused}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(read(&users).is_err());
    }
}
