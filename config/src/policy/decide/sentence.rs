//! A denial in words, for whoever may read them.

use lintas_proto::schema::UnitRef;

use super::{DecidedBy, Denial, NOT_ACCEPTED, name};
use crate::policy::{question::Question, set::Owner};

impl Denial {
    /// Who decided, in words.
    #[must_use]
    pub fn decider(&self, question: &Question<'_>) -> String {
        match self.by {
            DecidedBy::Region => "the regional baseline".to_owned(),
            DecidedBy::Originator => format!("the release policy of {}", question.originator.agency),
            DecidedBy::Recipient => format!("the policy of {}", question.recipient.agency),
        }
    }

    /// What the originator may know of it: of another agency's policy only that it does not accept, and what that policy
    /// itself lets others know.
    #[must_use]
    pub fn for_originator(&self, recipient: &UnitRef) -> Self {
        if self.by != DecidedBy::Recipient {
            return self.clone();
        }
        let agency = &recipient.agency;
        let why = self.public_reason.clone().unwrap_or_else(|| format!("{agency} does not accept it"));
        let advice = format!("ask {agency} by another way if it must have it");
        let policy_id = Owner::Agency(agency.clone()).policy(NOT_ACCEPTED);
        Self { policy_id, why, advice, ..self.clone() }
    }

    /// One sentence: who decided about whom, why, what to do.
    #[must_use]
    pub fn sentence(&self, question: &Question<'_>) -> String {
        let (decider, to) = (self.decider(question), name(question.recipient));
        let verb =
            if self.by == DecidedBy::Recipient { "does not accept it for" } else { "does not release it to" };
        let mut letters = decider.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase()).unwrap_or_default();
        format!(
            "{first}{} {verb} {to}: {} (policy {}). What to do: {}.",
            letters.as_str(),
            self.why,
            self.policy_id,
            self.advice
        )
    }
}
