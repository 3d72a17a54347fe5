//! Threads for what takes longer than a step of a core may: hashing passwords, the arithmetic of
//! TLS handshakes.
//!
//! Invariant: so much waits at a time and no more; whoever comes later waits in line, in the order
//! in which they came. What nobody waits for any more is not begun.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, unbounded};
use tokio::sync::{Semaphore, oneshot};

use crate::runtime;

/// Threads of a node that needs them.
pub const THREADS: usize = 2;

/// Jobs that are begun or wait for a thread.
const JOBS: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// The threads. They end when the last handle is gone.
#[derive(Debug)]
pub struct Workers {
    jobs: Sender<Job>,
    turns: Arc<Semaphore>,
}

impl Workers {
    /// Starts so many threads; without any, every job is refused.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub fn start(threads: usize) -> std::io::Result<Workers> {
        let (jobs, todo) = unbounded();
        for number in 0..threads {
            let todo = todo.clone();
            std::thread::Builder::new()
                .name(format!("security-{number}"))
                .spawn(move || work(&todo))?;
        }
        let turns = Arc::new(Semaphore::new(JOBS));
        Ok(Workers { jobs, turns })
    }

    /// Jobs that are begun or wait for a thread.
    #[must_use]
    pub fn jobs(&self) -> usize {
        JOBS - self.turns.available_permits().min(JOBS)
    }

    /// Does a job on one of the threads. `None`: there are none, or the job panicked.
    ///
    /// Cancellation: a job that was begun is done to its end, and its outcome is lost; one that was
    /// not is dropped.
    pub async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Option<R> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let (reply, outcome) = oneshot::channel();
        let job = move || {
            // Held until the job is out of the way, whether anybody waits for it or not.
            let _turn = turn;
            if !reply.is_closed() {
                let _ = reply.send(job());
            }
        };
        self.jobs.send(Box::new(job)).ok()?;
        outcome.await.ok()
    }
}

fn work(todo: &Receiver<Job>) {
    // It may be made by a thread that is pinned.
    if let Err(error) = runtime::unpin_thread() {
        tracing::warn!(%error, "a security thread stays on one CPU");
    }
    while let Ok(job) = todo.recv() {
        if std::panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a job of a security thread panicked: a login or a handshake fails");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_runtime<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn jobs_are_done_on_other_threads_and_one_that_panics_harms_no_other() {
        on_runtime(async {
            let workers = Workers::start(1).unwrap();
            let here = std::thread::current().id();
            let there = workers.run(move || std::thread::current().id()).await;
            assert_ne!(there.unwrap(), here);
            assert_eq!(workers.run(|| panic!("on purpose")).await, None::<()>);
            assert_eq!(workers.run(|| 7).await, Some(7));
        });
    }

    #[test]
    fn without_threads_every_job_is_refused() {
        let workers = Workers::start(0).unwrap();
        assert_eq!(on_runtime(workers.run(|| 7)), None);
    }

    #[test]
    fn a_job_that_nobody_waits_for_gives_its_turn_back() {
        on_runtime(async {
            let workers = Workers::start(1).unwrap();
            for _ in 0..3 * JOBS {
                let mut given_up = Box::pin(workers.run(|| 1));
                tokio::select! {
                    biased;
                    _ = &mut given_up => {}
                    () = std::future::ready(()) => {}
                }
            }
            assert_eq!(workers.run(|| 7).await, Some(7));
        });
    }
}
