//! Until the log is watched: the last checkpoint in memory, findings in the log of this program.

use std::sync::{Arc, PoisonError};

use lintas_proto::{
    audit::{epoch::RootEntry, note::SignedCheckpoint},
    id::Digest,
};

use super::Desk;
use crate::core::log::findings::Finding;

impl Desk {
    pub(crate) fn known_checkpoint(&self) -> Option<Arc<SignedCheckpoint>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    pub(crate) fn learn_checkpoint(&self, signed: SignedCheckpoint, _: &[Digest]) -> Result<(), String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0.as_ref().is_none_or(|known| known.claim().size < signed.claim().size) {
            known.0 = Some(Arc::new(signed));
        }
        Ok(())
    }

    pub(crate) fn note_attested(&self, _: &RootEntry, _: u64) {}

    pub(crate) fn find(&self, finding: Finding) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).1.push(finding);
    }

    #[cfg(test)]
    pub(crate) fn found(&self) -> Vec<Finding> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}
