//! Release policies: examined one after another beside the turn, since reading them takes long; kept and put in force in
//! turn with the directory, by the same exchange of one pointer ([`in_force`](crate::shell::in_force)).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lintas_config::{Directory, policy::Bundle};
use lintas_proto::schema::{PolicyStatus, Reason};
use tokio::task::spawn_blocking;

use super::{CHANGES, Keeper};
use crate::{
    core::pace::Pace,
    shell::policies::{Refused, TO_COME_MAX, examine, is_same},
};

/// How many bundles one agency may bring at once, also such as are refused, and how often one more, milliseconds: reading
/// one may take seconds. An officer tries on the own node, which reads as strictly.
const PUTS: (u64, u64) = (20, 30 * 1_000);
/// How often a bundle is examined again because the directory changed meanwhile.
const TRIES_MAX: usize = 3;

/// Who may have bundles examined, and when.
#[derive(Debug)]
pub(super) struct Gate {
    /// One at a time, in the order in which they came.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Changes, and puts.
    paces: Mutex<(Pace, Pace)>,
}

impl Gate {
    pub(super) fn new() -> Self {
        let pace = |(burst, every_ms)| Pace::new(burst, every_ms);
        Self { turn: Arc::default(), paces: Mutex::new((pace(CHANGES), pace(PUTS))) }
    }

    fn paces(&self) -> MutexGuard<'_, (Pace, Pace)> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a put, if the agency has one left.
    fn put(&self, agency: &str, now_ms: u64) -> Result<(), Refused> {
        let (_, puts) = &mut *self.paces();
        room(puts, agency, now_ms)?;
        puts.count(agency, now_ms);
        Ok(())
    }

    fn may_change(&self, agency: &str, now_ms: u64) -> Result<(), Refused> {
        room(&self.paces().0, agency, now_ms)
    }

    fn changed(&self, agency: &str, now_ms: u64) {
        self.paces().0.count(agency, now_ms);
    }
}

fn room(pace: &Pace, agency: &str, now_ms: u64) -> Result<(), Refused> {
    match pace.wait_ms(agency, now_ms).div_ceil(1_000) {
        0 => Ok(()),
        seconds => {
            let text = format!(
                "Too many versions of policies for now; the broker takes the next one in {seconds} s."
            );
            Err(Refused::new(Reason::Quota, &text))
        }
    }
}

impl Keeper {
    /// Takes in a bundle that the node of `agency` brings (canonical bytes of `SignedPolicyBundle`). Durable when the answer
    /// is [`Reason::Accepted`], and in force if its time has come.
    pub(crate) async fn put_policy(self: &Arc<Self>, agency: &str, bytes: &Bytes) -> PolicyStatus {
        let taken = self.take_policy(agency, bytes).await;
        let version = self.shared.policies.newest(agency).map_or(0, |bundle| bundle.version());
        let (reason, text) = match taken {
            Ok(()) => (Reason::Accepted, String::new()),
            Err(Refused { reason, text }) => {
                self.shared.metrics.policies_refused.add(1);
                let code = reason.as_str_name();
                tracing::warn!(
                    agency,
                    reason = code,
                    newest = version,
                    "policies refused; those in force stay"
                );
                (reason, text)
            }
        };
        PolicyStatus { reason: reason as i32, text, version }
    }

    async fn take_policy(self: &Arc<Self>, agency: &str, bytes: &Bytes) -> Result<(), Refused> {
        self.gate.put(agency, self.shared.clock.now_ms())?;
        for _ in 0..TRIES_MAX {
            let (directory, newest) = (self.shared.directory(), self.shared.policies.newest(agency));
            if newest.as_ref().is_some_and(|newest| is_same(bytes, newest)) {
                return Ok(());
            }
            self.gate.may_change(agency, self.shared.clock.now_ms())?;
            let bundle = self.examined(agency, bytes, &directory, newest).await?;
            let kept = self.in_turn(move |keeper, _| keeper.keep_policy(&bundle, &directory)).await;
            match kept {
                Some(Ok(true)) => return Ok(()),
                Some(Ok(false)) => {}
                Some(Err(refused)) => return Err(refused),
                None => {
                    let text = "The broker is stopping; bring the policies again.";
                    return Err(Refused::new(Reason::ShuttingDown, text));
                }
            }
        }
        let text = "The directory changes while the policies are examined; bring them again in a minute.";
        Err(Refused::new(Reason::Quota, text))
    }

    /// Nobody else's bundle is examined meanwhile, and nobody else waits for it.
    async fn examined(
        &self,
        agency: &str,
        bytes: &Bytes,
        directory: &Arc<Directory>,
        newest: Option<Arc<Bundle>>,
    ) -> Result<Arc<Bundle>, Refused> {
        let turn = Arc::clone(&self.gate.turn).lock_owned().await;
        let (agency, bytes, directory) = (agency.to_owned(), bytes.clone(), Arc::clone(directory));
        let now_ms = self.shared.moment_ms();
        let work = move || {
            let _turn = turn;
            examine(&bytes, &agency, &directory, newest.as_deref(), now_ms)
        };
        spawn_blocking(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "policies could not be examined; this is a defect");
            let text = "The broker could not examine the policies; tell its operator.";
            Err(Refused::new(Reason::Malformed, text))
        })
    }

    /// False if it must be examined again: something has changed since it was.
    fn keep_policy(&self, bundle: &Arc<Bundle>, under: &Directory) -> Result<bool, Refused> {
        let (policies, agency, now_ms) = (&self.shared.policies, bundle.owner(), self.shared.moment_ms());
        if self.shared.directory().hash() != under.hash()
            || bundle.follows(policies.newest(agency).as_deref()).is_err()
        {
            return Ok(false);
        }
        if bundle.said().not_before_ms > now_ms && policies.to_come(agency, now_ms) >= TO_COME_MAX {
            let text = format!(
                "{TO_COME_MAX} versions of the policies of {agency} are still to come; publish the next one when the first of \
                 them is in force."
            );
            return Err(Refused::new(Reason::Quota, &text));
        }
        policies.keep(bundle, now_ms).map_err(|error| {
            tracing::error!(%error, agency, "policies could not be stored");
            let text = "The broker could not store the policies; bring them again, or tell its operator.";
            Refused::new(Reason::DiskFull, text)
        })?;
        self.gate.changed(agency, self.shared.clock.now_ms());
        self.shared.enforce(Arc::clone(self.shared.rules().directory()), None);
        Ok(true)
    }
}
