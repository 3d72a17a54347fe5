//! The password files that a node is started with.

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

fn password(path: &Path) -> Result<Password, String> {
    let mut bytes = Zeroizing::new(std::fs::read(path).map_err(|error| error.to_string())?);
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    if (1..=PASSWORD_BYTES).contains(&bytes.len()) {
        Ok(bytes)
    } else {
        Err(format!(
            "it has {} bytes; 1 to {PASSWORD_BYTES} are possible",
            bytes.len()
        ))
    }
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
            refused.contains("alice") && refused.contains("0 bytes"),
            "{refused}"
        );
        assert!(take(&"x".repeat(PASSWORD_BYTES + 1)).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(read(&users).is_err());
    }
}
