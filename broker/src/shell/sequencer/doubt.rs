//! A round while the clock is in doubt: nothing is decided by time, and no time is written that is newer than the log's last.

use lintas_proto::schema::Reason;

use super::{Fatal, Sequencer};
use crate::shell::{
    clock::IN_DOUBT,
    intake::{Denied, Intake, Refusing, Submitted},
};

impl Sequencer {
    /// Entries that were acknowledged end. Everything else is refused for now; what comes again by itself is dropped.
    pub(super) fn round_in_doubt(&mut self, batch: Vec<Intake>) -> Result<(), Fatal> {
        let log_ms = self.shared.ledger().time_at(0);
        let rules = self.shared.rules_at(log_ms);
        let denied = || -> Denied { (Reason::Clock, IN_DOUBT.to_owned()) };
        for intake in batch {
            match intake {
                Intake::End(end) => self.end(&end, &rules, log_ms)?,
                Intake::Submit(submitted) => {
                    let Submitted { verified, answer, .. } = *submitted;
                    self.shared.refuse(answer, &verified.refuse(Reason::Clock, IN_DOUBT), log_ms);
                }
                Intake::Refuse(refusing) => {
                    let Refusing { refused, answer, .. } = *refusing;
                    self.shared.refuse(answer, &refused.instead(Reason::Clock, IN_DOUBT), log_ms);
                }
                // Whoever asked may be gone.
                Intake::Read { answer, .. } => drop(answer.send(Err(denied()))),
                Intake::Erase { answer, .. } => drop(answer.send(Err(denied()))),
                // Sessions look again, and the next hello brings its slot key again.
                Intake::Deny(_) | Intake::SlotKey { .. } => {}
            }
        }
        self.remove_blobs();
        Ok(())
    }
}
