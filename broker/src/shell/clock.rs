//! The one place where a broker reads the time, and says whether anything may be done by it
//! ([`core::agreement`](crate::core::agreement)).

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use lintas_config::{
    Directory,
    clock::{Reading, leapt_ms},
};
use tokio::sync::watch;

use crate::core::agreement::{Agreement, Change};

/// What is said to whoever wants what cannot be done while the clock is in doubt.
pub(crate) const IN_DOUBT: &str = "The broker's clock is in doubt, so nothing is done by it; what you sent is kept, and goes by itself \
     when the clock is right or enough members agree with it. Tell the region's operator.";
/// What its operator is told.
pub(crate) const SET_RIGHT: &str = "this machine's clock is in doubt: nothing is accepted, handed over or ended; set it right, and let \
     a time service keep it right. Where it is right, the broker goes on when two members have connected that agree with it, or at the operator's word: \
     lintas-broker believe-clock";
/// What its operator is told when the roster does not hold either.
pub(crate) const NEITHER_HOLDS: &str = "this machine's clock is in doubt, and by it the roster is not valid now: set the clock right; if it is \
     right, get a new directory from the region authority";
/// In the place of an offset: in doubt.
const NONE: i64 = i64::MIN;

/// Milliseconds since 1970-01-01T00:00:00Z, as the machine says; 0 for a clock before that. Only to be shown, or to measure how
/// long ago something was: whatever is done or written by time asks [`Clock`].
pub(crate) fn shown_ms() -> u64 {
    Reading::take().wall_ms
}

/// The machine's clock, as far as it is to be acted upon.
#[derive(Debug)]
pub(crate) struct Clock {
    agreement: Mutex<Agreement>,
    /// Offset of the agreement, to look at without a lock; [`NONE`] while in doubt.
    anchor_ms: AtomicI64,
    /// The log's last time.
    log_ms: AtomicU64,
    /// Counts the changes of state. Whoever has begun before one says hello anew.
    turns: watch::Sender<u64>,
    /// How far a test has set the clock.
    #[cfg(test)]
    pub(crate) skew_ms: AtomicI64,
}

impl Clock {
    /// At the start, when the log's last time is `last_ms`; of a new one, or of none (0), by whether the roster holds at a time.
    pub(crate) fn begin(is_new: bool, last_ms: u64, holds: impl FnOnce(u64) -> bool) -> Self {
        let now = Reading::take();
        let agreement = Agreement::begin(now, if is_new { 0 } else { last_ms }, holds(now.wall_ms));
        let is_agreed = agreement.anchor().is_some();
        if !is_agreed {
            tracing::error!(clock_ms = now.wall_ms, log_ms = last_ms, "{SET_RIGHT}");
        }
        Self {
            anchor_ms: AtomicI64::new(agreement.anchor().map_or(NONE, Reading::offset_ms)),
            agreement: Mutex::new(agreement),
            log_ms: AtomicU64::new(last_ms),
            turns: watch::Sender::new(0),
            #[cfg(test)]
            skew_ms: AtomicI64::new(0),
        }
    }

    /// What the machine's clock says, if anything may be done by it. Looked at afresh each time.
    pub(crate) fn agreed_ms(&self) -> Option<u64> {
        let (now, is_agreed) = self.reading();
        is_agreed.then_some(now.wall_ms)
    }

    /// What the machine's clock says if anything may be done by it; else the log's last time, so that whatever goes on
    /// all the same changes nothing.
    pub(crate) fn now_ms(&self) -> u64 {
        self.agreed_ms().unwrap_or_else(|| self.log_ms.load(Ordering::Relaxed))
    }

    /// What the machine's clock says, and whether anything may be done by it.
    pub(crate) fn reading(&self) -> (Reading, bool) {
        let now = self.take();
        let anchor_ms = self.anchor_ms.load(Ordering::Relaxed);
        if anchor_ms != NONE && leapt_ms(now.offset_ms(), anchor_ms).is_none() {
            return (now, true);
        }
        // Perhaps this thread has slept between its two looks.
        let now = self.take();
        let (change, is_agreed) = {
            let mut agreement = self.agreement();
            (self.turn(&mut agreement, |agreement| agreement.look(now)), agreement.anchor().is_some())
        };
        tell(change);
        (now, is_agreed)
    }

    /// A member says what time it is; `agrees` if that is what `now` says. If the clock is agreed: what changes when it no longer
    /// is.
    pub(crate) fn hear(
        &self,
        agency: &str,
        agrees: bool,
        now: Reading,
        directory: &Directory,
    ) -> Option<watch::Receiver<u64>> {
        let (change, turns) = {
            let mut agreement = self.agreement();
            let change =
                self.turn(&mut agreement, |agreement| agreement.hear(agency, agrees, now, directory));
            (change, agreement.anchor().map(|_| self.turns.subscribe()))
        };
        tell(change);
        turns
    }

    /// The operator said that the clock is right when it read `said`; nothing if it was set since.
    pub(crate) fn believe(&self, said: Reading) -> bool {
        let now = self.take();
        if now.leapt_ms(said).is_some() {
            return false;
        }
        let change = {
            let mut agreement = self.agreement();
            self.turn(&mut agreement, |agreement| agreement.believe(now))
        };
        tell(change);
        true
    }

    /// The log has come to that time.
    pub(crate) fn logged(&self, time_ms: u64) {
        self.log_ms.store(time_ms, Ordering::Relaxed);
    }

    fn agreement(&self) -> MutexGuard<'_, Agreement> {
        self.agreement.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(
        &self,
        agreement: &mut Agreement,
        change: impl FnOnce(&mut Agreement) -> Option<Change>,
    ) -> Option<Change> {
        let change = change(agreement);
        self.anchor_ms.store(agreement.anchor().map_or(NONE, Reading::offset_ms), Ordering::Relaxed);
        if change.is_some() {
            self.turns.send_modify(|turns| *turns += 1);
        }
        change
    }

    #[cfg(not(test))]
    fn take(&self) -> Reading {
        Reading::take()
    }

    #[cfg(test)]
    fn take(&self) -> Reading {
        let now = Reading::take();
        Reading { wall_ms: now.wall_ms.saturating_add_signed(self.skew_ms.load(Ordering::Relaxed)), ..now }
    }
}

/// Behind the lock.
fn tell(change: Option<Change>) {
    match change {
        Some(Change::Doubted(by_ms)) => {
            tracing::error!(minutes = by_ms / 60_000, "the clock was set while the broker ran; {SET_RIGHT}");
        }
        Some(Change::SetBack) => tracing::warn!("the clock was set back to what it was, and is agreed again"),
        Some(Change::Agreed(members)) => {
            tracing::warn!(members, "the clock is agreed again: members agree with it")
        }
        Some(Change::Believed) => {
            tracing::warn!("the clock is agreed again: this machine's operator says that it is right")
        }
        None => {}
    }
}
