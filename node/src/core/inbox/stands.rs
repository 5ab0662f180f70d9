//! The last look at a verdict, when it is to be kept: several deliveries are judged at the same time, and others may have
//! been kept since it was made.

use lintas_proto::schema::Reason;

use super::{Fault, REPLAY, Verdict, answered, is_replay};
use crate::core::state::State;

/// What a verdict is worth now.
#[derive(Debug)]
pub(crate) enum Stands {
    /// It is to be kept.
    Verdict(Verdict),
    /// The delivery was answered meanwhile, by the record with this sequence.
    Again(u64),
}

/// Compares a verdict with what was kept since it was made, as if it were judged only now.
pub(crate) fn stands(verdict: Verdict, state: &State) -> Stands {
    let (digest, unit) = verdict.delivery();
    match (answered(state, digest, unit), verdict) {
        (Some((record, true)), _) | (Some((record, false)), Verdict::Reject(_)) => Stands::Again(record),
        (_, Verdict::Accept(accepted))
            if is_replay(state, &accepted.originator, accepted.packet_id(), &accepted.digest) =>
        {
            let rejected = Fault::new(Reason::Replay, REPLAY).reject(accepted.evidence);
            Stands::Verdict(Verdict::Reject(Box::new(rejected)))
        }
        (_, verdict) => Stands::Verdict(verdict),
    }
}
