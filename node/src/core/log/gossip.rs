//! Checkpoints that came inside packets: a way on which the broker cannot hide what it shows to whom.
//!
//! They wait here until hashes have shown whether they and ours are of one log. The list is in memory only: each node's
//! checkpoints continue each other, so after a restart the next packet of the same agency covers those before it.

use std::{collections::BTreeMap, sync::Arc};

use lintas_config::{Directory, directory::LogOwner};
use lintas_proto::audit::note::SignedCheckpoint;

use super::{
    findings::{Finding, Kind},
    standing::{Compared, Pair, compare},
};

/// Most agencies whose checkpoints wait.
const WAITING_MAX: usize = if cfg!(test) { 4 } else { 1_024 };
/// A broker that has not shown for so long how two checkpoints belong together is accused, milliseconds.
pub(crate) const PATIENCE_MS: u64 = 10 * 60 * 1_000;
/// And not before it was asked so often.
const ATTEMPTS_MIN: u32 = 3;

/// Whose checkpoint it is that came with a packet.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Of the present root log of a broker, signed by it.
    Present(Arc<SignedCheckpoint>),
    /// Of a root log that has ended, signed by its broker: size and root that the region authority names.
    Ended(Arc<SignedCheckpoint>, lintas_proto::schema::EndedLog),
    /// Signed by nobody whom the directory knows. Whoever sends it gains nothing: it is as if there were none.
    Stranger,
}

/// Reads a checkpoint that came with a packet.
///
/// One that no broker of the directory has signed says nothing about any log. Nor does it accuse its sender: the sender's
/// directory may be newer or older, and whoever leaves out or spoils the checkpoint only hides its own view.
pub(crate) fn read(bytes: &[u8], directory: &Directory) -> Origin {
    let Ok(signed) = SignedCheckpoint::parse(bytes) else { return Origin::Stranger };
    let origin = signed.claim().origin.clone();
    let found = directory.log_of(&origin).filter(|log| log.owner == LogOwner::Root);
    let Some(log) = found.filter(|log| signed.verify(&origin, &log.broker.log_key).is_ok()) else {
        return Origin::Stranger;
    };
    match log.ended() {
        Some(ended) => Origin::Ended(Arc::new(signed), ended.clone()),
        None => Origin::Present(Arc::new(signed)),
    }
}

/// Who has shown us a checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// The agency; of the broker itself, its name.
    pub(crate) from: String,
    /// Signed by the log.
    pub(crate) signed: Arc<SignedCheckpoint>,
    /// Since when one of this agency waits.
    since_ms: u64,
    /// How often the broker was asked.
    attempts: u32,
}

/// Checkpoints that are still to be compared with ours: the newest of each agency and log.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    heard: BTreeMap<(String, String), Heard>,
}

impl Waiting {
    /// Adds one. A finding if it and another one that waits are of one size and not of one log.
    pub(crate) fn add(&mut self, from: &str, signed: Arc<SignedCheckpoint>, now_ms: u64) -> Option<Finding> {
        let claim = signed.claim();
        let fork = self.heard.values().filter(|heard| heard.signed.claim().origin == claim.origin).find_map(
            |heard| match compare(&heard.signed, &signed) {
                Compared::Fork(finding) => Some(finding),
                Compared::Same | Compared::Apart(_) => None,
            },
        );
        let key = (from.to_owned(), claim.origin.clone());
        let full = self.heard.len() >= WAITING_MAX;
        match self.heard.get_mut(&key) {
            Some(before) if before.signed.claim().size >= claim.size => {}
            // The broker has had its time already.
            Some(before) => before.signed = signed,
            None if full => {}
            None => {
                let heard = Heard { from: from.to_owned(), signed, since_ms: now_ms, attempts: 0 };
                self.heard.insert(key, heard);
            }
        }
        fork
    }

    /// All that wait.
    pub(crate) fn all(&self) -> Vec<Heard> {
        self.heard.values().cloned().collect()
    }

    /// It was decided about.
    pub(crate) fn done(&mut self, heard: &Heard) {
        let key = (heard.from.clone(), heard.signed.claim().origin.clone());
        if self.heard.get(&key).is_some_and(|now| now.signed.claim() == heard.signed.claim()) {
            self.heard.remove(&key);
        } else if let Some(newer) = self.heard.get_mut(&key) {
            newer.attempts = 0;
        }
    }

    /// Of a log that is no longer the present one nothing is to be decided.
    pub(crate) fn keep_only(&mut self, is_present: impl Fn(&str) -> bool) {
        self.heard.retain(|(_, origin), _| is_present(origin));
    }

    /// The broker did not show what decides. An accusation once it has had its time.
    pub(crate) fn unanswered(
        &mut self,
        heard: &Heard,
        pair: &Pair,
        why: &str,
        now_ms: u64,
    ) -> Option<Finding> {
        let key = (heard.from.clone(), heard.signed.claim().origin.clone());
        let waiting = self.heard.get_mut(&key)?;
        waiting.attempts = waiting.attempts.saturating_add(1);
        let late = now_ms.saturating_sub(waiting.since_ms) >= PATIENCE_MS && waiting.attempts >= ATTEMPTS_MIN;
        late.then(|| {
            let (small, large) = (pair.small(), pair.large());
            let text = format!(
                "the broker does not show how its log `{}` went from {} to {} entries, of which {} has the checkpoint \
                 with {} ({why})",
                small.origin,
                small.size,
                large.size,
                heard.from,
                heard.signed.claim().size
            );
            Finding::accusation(Kind::Withheld, text, pair.notes())
        })
    }
}

/// What a signed checkpoint of an ended log shows, beside what the region authority says of its end.
pub(crate) fn of_ended(
    signed: &SignedCheckpoint,
    ended: &lintas_proto::schema::EndedLog,
    witnessed: bool,
) -> Option<Finding> {
    let claim = signed.claim();
    let exhibits = vec![signed.to_bytes()];
    if claim.size == ended.size && claim.root.as_slice() != ended.root.as_ref() {
        let text = format!(
            "the log `{}` has ended with {} entries, says the region authority, and the broker had signed another tree of \
             that size",
            claim.origin, claim.size
        );
        return Some(Finding::evidence(Kind::Fork, text, exhibits));
    }
    // What a quorum had cosigned is not lost when a log ends; what only the broker had signed may be.
    (claim.size > ended.size && witnessed).then(|| {
        let text = format!(
            "the log `{}` has ended with {} entries, says the region authority, and a quorum of witnesses had cosigned {}: \
             what lies between is given up",
            claim.origin, ended.size, claim.size
        );
        Finding::evidence(Kind::Rollback, text, exhibits)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lintas_proto::{
        schema::EndedLog,
        sign::{KeyRole, SigningKey},
    };
    use zeroize::Zeroizing;

    use super::{super::standing::tests::Tree, *};
    use crate::core::log::findings::Weight;

    fn signed(tree: &Tree, size: u64) -> Arc<SignedCheckpoint> {
        let key = SigningKey::from_seed(KeyRole::Log, &Zeroizing::new([1; 32])).unwrap();
        Arc::new(SignedCheckpoint::sign(tree.checkpoint(size, "hub.example/audit"), &key).unwrap())
    }

    fn pair(one: &Arc<SignedCheckpoint>, other: &Arc<SignedCheckpoint>) -> Pair {
        match compare(one, other) {
            Compared::Apart(pair) => pair,
            Compared::Same | Compared::Fork(_) => panic!(),
        }
    }

    #[test]
    fn a_broker_that_does_not_answer_is_accused_after_a_while_even_if_newer_ones_come() {
        let tree = Tree::new(40, u64::MAX);
        let (ours, mut waiting) = (signed(&tree, 3), Waiting::default());
        assert_eq!(waiting.add("KH", signed(&tree, 10), 1_000), None);
        for attempt in 0..4u64 {
            // A newer one comes with each packet.
            assert_eq!(waiting.add("KH", signed(&tree, 20 + attempt), 2_000 + attempt), None);
            let heard = waiting.all().pop().unwrap();
            let now_ms = if attempt < 3 { 1_000 + PATIENCE_MS - 1 } else { 1_000 + PATIENCE_MS };
            let accused = waiting.unanswered(&heard, &pair(&ours, &heard.signed), "no such file", now_ms);
            assert_eq!(accused.is_some(), attempt == 3, "{attempt}");
            if let Some(finding) = accused {
                assert_eq!((finding.kind, finding.weight), (Kind::Withheld, Weight::Accusation));
                assert!(finding.text.contains("KH") && finding.exhibits.len() == 2, "{}", finding.text);
            }
        }
        let heard = waiting.all().pop().unwrap();
        waiting.done(&heard);
        assert!(waiting.all().is_empty());
    }

    #[test]
    fn what_waits_is_bounded_and_compared_among_itself() {
        let (tree, other) = (Tree::new(40, u64::MAX), Tree::new(40, 5));
        let mut waiting = Waiting::default();
        for number in 0..20 {
            waiting.add(&format!("A{number}"), signed(&tree, 30), 0);
        }
        assert_eq!(waiting.all().len(), WAITING_MAX);
        let fork = waiting.add("A1", signed(&other, 30), 0).unwrap();
        assert_eq!((fork.kind, fork.weight), (Kind::Fork, Weight::Evidence));
        waiting.keep_only(|_| false);
        assert!(waiting.all().is_empty());
    }

    #[test]
    fn the_end_of_a_log_is_what_its_broker_had_signed() {
        let (tree, other) = (Tree::new(40, u64::MAX), Tree::new(40, 5));
        let root = Bytes::copy_from_slice(&tree.checkpoint(20, "").root);
        let ended = EndedLog { size: 20, root };
        assert_eq!(of_ended(&signed(&tree, 20), &ended, true), None);
        assert_eq!(of_ended(&signed(&tree, 10), &ended, true), None);
        assert_eq!(of_ended(&signed(&tree, 30), &ended, false), None, "only the broker had signed it");
        assert_eq!(of_ended(&signed(&other, 20), &ended, false).unwrap().kind, Kind::Fork);
        assert_eq!(of_ended(&signed(&tree, 30), &ended, true).unwrap().kind, Kind::Rollback);
    }
}
