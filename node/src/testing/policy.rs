//! Policies of agencies in tests, and what a broker says of those who decided.

use std::sync::Arc;

use bytes::Bytes;
use lintas_config::policy::{self, Bundle, schema_hash};
use lintas_proto::{
    canonical,
    id::sha256,
    schema::{AuditEvent, EventType, PolicyBundle, Reason, UnitRef},
};

use super::{REGION, Region};
use crate::shell::desk::Desk;

/// A policy that lets everything go and takes everything.
pub(crate) const OPEN: &str = r#"
@id("release-all")
@reason("for tests")
permit (principal, action == Lintas::Action::"Release", resource);

@id("accept-all")
@reason("for tests")
permit (principal, action == Lintas::Action::"Accept", resource);
"#;

impl Region {
    /// A bundle of an agency, signed by its delegate.
    pub(crate) fn bundle_of(&self, agency: &str, version: u64, policies: &str) -> Arc<Bundle> {
        let said = PolicyBundle {
            format: 1,
            region: REGION.to_owned(),
            owner: agency.to_owned(),
            version,
            not_before_ms: self.roster.not_before_ms,
            schema_hash: Bytes::copy_from_slice(&schema_hash()),
            policies: policies.to_owned(),
            ..PolicyBundle::default()
        };
        let signed = policy::bundle::sign(&self.secrets[agency], &said).unwrap();
        let hash = sha256(&[&signed.bundle]);
        Bundle::kept(&canonical::encode(&signed), &hash).unwrap()
    }

    /// Gives an agency's desk the open policy, if it has none.
    pub(crate) fn give_open(&self, desk: &Desk) {
        let known = desk.policies(&desk.directory()).unwrap();
        if known.bundle(&desk.keys().agency).is_none() {
            self.give(desk, OPEN);
        }
    }

    /// Gives an agency's desk its next policy.
    pub(crate) fn give(&self, desk: &Desk, policies: &str) {
        let agency = desk.keys().agency.clone();
        let known = desk.policies(&desk.directory()).unwrap();
        let version = known.bundle(&agency).map_or(0, |known| known.version()) + 1;
        desk.take_policy(self.bundle_of(&agency, version, policies));
    }
}

/// What an honest broker says of who decided.
pub(super) fn decided(kind: EventType, unit: Option<&UnitRef>) -> AuditEvent {
    let policy_id = match (kind, unit) {
        (EventType::Denied, _) => "baseline/for-tests".to_owned(),
        (EventType::NotAccepted, Some(unit)) => format!("{}/not-accepted", unit.agency),
        _ => return AuditEvent { reason: Reason::Accepted as i32, ..AuditEvent::default() },
    };
    let text = format!("It does not go there (policy {policy_id}). What to do: ask.");
    AuditEvent { reason: Reason::Policy as i32, policy_ids: vec![policy_id], text, ..AuditEvent::default() }
}
