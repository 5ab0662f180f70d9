//! Release policies of a test's region.

use bytes::Bytes;
use lintas_config::{
    policy::{Owner, PolicySet, bundle::sign, sample, schema_hash},
    source::MemberSource,
};
use lintas_proto::{
    canonical,
    id::sha256,
    schema::{NodeSecrets, PolicyBundle},
};

/// What the agencies of a region let go and take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// Everything that the baseline does not forbid: for tests that are about something else.
    Everything,
    /// As the sample says, config/mekong/policy.
    AsTheSampleSays,
}

/// Releases and takes everything.
pub const OPEN: &str = r#"
@id("release-all")
@reason("a test releases everything")
permit (principal, action == Lintas::Action::"Release", resource);

@id("accept-all")
@reason("a test takes everything")
permit (principal, action == Lintas::Action::"Accept", resource);
"#;

impl Released {
    /// Policies and cases of an agency; none for one that has no unit to send or to take anything.
    #[must_use]
    pub fn texts(self, member: &MemberSource) -> Option<(String, String)> {
        let unit = member.units.first()?;
        match self {
            Self::Everything => {
                let name = format!("{}/{}", member.agency, unit.unit);
                let purpose = unit.purposes.first()?.as_str_name().trim_start_matches("PURPOSE_").to_owned();
                let cases = format!(
                    "[[case]]\nname = \"to itself\"\nfrom = \"{name}\"\nto = \"{name}\"\nkind = \"ALERT\"\ntlp = \
                     \"AMBER\"\npurposes = [\"{purpose}\"]\nexpect = \"release\"\n"
                );
                Some((OPEN.to_owned(), cases))
            }
            Self::AsTheSampleSays => {
                sample::texts(&member.agency).map(|(policies, cases)| (policies.to_owned(), cases.to_owned()))
            }
        }
    }
}

/// The first bundle of an agency, or the one after `previous`, signed: canonical bytes of `SignedPolicyBundle`.
#[must_use]
pub fn signed(secrets: &NodeSecrets, policies: &str, cases: &str, previous: Option<&PolicyBundle>) -> Bytes {
    let said = said(secrets, policies, cases, previous);
    assert!(PolicySet::read(Owner::Agency(said.owner.clone()), policies).is_ok(), "{policies}");
    canonical::encode(&sign(secrets, &said).unwrap())
}

/// The same before it is signed; nothing is checked.
#[must_use]
pub fn said(
    secrets: &NodeSecrets,
    policies: &str,
    cases: &str,
    previous: Option<&PolicyBundle>,
) -> PolicyBundle {
    let hash = |previous: &PolicyBundle| Bytes::copy_from_slice(&sha256(&[&canonical::encode(previous)]));
    PolicyBundle {
        format: 1,
        region: secrets.region.clone(),
        owner: secrets.agency.clone(),
        version: previous.map_or(1, |previous| previous.version + 1),
        prev_hash: previous.map(hash).unwrap_or_default(),
        not_before_ms: 0,
        schema_hash: Bytes::copy_from_slice(&schema_hash()),
        policies: policies.to_owned(),
        cases: cases.to_owned(),
        note: String::new(),
    }
}
