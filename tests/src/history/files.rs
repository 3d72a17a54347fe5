//! Reading histories: each client process writes a file of its own.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::event::{Entry, Event};

/// The lines of any number of clients, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    entries: Vec<Entry>,
}

impl History {
    /// From lines that were collected elsewhere: each inner list one client's, in its order.
    #[must_use]
    pub fn of(clients: Vec<Vec<Entry>>) -> History {
        let mut entries = Vec::new();
        for mut client in clients {
            // Threads of one client may take the time in another order than they come to write.
            let mut latest = 0;
            for entry in &mut client {
                latest = latest.max(entry.at);
                entry.at = latest;
            }
            entries.append(&mut client);
        }
        // Stable: what one client wrote in the same microsecond stays in its order.
        entries.sort_by_key(|entry| entry.at);
        History { entries }
    }

    /// Every `*.jsonl` file in a directory.
    ///
    /// # Errors
    /// When one cannot be read, or holds what is no line of a history.
    pub fn in_directory(directory: &Path) -> Result<History> {
        let listed = std::fs::read_dir(directory)
            .with_context(|| format!("listing {}", directory.display()))?;
        let mut paths = Vec::new();
        for entry in listed {
            let path = entry?.path();
            if path.extension().is_some_and(|found| found == "jsonl") {
                paths.push(path);
            }
        }
        paths.sort();
        let clients = paths.iter().map(|path| read(path));
        Ok(History::of(clients.collect::<Result<Vec<_>>>()?))
    }

    /// The lines, by time.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn read(path: &Path) -> Result<Vec<Entry>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    parse(&bytes).with_context(|| format!("in {}", path.display()))
}

/// The lines of one client. A last line without its end is one that a killed client was writing.
fn parse(bytes: &[u8]) -> Result<Vec<Entry>> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n');
    let lines = bytes[..whole.unwrap_or(0)].split(|byte| *byte == b'\n');
    let mut entries = Vec::new();
    for (at, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let entry: Entry = serde_json::from_slice(line)
            .with_context(|| format!("line {}: {}", at + 1, String::from_utf8_lossy(line)))?;
        if let Event::Sent { id, .. } = &entry.event {
            ensure!(
                id.parts().is_some(),
                "line {}: {id:?} is sent, which is not producer/number",
                at + 1
            );
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_a_killed_client_was_writing_is_left_out_and_a_broken_one_is_refused() {
        let line = r#"{"at":1,"op":"sent","id":"p/0","topic":"t"}"#;
        let torn = format!("{line}\n{}", &line[..20]);
        assert_eq!(parse(torn.as_bytes()).unwrap().len(), 1);
        assert_eq!(
            parse(line.as_bytes()).unwrap().len(),
            0,
            "not one line is whole"
        );
        assert!(parse(format!("{line}\nnot a line\n").as_bytes()).is_err());
        let unnumbered = line.replace("p/0", "p");
        assert!(parse(format!("{unnumbered}\n").as_bytes()).is_err());
    }

    #[test]
    fn lines_of_several_clients_are_taken_by_time() {
        let lines = |times: &[u64]| -> Vec<Entry> {
            let texts = times.iter().map(|at| {
                format!("{{\"at\":{at},\"op\":\"sent\",\"id\":\"p/{at}\",\"topic\":\"t\"}}\n")
            });
            parse(texts.collect::<String>().as_bytes()).unwrap()
        };
        let history = History::of(vec![lines(&[1, 5, 4]), lines(&[2, 6])]);
        let times: Vec<u64> = history.entries().iter().map(|entry| entry.at).collect();
        assert_eq!(times, [1, 2, 5, 5, 6]);
    }
}
