//! Reading histories: each client process writes a file of its own.

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

    /// The lines, by time.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What concerns one topic.
    #[must_use]
    pub fn of_topic(&self, topic: &str) -> History {
        let entries = self.entries.iter();
        let entries = entries.filter(|entry| entry.event.topic() == topic);
        History {
            entries: entries.cloned().collect(),
        }
    }
}

/// The lines of one client, and how many bytes they are. A last line without its end is one that is
/// being written, or that a killed client was writing.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Vec<Entry>, usize)> {
    let newline = bytes.iter().rposition(|byte| *byte == b'\n');
    let whole = newline.map_or(0, |at| at + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n');
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
    Ok((entries, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_a_killed_client_was_writing_is_left_out_and_a_broken_one_is_refused() {
        let line = r#"{"at":1,"op":"sent","id":"p/0","topic":"t"}"#;
        let torn = format!("{line}\n{}", &line[..20]);
        let (entries, taken) = parse(torn.as_bytes()).unwrap();
        assert_eq!((entries.len(), taken), (1, line.len() + 1));
        let none_whole = parse(line.as_bytes()).unwrap();
        assert_eq!(none_whole, (vec![], 0));
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
            parse(texts.collect::<String>().as_bytes()).unwrap().0
        };
        let history = History::of(vec![lines(&[1, 5, 4]), lines(&[2, 6])]);
        let times: Vec<u64> = history.entries().iter().map(|entry| entry.at).collect();
        assert_eq!(times, [1, 2, 5, 5, 6]);
    }
}
