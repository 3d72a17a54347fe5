//! The task of a core that takes errands and makes tasks of them, until the node stops; then it
//! waits for those that were begun.

use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::core::CoreHandle;
use super::errand::Door;
use super::metrics::ErrorKind;

/// Errands that a core has at a time, waiting and begun.
pub const ERRANDS_PER_CORE: usize = 1024;

/// Does errands until the node stops.
///
/// # Errors
/// When the mailbox cannot be waited for.
pub async fn run(core: CoreHandle, door: Door<CoreHandle>) -> Result<(), String> {
    let mut begun = JoinSet::new();
    let ended = take(&core, &door, &mut begun).await;
    door.close();
    let patience = core.settings().drain_timeout;
    finish(&core, &mut begun, patience).await;
    ended.map_err(|error| format!("waiting for errands failed: {error}"))
}

async fn take(
    core: &CoreHandle,
    door: &Door<CoreHandle>,
    begun: &mut JoinSet<()>,
) -> std::io::Result<()> {
    let mut receiver = door.receiver()?;
    loop {
        tokio::select! {
            biased;
            () = core.drained() => return Ok(()),
            Some(ended) = begun.join_next() => note_end(core, ended),
            errand = receiver.take() => {
                core.metrics().errands.add(1);
                begun.spawn_local(errand?.begin(core.clone()));
            }
        }
    }
}

async fn finish(core: &CoreHandle, begun: &mut JoinSet<()>, patience: Duration) {
    let all = async {
        while let Some(ended) = begun.join_next().await {
            note_end(core, ended);
        }
    };
    if tokio::time::timeout(patience, all).await.is_err() {
        let left = begun.len();
        tracing::warn!(core = %core.id(), left, "errands did not finish in time; ending them");
        begun.shutdown().await;
    }
}

fn note_end(core: &CoreHandle, ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        core.metrics().error(ErrorKind::Panic);
        tracing::error!(core = %core.id(), %error, "an errand's task panicked");
    }
}
