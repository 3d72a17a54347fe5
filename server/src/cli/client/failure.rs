//! What goes wrong in a command that talks to a node, for people, and the exit status for it.

use std::io;
use std::process::ExitCode;

/// Said in the help of every such command.
pub(super) const EXIT_STATUSES: &str = "Ends with 0 when it was done, with 1 when the node \
    refused it, with 2 when the command line is wrong, with 3 when the node cannot be reached or is not \
    trusted.";

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The node says no.
    #[error("{detail} ({error})")]
    Refused {
        /// Kafka's name for the error.
        error: String,
        /// What the node says.
        detail: String,
        /// The HTTP status.
        status: u16,
        /// Whether a part was done.
        in_part: bool,
    },
    /// No node answers.
    #[error(
        "no node answers at {url}: {cause}; start one with `ringlog serve`, or name its HTTP address \
         with --url"
    )]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What was found.
        cause: String,
    },
    /// It is asked for TLS where there is none, or the reverse, or is not trusted.
    #[error("{url} cannot be talked to: {cause}; {advice}")]
    Untrusted {
        /// Where.
        url: String,
        /// What was found.
        cause: String,
        /// What to do.
        advice: String,
    },
    /// The node wants to know who asks, and does not.
    #[error(
        "{url} lets nobody in without a password: {cause}; put a user's name and password before the \
         host in --url, or in the variable RINGLOG_URL"
    )]
    NotLetIn {
        /// Where.
        url: String,
        /// What it got.
        cause: &'static str,
    },
    /// What answers is no node, or another version of it.
    #[error("{url} answers what is not expected: {cause}; is it a Ringlog node of this version?")]
    Strange {
        /// Where.
        url: String,
        /// What.
        cause: String,
    },
    /// The command line cannot be.
    #[error("{0}")]
    WrongUse(String),
    /// Standard input or output failed.
    #[error("{what} failed: {error}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The answer.
        error: io::Error,
    },
}

impl Failure {
    /// Says it on standard error.
    pub(super) fn report(&self) -> ExitCode {
        let code = match self {
            Failure::Refused { .. } | Failure::NotLetIn { .. } => 1,
            Failure::WrongUse(_) => 2,
            Failure::Unreachable { .. } | Failure::Untrusted { .. } | Failure::Strange { .. } => 3,
            // Whoever read this command's output has read enough.
            Failure::Io { error, .. } if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Failure::Io { .. } => 1,
        };
        eprintln!("ringlog: {self}");
        ExitCode::from(code)
    }

    /// Whether the node says that there is no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Failure::Refused { status: 404, .. })
    }

    /// Whether the node has one already.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Failure::Refused { status: 409, .. })
    }

    /// Whether the same may be done a little later, nothing of which was done now.
    pub(super) fn is_passing(&self) -> bool {
        matches!(
            self,
            Failure::Refused {
                status: 503,
                in_part: false,
                ..
            }
        )
    }
}
