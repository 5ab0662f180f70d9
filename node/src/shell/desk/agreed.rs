//! Whether this machine's clock is to be acted upon: a broker has agreed with it, and nobody has set it since. Until then
//! nothing is judged, ended, made or destroyed by time; reading, sealing and keeping what is to be sent go on.

use std::{
    sync::{MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use lintas_config::clock::Reading;
use lintas_proto::limits;
use tokio::time::sleep;

use super::{Broken, Desk, read};
use crate::shell::clock;

/// Why a session ends at which the clock is not agreed.
const NOT_AGREED: &str = "this machine's clock was set, or differs from the broker's: nothing is judged before a broker has agreed with it";
/// How often a session looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

impl Desk {
    /// A broker that let this node in has said what time it is: whether this clock, which says `now_ms`, is right by it.
    pub(crate) fn compare_clocks(&self, now_ms: u64, theirs_ms: u64) {
        let agreed = now_ms.abs_diff(theirs_ms) <= limits::CLOCK_SKEW_MS_MAX;
        self.disagreed.store(!agreed, Ordering::Relaxed);
        *self.agreement() = agreed.then(|| Reading { wall_ms: now_ms, ..Reading::take() });
        if agreed {
            // What was due has waited.
            self.page_wanted.notify_one();
        }
    }

    /// A broker does not agree with this clock.
    pub(crate) fn doubt_clock(&self) {
        self.disagreed.store(true, Ordering::Relaxed);
        *self.agreement() = None;
    }

    /// Whether `now_ms` is the time, by what a broker agreed on.
    pub(super) fn is_agreed(&self, now_ms: u64) -> bool {
        let now = Reading { wall_ms: now_ms, ..Reading::take() };
        self.agreement().is_some_and(|anchor| now.leapt_ms(anchor).is_none())
    }

    /// The time, if it is to be acted upon.
    pub(super) fn agreed_ms(&self) -> Result<u64, Broken> {
        let now = Reading::take();
        let is_agreed = self.agreement().is_some_and(|anchor| now.leapt_ms(anchor).is_none());
        if is_agreed { Ok(now.wall_ms) } else { Err(Broken::Protocol(NOT_AGREED.to_owned())) }
    }

    /// Waits until the clock is not agreed any more.
    pub(crate) async fn clock_set(&self) -> Broken {
        loop {
            if let Err(why) = self.agreed_ms() {
                return why;
            }
            sleep(LOOK).await;
        }
    }

    /// By how many minutes the clock was set since a broker agreed with it.
    pub(super) fn clock_set_by(&self) -> Option<u64> {
        let anchor = *self.agreement();
        anchor.and_then(|anchor| Reading::take().leapt_ms(anchor)).map(|ms| ms / 60_000)
    }

    /// What is to be said to whoever seals by this clock: a broker goes by its own, and its refusal is final.
    pub(super) fn warning_of_clock(&self, now_ms: u64) -> Option<String> {
        let set_by = || {
            let minutes = self.clock_set_by()?;
            Some(format!("this machine's clock was set by {minutes} minutes since a broker agreed with it"))
        };
        let disagreed = || {
            let said = "a broker did not agree with this machine's clock when it was last asked".to_owned();
            self.disagreed.load(Ordering::Relaxed).then_some(said)
        };
        let backwards = || read::backwards(self.store.state().latest_ms(), now_ms);
        let found = set_by().or_else(disagreed).or_else(backwards)?;
        let now = clock::show(now_ms);
        Some(format!(
            "{found}; it says {now}, and the times of this packet are by it: if it is wrong, the broker may refuse the packet for \
             good, or end it early. Set the clock, and send again what it refuses"
        ))
    }

    fn agreement(&self) -> MutexGuard<'_, Option<Reading>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
