//! Work that a core does for somebody who is not on its thread: another core, or the HTTP face.
//!
//! ```text
//!  asker ──place──► Door ──bounded mailbox──► the core's desk ──► a task of the core
//!    ▲                                                                │
//!    └───────────────────────── answer ◄──────────────────────────────┘
//! ```
//!
//! An errand is a closure that is handed the way to the core's state and becomes a task there, so
//! that a face's code for a command is the same wherever the command arrived. Invariants: a core has
//! at most so many errands, waiting and begun, and whoever wants one more is told so at once or
//! waits; every asker gets an answer or learns that there is none; nothing that belongs to one
//! thread crosses to another, because what is sent and what is answered must be `Send`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::mailbox::{Mailbox, Receiver};

/// A task of a core.
pub type Begun = Pin<Box<dyn Future<Output = ()>>>;

/// Work for a core; `C` is the way to the core that it is handed there.
pub struct Errand<C>(Box<dyn FnOnce(C) -> Begun + Send>);

impl<C> Errand<C> {
    /// Makes a task of it, on the core's thread.
    pub fn begin(self, core: C) -> Begun {
        (self.0)(core)
    }
}

impl<C> std::fmt::Debug for Errand<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Errand")
    }
}

/// Why an errand has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The core has as many errands as it takes. Nothing was begun.
    #[error("the core has as many requests from other threads as it takes; try again")]
    Busy,
    /// The core stops, or the task failed. What it had logged by then stays.
    #[error("the core stopped before it answered")]
    Gone,
}

/// The way to a core for those who are not on its thread. Cheap to clone.
#[derive(Debug)]
pub struct Door<C>(Arc<Inner<C>>);

#[derive(Debug)]
struct Inner<C> {
    /// As long as there are places: one for each of them.
    mailbox: Arc<Mailbox<Errand<C>>>,
    places: Arc<Semaphore>,
    place_count: usize,
    refused: AtomicU64,
}

impl<C> Clone for Door<C> {
    fn clone(&self) -> Door<C> {
        Door(Arc::clone(&self.0))
    }
}

impl<C: 'static> Door<C> {
    /// The way to a core that takes so many errands at a time.
    ///
    /// # Errors
    /// When the mailbox cannot be made (the process has no file descriptor left, say).
    pub fn new(places: usize) -> std::io::Result<Door<C>> {
        Ok(Door(Arc::new(Inner {
            mailbox: Arc::new(Mailbox::new(places)?),
            places: Arc::new(Semaphore::new(places)),
            place_count: places,
            refused: AtomicU64::new(0),
        })))
    }

    /// Has the core do something, unless it has as much to do as it takes.
    ///
    /// Cancellation: the work ends at its next wait; what it has logged stays.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn ask<R, F, Fut>(&self, work: F) -> Result<R, Unanswered>
    where
        F: FnOnce(C) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        match Arc::clone(&self.0.places).try_acquire_owned() {
            Ok(place) => self.send(place, work).await,
            Err(_) if self.0.places.is_closed() => Err(Unanswered::Gone),
            Err(_) => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                Err(Unanswered::Busy)
            }
        }
    }

    async fn send<R, F, Fut>(&self, place: OwnedSemaphorePermit, work: F) -> Result<R, Unanswered>
    where
        F: FnOnce(C) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        let (mut reply, answer) = oneshot::channel();
        let begin = move |core: C| -> Begun {
            Box::pin(async move {
                // Given back when the task ends, however that is.
                let _place = place;
                tokio::select! {
                    biased;
                    () = reply.closed() => {}
                    found = work(core) => {
                        // The asker may go away in this moment.
                        let _ = reply.send(found);
                    }
                }
            })
        };
        let posted = self.0.mailbox.try_post(Errand(Box::new(begin)));
        assert!(posted.is_ok(), "the mailbox has room for every place");
        if self.0.places.is_closed() {
            // The desk may have been emptied before this came: nobody would answer.
            return Err(Unanswered::Gone);
        }
        answer.await.map_err(|_| Unanswered::Gone)
    }

    /// Errands that wait or are being done.
    #[must_use]
    pub fn in_progress(&self) -> usize {
        self.0.place_count - self.0.places.available_permits().min(self.0.place_count)
    }

    /// How often an asker was told that there is no place.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// The desk's side, on the runtime of the core's thread.
    ///
    /// # Errors
    /// When the runtime cannot watch the mailbox.
    pub fn receiver(&self) -> std::io::Result<Receiver<Errand<C>>> {
        Receiver::new(Arc::clone(&self.0.mailbox))
    }

    /// Takes nothing any more, and lets go of what was not begun: its askers learn it.
    pub fn close(&self) {
        self.0.places.close();
        while let Some(errand) = self.0.mailbox.try_take() {
            drop(errand);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn on_runtime<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, future)
    }

    /// A desk that does everything at once, with a state that cannot leave its thread.
    async fn desk(door: Door<Rc<Cell<u32>>>, state: Rc<Cell<u32>>) {
        let mut receiver = door.receiver().unwrap();
        loop {
            let errand = receiver.take().await.unwrap();
            tokio::task::spawn_local(errand.begin(Rc::clone(&state)));
        }
    }

    #[test]
    fn work_is_done_on_the_core_and_its_answer_comes_back_to_another_thread() {
        let door: Door<Rc<Cell<u32>>> = Door::new(4).unwrap();
        let asking = door.clone();
        let asker = std::thread::spawn(move || {
            on_runtime(async {
                let mut sum = 0;
                for _ in 0..100 {
                    let add = |state: Rc<Cell<u32>>| async move {
                        tokio::task::yield_now().await;
                        state.set(state.get() + 1);
                        state.get()
                    };
                    sum += asking.ask(add).await.unwrap();
                }
                sum
            })
        });
        on_runtime(async {
            let serving = tokio::task::spawn_local(desk(door.clone(), Rc::default()));
            let joined = tokio::task::spawn_blocking(move || asker.join().unwrap());
            let sum = tokio::time::timeout(PATIENCE, joined).await.unwrap();
            assert_eq!(sum.unwrap(), (1..=100).sum::<u32>());
            serving.abort();
        });
        assert_eq!((door.in_progress(), door.refused()), (0, 0));
    }

    #[test]
    fn a_core_with_as_many_errands_as_it_takes_refuses_one_more_until_one_is_over() {
        on_runtime(async {
            let door: Door<Rc<Cell<u32>>> = Door::new(2).unwrap();
            let serving = tokio::task::spawn_local(desk(door.clone(), Rc::default()));
            let endless = |_| std::future::pending::<()>();
            let waiting: Vec<_> = (0..2)
                .map(|_| {
                    let door = door.clone();
                    tokio::task::spawn_local(async move { door.ask(endless).await })
                })
                .collect();
            while door.in_progress() < 2 {
                tokio::task::yield_now().await;
            }
            assert_eq!(door.ask(|_| async {}).await, Err(Unanswered::Busy));
            assert_eq!(door.refused(), 1);
            // An asker that goes away ends its errand.
            waiting[0].abort();
            let free = async {
                while door.ask(|_| async {}).await.is_err() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, free).await.unwrap();
            serving.abort();
        });
    }

    #[test]
    fn whoever_asks_a_core_that_stops_learns_it() {
        on_runtime(async {
            let door: Door<Rc<Cell<u32>>> = Door::new(2).unwrap();
            let asking = door.clone();
            let asked = tokio::task::spawn_local(async move { asking.ask(|_| async {}).await });
            while door.in_progress() == 0 {
                tokio::task::yield_now().await;
            }
            door.close();
            let told = tokio::time::timeout(PATIENCE, asked).await.unwrap();
            assert_eq!(told.unwrap(), Err(Unanswered::Gone));
            assert_eq!(door.ask(|_| async {}).await, Err(Unanswered::Gone));
        });
    }

    #[test]
    fn an_errand_that_panics_leaves_its_asker_without_an_answer_and_its_place_free() {
        on_runtime(async {
            let door: Door<Rc<Cell<u32>>> = Door::new(1).unwrap();
            let serving = tokio::task::spawn_local(desk(door.clone(), Rc::default()));
            let panics = |_| async { panic!("as the test wants") };
            let told: Result<(), _> = door.ask(panics).await;
            assert_eq!(told, Err(Unanswered::Gone));
            assert_eq!(door.in_progress(), 0);
            serving.abort();
        });
    }
}
