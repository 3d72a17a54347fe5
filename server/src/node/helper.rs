//! The helper thread of a core: work on bytes that never change, which takes longer than a step of
//! the core may. One task at a time, in order, on any CPU that has nothing else to do.
//!
//! ```text
//! core ──task──► channel ──► helper thread ──outcome──► mailbox ──eventfd──► core
//! ```
//! Invariant: the helper touches no file, no clock and nothing of its core: a task owns all it
//! needs. It ends when its core lets go of it, after the task in hand.

use std::sync::Arc;
use std::sync::mpsc::{Receiver as Tasks, SyncSender, sync_channel};

use ringlog_types::CoreId;

use super::mailbox::{Mailbox, Receiver};
use crate::runtime;

/// A helper that makes `O` of `T`.
#[derive(Debug)]
pub struct Helper<T, O> {
    tasks: SyncSender<T>,
    outcomes: Receiver<O>,
}

impl<T: Send + 'static, O: Send + 'static> Helper<T, O> {
    /// Starts the helper of a core, on the runtime of the calling thread.
    ///
    /// # Errors
    /// When the thread or its mailbox cannot be made.
    pub fn start(core: CoreId, run: fn(T) -> O) -> std::io::Result<Helper<T, O>> {
        let (tasks, todo) = sync_channel(1);
        let mailbox = Arc::new(Mailbox::new(1)?);
        let outcomes = Receiver::new(Arc::clone(&mailbox))?;
        std::thread::Builder::new()
            .name(format!("helper-{core}"))
            .spawn(move || work(&todo, run, &mailbox))?;
        Ok(Helper { tasks, outcomes })
    }

    /// Does a task, and waits for what comes of it. `None`: the helper is gone.
    ///
    /// Cancellation: a task that was begun is done to its end, and its outcome is lost.
    pub async fn run(&mut self, task: T) -> Option<O> {
        self.tasks.try_send(task).ok()?;
        self.outcomes.take().await.ok()
    }
}

fn work<T, O>(todo: &Tasks<T>, run: fn(T) -> O, outcomes: &Mailbox<O>) {
    // It is made by a core's thread, and inherits that it is pinned.
    if let Err(error) = runtime::unpin_thread() {
        tracing::warn!(%error, "the helper thread stays on the CPU of its core");
    }
    if let Err(error) = runtime::run_when_idle() {
        tracing::warn!(%error, "the helper thread keeps the priority of the core");
    }
    while let Ok(task) = todo.recv() {
        // One task is out at a time, so there is room for its outcome.
        if outcomes.try_post(run(task)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_done_one_after_the_other_on_another_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let here = std::thread::current().id();
            let run = |number: u32| (number * 2, std::thread::current().id());
            let mut helper = Helper::start(CoreId(0), run).unwrap();
            for number in 0..100 {
                let (doubled, thread) = helper.run(number).await.unwrap();
                assert_eq!(doubled, number * 2);
                assert_ne!(thread, here);
            }
        });
    }
}
