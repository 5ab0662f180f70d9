//! One session's witness: what it is asked, one head at a time, and what it says. Nothing that it says is believed
//! before its signature is checked; a witness that lies is not counted, and nothing else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lintas_link::LinkError;
use lintas_proto::{
    audit::note::SignedCheckpoint,
    frame::FrameType,
    limits,
    schema::{Reason, WitnessAnswer, WitnessRequest},
};
use tokio::{
    sync::{Notify, watch},
    task::block_in_place,
};

use super::{me, reading::LogFiles, tiles::DiskTiles, witnesses::Cosignature};
use crate::shell::shared::Shared;

/// How often a witness may correct which size it knows, for one head.
const CORRECTIONS_MAX: u8 = 2;

/// What a session's witness was asked.
#[derive(Debug)]
pub(in crate::shell) struct Asking {
    agency: String,
    heads: watch::Receiver<Option<Arc<SignedCheckpoint>>>,
    state: Mutex<State>,
    answered: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Size that it cosigned last, as far as it has said.
    known: u64,
    /// Asked, and not yet answered.
    asked: Option<Arc<SignedCheckpoint>>,
    /// The head that it has said its word on.
    settled: Option<Arc<SignedCheckpoint>>,
    corrections: u8,
}

impl Asking {
    /// Of a session that begins; `known` is the size that its hello showed.
    pub(in crate::shell) fn new(agency: &str, shared: &Shared, known: Option<u64>) -> Self {
        let state = State { known: known.unwrap_or_default(), ..State::default() };
        Self {
            agency: agency.to_owned(),
            heads: shared.log.asked.subscribe(),
            state: Mutex::new(state),
            answered: Notify::new(),
        }
    }

    /// Waits for the next question. Safe to cancel: it counts as asked when this returns.
    pub(in crate::shell) async fn next(&self, shared: &Shared) -> WitnessRequest {
        let mut heads = self.heads.clone();
        loop {
            let head = heads.borrow_and_update().clone();
            if let Some(request) = head.and_then(|head| block_in_place(|| self.question(shared, head))) {
                return request;
            }
            tokio::select! {
                changed = heads.changed() => if changed.is_err() {
                    // The broker has ended, and the session with it.
                    std::future::pending::<()>().await;
                },
                () = self.answered.notified() => {}
            }
        }
    }

    /// What to ask about a head; none if there is nothing to ask.
    fn question(&self, shared: &Shared, head: Arc<SignedCheckpoint>) -> Option<WitnessRequest> {
        let directory = shared.directory();
        directory.witness(&self.agency)?;
        let mut state = self.state();
        let is_over = state.settled.as_ref().is_some_and(|settled| Arc::ptr_eq(settled, &head));
        let claim = head.claim();
        if state.asked.is_some() || is_over || state.known > claim.size {
            return None;
        }
        let files = LogFiles { epochs: claim.size, ..shared.log.present(me(shared, &directory)?) };
        let tiles = DiskTiles::new(&files.folder(), files.epochs);
        let proof = match tiles.consistency(state.known, (claim.size, &claim.root)) {
            Ok(proof) => proof.iter().map(|hash| Bytes::copy_from_slice(hash)).collect(),
            Err(error) => {
                tracing::error!(%error, "the log's own tiles do not lead to what it has signed; look at the disk");
                state.settled = Some(head);
                return None;
            }
        };
        let request = WitnessRequest { old_size: state.known, proof, checkpoint: head.to_bytes() };
        state.asked = Some(head);
        Some(request)
    }

    /// Takes the witness's answer.
    ///
    /// # Errors
    /// [`LinkError::UnexpectedFrame`] for an answer to nothing.
    pub(in crate::shell) fn answer(&self, shared: &Shared, answer: &WitnessAnswer) -> Result<(), LinkError> {
        let mut state = self.state();
        let unasked = LinkError::UnexpectedFrame { have: FrameType::WitnessAnswer };
        let head = state.asked.take().ok_or(unasked)?;
        let size = head.claim().size;
        let reason = Reason::try_from(answer.reason).unwrap_or_default();
        let is_correction = answer.size != state.known && answer.size <= size;
        if reason == Reason::Replay && is_correction && state.corrections < CORRECTIONS_MAX {
            // Asked again, from there.
            (state.known, state.corrections) = (answer.size, state.corrections + 1);
            drop(state);
            self.answered.notify_one();
            return Ok(());
        }
        let word = if reason == Reason::Accepted {
            self.cosigned(shared, &head, answer)
        } else if reason == Reason::Replay {
            Err("the size that it claims to know cannot be")
        } else {
            shared.metrics.witness_refusals.add(1);
            let (agency, reason) = (&self.agency, reason.as_str_name());
            tracing::warn!(agency, size, reason, "a witness does not cosign");
            Ok(None)
        };
        match word {
            Ok(Some(cosignature)) => {
                state.known = size;
                // There is room for one of each witness; what does not fit is made good by the next head.
                let _ = shared.log.cosignatures.try_send(cosignature);
            }
            Ok(None) => {}
            Err(why) => {
                shared.metrics.witness_lies.add(1);
                tracing::error!(
                    agency = self.agency,
                    size,
                    why,
                    "a witness's answer is not true; it is not counted"
                );
            }
        }
        (state.settled, state.corrections) = (Some(head), 0);
        drop(state);
        self.answered.notify_one();
        Ok(())
    }

    /// Its cosignature, checked; none if it is no witness any more.
    fn cosigned(
        &self,
        shared: &Shared,
        head: &Arc<SignedCheckpoint>,
        answer: &WitnessAnswer,
    ) -> Result<Option<Cosignature>, &'static str> {
        let Some(witness) = shared.directory().witness(&self.agency) else { return Ok(None) };
        if answer.size != head.claim().size {
            return Err("it says that it cosigned another size");
        }
        let mut note = SignedCheckpoint::clone(head);
        note.add_cosignature(&witness, &answer.cosignature).map_err(|_| "its cosignature does not fit")?;
        let time_ms = note.cosigned_at(&witness).unwrap_or_default().saturating_mul(1_000);
        let Some(now_ms) = shared.clock.agreed_ms() else { return Ok(None) };
        if time_ms.abs_diff(now_ms) > limits::CLOCK_SKEW_MS_MAX {
            return Err("the time of its cosignature is more than 5 minutes off");
        }
        let (head, bytes) = (Arc::clone(head), answer.cosignature.clone());
        Ok(Some(Cosignature { agency: self.agency.clone(), head, bytes }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
