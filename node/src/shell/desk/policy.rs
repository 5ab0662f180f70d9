//! The own agency's policy: published, brought to the broker, shown.

use bytes::Bytes;
use lintas_config::policy::{Bundle, Owner, PolicySet, Problem, bundle, check, schema_hash};
use lintas_proto::{canonical, id::hex, schema::PolicyBundle};
use serde::{Deserialize, Serialize};

use super::{Desk, keyring::Part};
use crate::{
    core::{
        health::Check,
        keys::KeysError,
        text::one_line,
        view::{PolicyVersion, PolicyView},
    },
    shell::{
        clock::{self, show as time},
        failure::{Code, Failure},
        policies::{AtBroker, NotTaken, Shelf, files::Version},
        policy_link::Offer,
    },
};

/// What an officer publishes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewPolicy {
    /// Cedar policies.
    pub(crate) policies: String,
    /// Its own cases.
    pub(crate) cases: String,
    /// What changes and why; may be empty.
    pub(crate) note: String,
    /// In force not earlier; absent for now.
    pub(crate) not_before_ms: Option<u64>,
    /// The newest version that the officer has seen, 0 for none: this one follows it.
    pub(crate) after: u64,
}

impl Desk {
    /// Signs the next version and keeps it; in force here at once when its time has come, and brought to the broker by the
    /// session.
    pub(super) fn publish_policy(&self, new: NewPolicy, now_ms: u64) -> Result<PolicyView, Failure> {
        let (keys, directory) = (self.keys(), self.directory());
        let said = self.next_policy(new, now_ms)?;
        let wrong = |problems: Vec<Problem>| {
            let lines: Vec<String> = problems.iter().map(|problem| format!("\n  - {problem}")).collect();
            Failure::new(
                Code::Draft,
                format_args!("nothing was published; mend this first:{}", lines.concat()),
            )
        };
        let policies = PolicySet::read(Owner::Agency(keys.agency.clone()), &said.policies).map_err(wrong)?;
        check::activation(&policies, &said.cases, &directory.shared_roster(), now_ms).map_err(wrong)?;
        let mut signed = None;
        self.change_secrets(Part::All, |secrets| {
            signed = Some(bundle::sign(secrets, &said).map_err(KeysError::Issue)?);
            Ok(None::<()>)
        })?;
        let signed = signed.ok_or_else(|| Failure::internal("the policy was not signed"))?;
        let bytes = canonical::encode(&signed);
        let bundle = Bundle::open(&bytes, &directory)
            .map_err(|error| Failure::new(Code::Draft, format_args!("nothing was published: {error}")))?;
        self.policies.publish(&bundle, now_ms)?;
        tracing::info!(version = bundle.version(), hash = hex(bundle.hash()), "release policy published");
        self.policy_changed();
        Ok(self.policy_view(now_ms))
    }

    /// What is to be signed.
    fn next_policy(&self, new: NewPolicy, now_ms: u64) -> Result<PolicyBundle, Failure> {
        let no = |why: String| Failure::new(Code::Draft, format_args!("nothing was published: {why}"));
        let keys = self.keys();
        let (versions, broker) = (self.policies.versions(), self.policies.at_broker());
        let present = versions.last().map_or(0, |newest| newest.version);
        // What the broker has refused makes room.
        let newest = versions.iter().rfind(|one| broker.refused.is_none_or(|refused| one.version < refused));
        if broker.forked {
            return Err(no(broker.trouble.unwrap_or_default()));
        }
        if broker.version > present {
            let why = format!(
                "the broker has version {} of this agency's policy, and this node {present}{}",
                broker.version,
                broker.trouble.map_or_else(
                    || "; it is being fetched, try again in a moment".to_owned(),
                    |why| format!(": {why}")
                )
            );
            return Err(no(why));
        }
        if new.after != present {
            return Err(no(format!(
                "version {present} was published meanwhile; look at it with `lintas policy show`, and publish again"
            )));
        }
        let (before, begun_ms) = newest.map_or((0, 0), |newest| (newest.version, newest.not_before_ms));
        if let Some(early_ms) = new.not_before_ms.filter(|asked_ms| *asked_ms < begun_ms) {
            return Err(no(format!(
                "it would be in force from {}, before version {before}, which is from {}; give a later --not-before",
                time(early_ms),
                time(begun_ms)
            )));
        }
        Ok(PolicyBundle {
            format: bundle::FORMAT,
            region: keys.region.clone(),
            owner: keys.agency.clone(),
            version: before.saturating_add(1),
            prev_hash: newest.map_or_else(Bytes::new, |newest| Bytes::copy_from_slice(&newest.hash)),
            not_before_ms: new.not_before_ms.unwrap_or(now_ms).max(begun_ms),
            schema_hash: Bytes::copy_from_slice(&schema_hash()),
            policies: new.policies,
            cases: new.cases,
            note: new.note,
        })
    }

    /// The versions of the own policy, and what the broker has.
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.policies
    }

    /// Takes what the broker has and this node has not. What is wrong with it is told.
    pub(crate) fn take_policies(&self, offered: &[Bytes]) -> Result<(), NotTaken> {
        let directory = self.directory();
        let taken = self.policies.take(offered, (&self.keys().agency, &directory), clock::now_ms())?;
        if taken > 0 {
            tracing::warn!(taken, "the broker had versions of this agency's policy that this node had not");
            self.policy_changed();
        }
        Ok(())
    }

    /// Notes what the broker has said that it has.
    pub(crate) fn heard_of_policies(&self, offer: &Offer) {
        self.policies.note_broker(|broker| {
            broker.heard_ms = clock::now_ms();
            broker.version = offer.version;
            broker.hash = offer.hash.to_vec();
        });
    }

    /// How the own policy stands.
    pub(super) fn policy_view(&self, now_ms: u64) -> PolicyView {
        let (versions, broker) = (self.policies.versions(), self.policies.at_broker());
        let unreadable = self.policies.unreadable(now_ms).map(|problem| problem.to_string());
        let mut view = view(&self.keys().agency, &versions, Some(&broker), now_ms);
        view.in_force = view.in_force.filter(|_| unreadable.is_none());
        view.trouble = unreadable.or(view.trouble);
        view
    }

    /// As [`policy_view`](Self::policy_view), without the versions.
    pub(super) fn policy_now(&self, now_ms: u64) -> PolicyView {
        PolicyView { versions: Vec::new(), ..self.policy_view(now_ms) }
    }

    /// What the doctor says of it.
    pub(super) fn policy_check(&self, now_ms: u64) -> Check {
        const POLICY: &str = "policy";
        let view = self.policy_now(now_ms);
        if let Some(why) = self.policies.unreadable(now_ms) {
            return Check::wrong(POLICY, why.what, why.mend);
        }
        match (&view.trouble, view.in_force, view.broker) {
            (Some(why), ..) if view.forked => Check::wrong(
                POLICY,
                why,
                "do what the sentence says; until then the broker decides by its own",
            ),
            (Some(why), ..) => Check::warning(
                POLICY,
                format!("{}; {why}", view.line()),
                "do what the sentence says, and look again; the broker decides by what it has",
            ),
            (None, None, _) => Check::warning(
                POLICY,
                format!("release policy: {}", view.line()),
                "write one: `lintas policy new`, then `lintas policy publish`",
            ),
            (None, Some(_), Some(broker)) if broker < view.newest => Check::warning(
                POLICY,
                format!("release policy: {}", view.line()),
                "keep `lintas run` going: it brings the rest",
            ),
            (None, Some(_), Some(_) | None) => Check::ok(POLICY, format!("release policy: {}", view.line())),
        }
    }
}

/// How versions stand: here, and at a broker that has said what it has.
pub(crate) fn view(agency: &str, versions: &[Version], broker: Option<&AtBroker>, now_ms: u64) -> PolicyView {
    let broker = broker.filter(|broker| broker.heard_ms > 0);
    let in_time = |up_to: u64| {
        let mut there = versions.iter().filter(move |one| one.version <= up_to);
        there.rfind(|one| one.not_before_ms <= now_ms).map(|one| one.version)
    };
    let (here, there) = (in_time(u64::MAX), broker.and_then(|broker| in_time(broker.version)));
    let counts = |one: &Version, present: Option<u64>| match present {
        _ if one.not_before_ms > now_ms => "to_come",
        Some(present) if present == one.version => "in_force",
        Some(_) | None => "over",
    };
    let at_broker = |one: &Version, broker: &AtBroker| {
        if broker.refused == Some(one.version) {
            "refused".to_owned()
        } else if one.version > broker.version || (broker.forked && one.version == broker.version) {
            "missing".to_owned()
        } else {
            counts(one, there).to_owned()
        }
    };
    let shown = |one: &Version| PolicyVersion {
        version: one.version,
        hash: hex(&one.hash),
        not_before_ms: one.not_before_ms,
        note: one_line(&one.note),
        certificate: one.delegation,
        here: if one.believed { counts(one, here) } else { "replaced_keys" }.to_owned(),
        at_broker: broker.map(|broker| at_broker(one, broker)),
    };
    let believed = versions.iter().find(|one| Some(one.version) == here).is_some_and(|one| one.believed);
    let replaced = here.filter(|_| !believed).map(|version| {
        format!(
            "version {version} of this agency's policy came from the broker and was signed with keys that have been replaced \
             since, so it does not count here: look at it (`lintas policy show {version}`), then publish what you want as \
             the next version"
        )
    });
    PolicyView {
        agency: agency.to_owned(),
        in_force: here.filter(|_| believed),
        newest: versions.last().map_or(0, |newest| newest.version),
        broker: broker.map(|broker| broker.version),
        heard_ms: broker.map(|broker| broker.heard_ms),
        trouble: broker.and_then(|broker| broker.trouble.clone()).or(replaced),
        forked: broker.is_some_and(|broker| broker.forked),
        versions: versions.iter().map(shown).collect(),
    }
}

/// For who only reads: the folder, and no node.
pub(crate) fn offline(agency: &str, versions: &[Version]) -> PolicyView {
    view(agency, versions, None, clock::now_ms())
}
