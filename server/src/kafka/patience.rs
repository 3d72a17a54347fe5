//! A timer that a connection keeps for its whole life: moved when it must ring earlier, left alone
//! when it may ring later. A busy connection so touches its timer about once per timeout, not
//! once per request.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The timer.
#[derive(Debug)]
pub struct Patience {
    sleep: Pin<Box<Sleep>>,
}

impl Patience {
    /// Rings in `after` at the latest, to look again.
    #[must_use]
    pub fn new(after: Duration) -> Patience {
        Patience {
            sleep: Box::pin(sleep_until(Instant::now() + after)),
        }
    }

    /// Waits for a time.
    ///
    /// Cancellation: nothing is lost.
    pub async fn until(&mut self, deadline: Instant) {
        if self.sleep.deadline() > deadline {
            self.sleep.as_mut().reset(deadline);
        }
        loop {
            self.sleep.as_mut().await;
            if Instant::now() >= deadline {
                return;
            }
            self.sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rings_at_the_time_asked_for_whatever_was_asked_before() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut patience = Patience::new(Duration::from_secs(3600));
            for ms in [30, 1, 20] {
                let deadline = Instant::now() + Duration::from_millis(ms);
                patience.until(deadline).await;
                let late = Instant::now().duration_since(deadline);
                assert!(late < Duration::from_secs(10), "late by {late:?}");
            }
        });
    }
}
