//! The task that empties a core's mailbox and does what the messages say, in their order.

use std::rc::Rc;
use std::sync::Arc;

use super::control::ControlPlane;
use super::core::CoreHandle;
use super::mailbox::{Mailbox, Receiver};
use super::message::{Message, Snapshot};

/// Takes messages until one says stop.
///
/// # Errors
/// When the mailbox cannot be waited for, or metadata came out of order: the core cannot go on.
pub async fn run(
    core: CoreHandle,
    control: Rc<ControlPlane>,
    mailbox: Arc<Mailbox<Message>>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("waiting for the mailbox failed: {error}");
    let mut receiver = Receiver::new(mailbox).map_err(failed)?;
    loop {
        match receiver.take().await.map_err(failed)? {
            Message::Control {
                asker,
                request,
                command,
            } => {
                control.decide(Some((asker, request)), &command).await;
            }
            Message::ControlDone { request, result } => core.answer(request, result),
            Message::Metadata { version, record } => control.apply(version, &record)?,
            Message::MetadataApplied { core, version } => control.acknowledged(core, version),
            Message::Credentials { user, reply } => {
                let found = core.with(|core| {
                    let of_user = core.users.credentials(&user);
                    of_user.map(|(of, one)| (of, one.clone())).collect()
                });
                let _ = reply.send(found);
            }
            Message::Snapshot { reply } => {
                // The asker may have run out of patience.
                let _ = reply.send(Box::new(snapshot(&core)));
            }
            Message::Stop => return Ok(()),
        }
    }
}

fn snapshot(handle: &CoreHandle) -> Snapshot {
    handle.with(|core| Snapshot {
        log: core.log.stats().clone(),
        blocks_in_flight: core.log.blocks_in_flight(),
        durable: core.log.durable().0,
        appended: core.log.appended().0,
        pending_bytes: core.log.pending_bytes(),
        cached_bytes: core.log.cached_bytes(),
        memory_used_bytes: core.log.pool().used_bytes(),
        memory_limit_bytes: core.log.pool().limit_bytes(),
        request_memory: handle.request_memory().figures(),
        answer_memory: handle.answer_memory().figures(),
        opening_memory: handle.opening_memory().figures(),
        security_jobs: handle.security().workers.jobs(),
        metadata_version: core.topics.version(),
        topics: core.topics.iter().count(),
        producers: core.partitions.producer_counts(),
        groups: core.groups.counts(),
        partitions: core.log.partitions().count(),
        stages: handle.stages().times(),
    })
}
