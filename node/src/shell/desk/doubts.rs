//! Evidence that was kept and not believed is judged again: it may have come before the directory that names its key, or
//! while this machine's clock was wrong. It was acknowledged then, so nobody sends it again.

use std::{
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lintas_proto::id::Digest;

use super::{Desk, answers::Batch};
use crate::{
    core::records::Record,
    shell::{clock, store::StoreError},
};

/// Most pieces of evidence that are judged and kept together; batches of the session wait meanwhile.
const TOGETHER_MAX: usize = 64;
/// Most that are judged in one call. The next one goes on behind them.
const CALL_MAX: usize = if cfg!(test) { 10 } else { 1_024 };
/// How often all of it is judged again without a sign: a key may begin with time alone.
const AGAIN: Duration = Duration::from_secs(3_600);

/// How far what is doubted was judged again.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// Under which directory; none if some of it was judged under an older one.
    under: Option<Digest>,
    /// All of it by a clock on which a broker agreed.
    agreed: bool,
    /// When it was begun.
    begun: Option<Instant>,
    /// Behind which record it goes on; none when it is done.
    after: Option<u64>,
}

impl Desk {
    fn doubts(&self) -> MutexGuard<'_, Doubts> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evidence is kept that was not believed under that directory, by this machine's clock.
    pub(super) fn note_doubted(&self, under: &Digest) {
        let (same, agreed) = (self.directory().hash() == under, self.is_agreed(clock::now_ms()));
        let mut doubts = self.doubts();
        doubts.under = doubts.under.filter(|_| same);
        doubts.agreed &= agreed;
    }

    /// Judges again what is doubted, if the directory or the clock may say something else by now; how much of it is believed.
    /// To be called again and again: each call looks at a bounded number, and at none while the clock is not agreed.
    pub(crate) fn judge_doubted(&self) -> Result<usize, StoreError> {
        let Ok(now_ms) = self.agreed_ms() else { return Ok(0) };
        let Some(mut after) = self.doubts_due() else { return Ok(0) };
        let (mut looked, mut believed) = (0, 0);
        while looked < CALL_MAX {
            let most = TOGETHER_MAX.min(CALL_MAX - looked);
            let records = self.store.state().tally().doubted(after, most);
            match self.judge_records(&records, now_ms) {
                Ok(more) => believed += more,
                Err(error) => {
                    self.doubts().after = None;
                    return Err(error);
                }
            }
            looked += records.len();
            let rest = records.last().filter(|_| records.len() == most);
            let mut doubts = self.doubts();
            // Begun anew meanwhile: that counts.
            if doubts.after == Some(after) {
                doubts.after = rest.copied();
            }
            match doubts.after {
                Some(next) => after = next,
                None => break,
            }
        }
        if believed > 0 {
            tracing::info!(believed, "evidence that was doubted is believed now");
        }
        Ok(believed)
    }

    /// Behind which record it goes on, if anything is to be judged again.
    fn doubts_due(&self) -> Option<u64> {
        let hash = *self.directory().hash();
        let mut doubts = self.doubts();
        let long_ago = doubts.begun.is_none_or(|begun| clock::moment().duration_since(begun) >= AGAIN);
        if doubts.under != Some(hash) || !doubts.agreed || long_ago {
            *doubts =
                Doubts { under: Some(hash), agreed: true, begun: Some(clock::moment()), after: Some(0) };
        }
        doubts.after
    }

    fn judge_records(&self, records: &[u64], now_ms: u64) -> Result<usize, StoreError> {
        if records.is_empty() {
            return Ok(0);
        }
        let _keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut batch, directory) = (Batch::default(), self.directory());
        for record in records {
            // One that cannot be read stops none of those behind it.
            match self.store.read(*record) {
                Ok(Record::Doubted(stored)) => {
                    batch.hear_again(stored, &self.store.state(), &directory, now_ms);
                }
                Ok(_) => tracing::error!(record, "a record is not the doubted evidence that it was"),
                Err(error) => tracing::error!(record, %error, "doubted evidence cannot be read again"),
            }
        }
        self.remember(&[], &batch.records);
        let kept = self.store.keep_what_fits(std::mem::take(&mut batch.records))?;
        self.tell_leaks(batch.leaks);
        // What found no room is judged again another time.
        Ok(kept.into_iter().filter(|kept| *kept).count())
    }
}
