//! Somebody else's measurement in alternating slices: a command whose output says "NNN MB/s".

use std::process::Command;

use anyhow::{Context, ensure};

/// Runs the command through the shell, with `{batch_kib}` replaced, and takes the first figure in
/// front of `MB/s` from its output.
pub fn run(command: &str, batch_bytes: usize) -> anyhow::Result<f64> {
    let command = command.replace("{batch_kib}", &(batch_bytes >> 10).to_string());
    let output = Command::new("sh")
        .args(["-c", &command])
        .output()
        .with_context(|| format!("running {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    figure(&text)
        .with_context(|| format!("{command:?} printed no figure like \"123 MB/s\": {text}"))
}

fn figure(text: &str) -> Option<f64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).find_map(|pair| match pair {
        [number, unit] if unit.trim_end_matches([',', ';', '.', ')']) == "MB/s" => {
            number.trim_start_matches('(').parse().ok()
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_figure_with_its_unit_is_taken() {
        let text = "batch 1024 KiB depth 4 durable: 1234 MB/s, 1200 blocks/s";
        assert_eq!(figure(text), Some(1234.0));
        assert_eq!(figure("12.5 MB/s"), Some(12.5));
        assert_eq!(figure("fast"), None);
    }

    #[test]
    fn a_commands_batch_size_is_filled_in_and_its_failure_is_told() {
        assert_eq!(run("echo {batch_kib} MB/s", 16 << 10).unwrap(), 16.0);
        assert!(run("echo slow", 1024).is_err());
        assert!(run("echo 1 MB/s; exit 3", 1024).is_err());
    }
}
