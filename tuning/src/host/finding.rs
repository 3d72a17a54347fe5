//! What a check says of one setting.

use std::fmt::Write;

use serde::Serialize;

/// Whether something is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing.
    Ok,
    /// Something, if it can be done here.
    Advice,
    /// It could not be found out.
    Unknown,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub setting: &'static str,
    /// What it is; `None` where it cannot be told.
    pub value: Option<String>,
    /// Whether something is to be done.
    pub verdict: Verdict,
    /// What is to be done.
    pub advice: Option<String>,
    /// Why it matters, or why it is unknown.
    pub reason: String,
}

impl Finding {
    /// A setting that is as it should be.
    pub fn ok(
        setting: &'static str,
        value: impl Into<String>,
        reason: impl Into<String>,
    ) -> Finding {
        Finding {
            setting,
            value: Some(value.into()),
            verdict: Verdict::Ok,
            advice: None,
            reason: reason.into(),
        }
    }

    /// A setting that could be better.
    pub fn advice(
        setting: &'static str,
        value: impl Into<String>,
        advice: impl Into<String>,
        reason: impl Into<String>,
    ) -> Finding {
        Finding {
            setting,
            value: Some(value.into()),
            verdict: Verdict::Advice,
            advice: Some(advice.into()),
            reason: reason.into(),
        }
    }

    /// A setting that cannot be told, and what stood in the way.
    pub fn unknown(setting: &'static str, obstacle: impl Into<String>) -> Finding {
        Finding {
            setting,
            value: None,
            verdict: Verdict::Unknown,
            advice: None,
            reason: obstacle.into(),
        }
    }
}

/// A text that was to be read, or what stood in the way.
pub type Text<'a> = Result<&'a str, &'a str>;

/// All findings of a machine.
#[derive(Clone, Debug, Serialize)]
pub struct HostReport {
    /// The directory whose disk was looked at.
    pub directory: String,
    /// The findings, in the order they are shown.
    pub findings: Vec<Finding>,
}

impl HostReport {
    /// In words, a paragraph for each finding.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok     ",
                Verdict::Advice => "ADVICE ",
                Verdict::Unknown => "unknown",
            };
            let value = finding.value.as_deref().unwrap_or("not known");
            // Writing to a string does not fail.
            let _ = writeln!(text, "{verdict}  {:24}  {value}", finding.setting);
            if let Some(advice) = &finding.advice {
                let _ = writeln!(text, "{:11}do: {advice}", "");
            }
            if finding.verdict != Verdict::Ok {
                let _ = writeln!(text, "{:11}why: {}", "", finding.reason);
            }
        }
        let count = |verdict| {
            let alike = self.findings.iter().filter(|one| one.verdict == verdict);
            alike.count()
        };
        let _ = writeln!(
            text,
            "{} settings of {}: {} ok, {} with advice, {} unknown",
            self.findings.len(),
            self.directory,
            count(Verdict::Ok),
            count(Verdict::Advice),
            count(Verdict::Unknown)
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_to_do_and_why_and_counts() {
        let report = HostReport {
            directory: "/data".to_owned(),
            findings: vec![
                Finding::ok("a", "1", "not shown"),
                Finding::advice("b", "2", "set it to 3", "it is slow"),
                Finding::unknown("c", "no such file"),
            ],
        };
        let text = report.text();
        assert!(text.contains("do: set it to 3") && text.contains("why: it is slow"));
        assert!(text.contains("not known") && text.contains("why: no such file"));
        assert!(!text.contains("not shown"));
        assert!(text.ends_with("3 settings of /data: 1 ok, 1 with advice, 1 unknown\n"));
    }
}
