//! The password that a user is given: out of a file, of standard input, or typed at a terminal,
//! which does not show it. Never an argument, which everybody on the machine could read.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::security::Password;
use crate::security::password::PASSWORD_BYTES;
use crate::security::password_files;

/// What Ctrl-C types.
const INTERRUPT: u8 = 0x03;

/// The password for a user.
///
/// # Errors
/// When there is none where it should be.
pub(super) fn password(user: &str, file: Option<&str>) -> Result<Password, Failure> {
    if let Some(path) = file {
        let read = password_files::password(Path::new(path));
        return read.map_err(|reason| {
            Failure::WrongUse(format!(
                "--password-file {path:?} has no password: {reason}"
            ))
        });
    }
    let input = io::stdin();
    if input.is_terminal() {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
        return typed_twice(&terminal.map_err(at_terminal)?, user);
    }
    password_files::take(input.lock()).map_err(|reason| {
        Failure::WrongUse(format!(
            "standard input has no password: {reason}; it can also be in a file: --password-file"
        ))
    })
}

fn typed_twice(terminal: &File, user: &str) -> Result<Password, Failure> {
    let first = typed(terminal, &format!("Password for {user}: "))?;
    let second = typed(terminal, "Once more: ")?;
    if first != second {
        let what = "what was typed is not twice the same; nothing was changed";
        return Err(Failure::WrongUse(what.to_owned()));
    }
    Ok(first)
}

/// A line from a terminal.
fn typed(mut terminal: &File, prompt: &str) -> Result<Password, Failure> {
    let _hidden = Hidden::new(terminal).map_err(|error| at_terminal(error.into()))?;
    terminal.write_all(prompt.as_bytes()).map_err(at_terminal)?;
    let mut line = Zeroizing::new([0; PASSWORD_BYTES + 1]);
    let mut length = 0;
    loop {
        // The terminal gives a line at a time; less where somebody says that it ends (Ctrl-D).
        let read = terminal.read(&mut line[length..]).map_err(at_terminal)?;
        length += read;
        let is_over = line[..length].ends_with(b"\n");
        if is_over || read == 0 || line[..length].contains(&INTERRUPT) {
            break;
        }
    }
    let line = &line[..length];
    let Some(password) = line.strip_suffix(b"\n") else {
        // The terminal did not go to the next line by itself.
        terminal.write_all(b"\n").map_err(at_terminal)?;
        let what = match length {
            length if length > PASSWORD_BYTES => {
                format!("a password has at most {PASSWORD_BYTES} bytes; nothing was changed")
            }
            _ => "no password was typed; nothing was changed".to_owned(),
        };
        return Err(Failure::WrongUse(what));
    };
    if password.is_empty() || password.iter().any(u8::is_ascii_control) {
        let what = "a typed password is one character or more, and none that controls a terminal; \
                    nothing was changed";
        return Err(Failure::WrongUse(what.to_owned()));
    }
    Ok(Zeroizing::new(password.to_vec()))
}

fn at_terminal(error: io::Error) -> Failure {
    Failure::Io {
        what: "asking for the password at the terminal",
        error,
    }
}

/// A terminal that does not show what is typed, until this goes.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl Hidden<'_> {
    fn new(terminal: &File) -> rustix::io::Result<Hidden<'_>> {
        let before = tcgetattr(terminal)?;
        let mut modes = before.clone();
        // Ctrl-C ends the line in place of the process, which would leave the terminal as it is here.
        modes
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ISIG);
        modes
            .local_modes
            .insert(LocalModes::ICANON | LocalModes::ECHONL);
        modes.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        // What was typed before it was asked for was seen: it is forgotten.
        tcsetattr(terminal, OptionalActions::Flush, &modes)?;
        Ok(Hidden { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // What is left of a line that was too long is no command for a shell. A terminal that is gone
        // needs nothing.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// A terminal, and whoever sits at it.
    fn terminal() -> (File, File) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let mut options = OpenOptions::new();
        let terminal = options.read(true).write(true).open(name.to_str().unwrap());
        (terminal.unwrap(), File::from(person))
    }

    /// Reads what the terminal shows until that ends so.
    fn shown(person: &mut File, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            let mut byte = [0];
            person.read_exact(&mut byte).unwrap();
            text.push(char::from(byte[0]));
        }
        text
    }

    /// What comes of answers to both questions, and what was shown meanwhile.
    fn asked(first: &[u8], second: &[u8]) -> (Result<String, String>, String) {
        let (terminal, mut person) = terminal();
        let before = tcgetattr(&terminal).unwrap();
        let (asking, end) = (terminal.try_clone().unwrap(), terminal.try_clone().unwrap());
        let command = thread::spawn(move || {
            let taken = typed_twice(&asking, "ann");
            (&end).write_all(b"<over>").unwrap();
            let taken = taken.map(|taken| String::from_utf8(taken.to_vec()).unwrap());
            taken.map_err(|failure| failure.to_string())
        });
        let mut seen = shown(&mut person, "Password for ann: ");
        person.write_all(first).unwrap();
        if !second.is_empty() {
            seen += &shown(&mut person, "Once more: ");
            person.write_all(second).unwrap();
        }
        seen += &shown(&mut person, "<over>");
        let after = tcgetattr(&terminal).unwrap();
        assert_eq!(after.local_modes, before.local_modes, "as it was before");
        (command.join().unwrap(), seen)
    }

    #[test]
    fn a_password_is_typed_twice_and_never_shown() {
        let (taken, seen) = asked(b"secreX\x7ft\n", b"secret\n");
        assert_eq!(taken.unwrap(), "secret");
        assert_eq!(seen, "Password for ann: \r\nOnce more: \r\n<over>");
        let (taken, _) = asked(b"secret\n", b"secreT\n");
        assert!(taken.unwrap_err().contains("not twice the same"));
    }

    #[test]
    fn what_is_no_password_changes_nothing_and_the_terminal_shows_again() {
        // Ctrl-C in the middle of it, Ctrl-D at its begin, nothing, Ctrl-Z within.
        for (typed, said) in [
            (&b"half\x03"[..], "no password was typed"),
            (b"\x04", "no password was typed"),
            (b"\n", "one character or more"),
            (b"a\x1ab\n", "none that controls a terminal"),
        ] {
            let (taken, seen) = asked(typed, b"");
            let refused = taken.unwrap_err();
            assert!(refused.contains(said), "{typed:?}: {refused}");
            assert!(!seen.contains("half"), "{seen}");
        }
        let long = [&b"x".repeat(PASSWORD_BYTES + 1)[..], b"\n"].concat();
        let (taken, _) = asked(&long, b"");
        assert!(taken.unwrap_err().contains("at most 1024 bytes"));
    }

    #[test]
    fn a_file_without_a_password_is_named() {
        let refused = password("ann", Some("/no/such/file")).unwrap_err();
        assert!(matches!(refused, Failure::WrongUse(_)));
        assert!(refused.to_string().contains("/no/such/file"), "{refused}");
    }
}
