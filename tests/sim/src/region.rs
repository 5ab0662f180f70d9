//! Five agencies with two units each, under one authority. Policies are of few kinds, so that the oracle can say without
//! Cedar what they allow.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use lintas_broker::core::rules::Rules;
use lintas_config::{
    Bootstrap, Directory,
    issue::{bundle, fresh_seed, new_agency, new_broker, sign_roster},
    policy::{Bundle, Policies, bundle::sign, schema_hash},
};
use lintas_node::sim::KeyFile;
use lintas_proto::{
    canonical,
    id::sha256,
    schema::{
        BrokerSecrets, Member, MemberStatus, NodeSecrets, PolicyBundle, Purpose, Role, Roster, RosterUnit,
        SignedKeyset, Tlp, UnitFunction, UnitRef,
    },
    sign::{KeyRole, SigningKey, VerifyingKey},
};

use crate::dice::Dice;

/// When every run begins: 2026-09-21T14:13:20Z.
pub const BEGIN_MS: u64 = 1_790_000_000_000;
/// A day.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Name of the region.
pub const REGION: &str = "mekong";
/// Whoever takes part, in the order of their codes.
pub const AGENCIES: [&str; 5] = ["ID", "KH", "MM", "TH", "VN"];

/// What one agency lets go and takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// It releases nothing that is TLP:AMBER.
    pub keeps_amber: bool,
    /// It releases nothing to that agency.
    pub never_to: Option<usize>,
    /// It takes nothing from that agency.
    pub never_from: Option<usize>,
}

impl Terms {
    fn text(self) -> String {
        let mut text = "@id(\"release\") @reason(\"r\")\npermit (principal, action == Lintas::Action::\"Release\", resource);\n\
                        @id(\"accept\") @reason(\"r\")\npermit (principal, action == Lintas::Action::\"Accept\", resource);\n"
            .to_owned();
        if let Some(agency) = self.never_to {
            text += &format!(
                "@id(\"never-to\") @reason(\"r\")\nforbid (principal in Lintas::Agency::\"{}\", action == \
                 Lintas::Action::\"Release\", resource);\n",
                AGENCIES[agency]
            );
        }
        if let Some(agency) = self.never_from {
            text += &format!(
                "@id(\"never-from\") @reason(\"r\")\nforbid (principal, action == Lintas::Action::\"Accept\", resource in \
                 Lintas::Agency::\"{}\");\n",
                AGENCIES[agency]
            );
        }
        if self.keeps_amber {
            text += "@id(\"amber\") @reason(\"r\")\nforbid (principal, action == Lintas::Action::\"Release\", resource)\n\
                     when { resource.tlp == Lintas::Tlp::\"AMBER\" };\n";
        }
        text
    }
}

/// What every run begins with.
struct Beginning {
    authority: Arc<SigningKey>,
    broker: BrokerSecrets,
    secrets: Vec<NodeSecrets>,
    files: Vec<KeyFile>,
    keysets: Vec<SignedKeyset>,
    roster: Roster,
    directory: Arc<Directory>,
    bundles: Vec<Arc<Bundle>>,
}

/// A region as it is now.
#[derive(Debug)]
pub struct Region {
    authority: Arc<SigningKey>,
    /// The broker's keys.
    pub broker: BrokerSecrets,
    /// The nodes' key files.
    pub files: Vec<KeyFile>,
    secrets: Vec<NodeSecrets>,
    keysets: Vec<SignedKeyset>,
    roster: Roster,
    /// Newest of each agency.
    bundles: Vec<Arc<Bundle>>,
    /// What they say.
    pub terms: Vec<Terms>,
    /// In force at the broker.
    pub rules: Rules,
}

/// Index of an agency's code.
#[must_use]
pub fn index(agency: &str) -> usize {
    AGENCIES.iter().position(|code| *code == agency).unwrap()
}

/// One of the two units of an agency.
#[must_use]
pub fn unit(agency: usize, second: bool) -> UnitRef {
    let code = AGENCIES[agency];
    UnitRef { agency: code.to_owned(), unit: format!("{code}-{}", if second { "B" } else { "A" }) }
}

fn member(agency: usize) -> Member {
    let code = AGENCIES[agency];
    let one = |second: bool, function: UnitFunction| RosterUnit {
        unit: unit(agency, second).unit,
        name: "Unit".to_owned(),
        functions: vec![function as i32],
        clearance: 2,
        purposes: vec![Purpose::Investigation as i32],
    };
    Member {
        agency: code.to_owned(),
        country: code.to_owned(),
        name: format!("Police of {code}"),
        roles: vec![Role::Agency as i32],
        units: vec![one(false, UnitFunction::Spoc), one(true, UnitFunction::Investigation)],
        status: MemberStatus::Active as i32,
        ..Member::default()
    }
}

fn beginning() -> &'static Beginning {
    static ONCE: OnceLock<Beginning> = OnceLock::new();
    ONCE.get_or_init(|| {
        let mut dice = Dice::new(0, 0);
        let entropy = dice.entropy();
        let authority = Arc::new(SigningKey::from_seed(KeyRole::Authority, &fresh_seed(entropy)).unwrap());
        let (broker, broker_keys) = new_broker("hub.mekong", entropy).unwrap();
        let (mut members, mut keysets, mut secrets) = (Vec::new(), Vec::new(), Vec::new());
        for agency in 0..AGENCIES.len() {
            let (_, secret, request) = new_agency(REGION, member(agency), BEGIN_MS, entropy).unwrap();
            // Nobody witnesses here.
            members.push(Member { witness_key: Bytes::new(), ..request.member.unwrap() });
            keysets.push(request.keyset.unwrap());
            secrets.push(secret);
        }
        let roster = Roster {
            format: 1,
            region: REGION.to_owned(),
            version: 1,
            not_before_ms: BEGIN_MS - 190 * DAY_MS,
            not_after_ms: BEGIN_MS + 200 * DAY_MS,
            authority_keys: vec![Bytes::copy_from_slice(&authority.public_key())],
            threshold: 1,
            members,
            brokers: vec![broker_keys],
            suite_min: 1,
            epoch_ms: 60_000,
            ..Roster::default()
        };
        let key = VerifyingKey::parse(&authority.public_key()).unwrap();
        let bootstrap = Bootstrap { region: REGION.to_owned(), authority_keys: vec![key], threshold: 1 };
        let signed = sign_roster(&roster, std::slice::from_ref(authority.as_ref())).unwrap();
        let directory = Directory::open(&bundle(&signed, keysets.clone()), &bootstrap).unwrap();
        let bundles = secrets.iter().map(|secrets| next_bundle(secrets, None, Terms::default())).collect();
        let files = secrets.iter().map(|secrets| KeyFile::open(secrets.clone()).unwrap()).collect();
        let directory = Arc::new(directory);
        Beginning { authority, broker, secrets, files, keysets, roster, directory, bundles }
    })
}

fn next_bundle(secrets: &NodeSecrets, before: Option<&Bundle>, terms: Terms) -> Arc<Bundle> {
    let said = PolicyBundle {
        format: 1,
        region: REGION.to_owned(),
        owner: secrets.agency.clone(),
        version: before.map_or(1, |before| before.version() + 1),
        prev_hash: before.map(|before| Bytes::copy_from_slice(before.hash())).unwrap_or_default(),
        schema_hash: Bytes::copy_from_slice(&schema_hash()),
        policies: terms.text(),
        ..PolicyBundle::default()
    };
    let signed = sign(secrets, &said).unwrap();
    Bundle::kept(&canonical::encode(&signed), &sha256(&[&signed.bundle])).unwrap()
}

impl Region {
    /// Everybody is a member, and lets everything go.
    #[must_use]
    pub fn new() -> Self {
        let Beginning { authority, broker, secrets, files, keysets, roster, directory, bundles } =
            beginning();
        let policies = Policies::new(directory.shared_roster(), bundles.iter().cloned(), BEGIN_MS).unwrap();
        Self {
            authority: authority.clone(),
            broker: broker.clone(),
            secrets: secrets.clone(),
            files: files.clone(),
            keysets: keysets.clone(),
            roster: roster.clone(),
            bundles: bundles.clone(),
            terms: vec![Terms::default(); AGENCIES.len()],
            rules: Rules::new(Arc::clone(directory), Arc::new(policies)),
        }
    }

    /// Whether an agency is an active member.
    #[must_use]
    pub fn is_active(&self, agency: usize) -> bool {
        self.roster.members[agency].status == MemberStatus::Active as i32
    }

    /// The authority suspends an agency, or takes it back. In force when this returns.
    pub fn set_active(&mut self, agency: usize, active: bool) {
        let before = Arc::clone(self.rules.directory());
        let status = if active { MemberStatus::Active } else { MemberStatus::Suspended };
        self.roster.members[agency].status = status as i32;
        self.roster.version += 1;
        self.roster.prev_hash = Bytes::copy_from_slice(before.roster_hash());
        let signed = sign_roster(&self.roster, std::slice::from_ref(self.authority.as_ref())).unwrap();
        let next = before.succeed(&bundle(&signed, self.keysets.clone()), &[]).unwrap();
        let policies = Policies::new(next.shared_roster(), self.bundles.iter().cloned(), BEGIN_MS).unwrap();
        self.rules = Rules::new(Arc::new(next), Arc::new(policies));
    }

    /// An agency publishes its next policy. In force when this returns.
    pub fn set_terms(&mut self, agency: usize, terms: Terms) {
        self.terms[agency] = terms;
        self.bundles[agency] = next_bundle(&self.secrets[agency], Some(&self.bundles[agency]), terms);
        let policies = self.rules.policies().with(self.bundles.iter().cloned(), BEGIN_MS);
        self.rules = Rules::new(Arc::clone(self.rules.directory()), Arc::new(policies));
    }

    /// What the node of an agency knows: the directory and its own policy.
    #[must_use]
    pub fn for_node(&self, agency: usize) -> (Arc<Directory>, Arc<Policies>) {
        let directory = Arc::clone(self.rules.directory());
        let own = [Arc::clone(&self.bundles[agency])];
        (directory, Arc::new(self.rules.policies().with(own, BEGIN_MS)))
    }

    /// Whether the terms in force let a packet go from one agency to the other, without asking Cedar.
    #[must_use]
    pub fn allows(&self, from: usize, to: usize, tlp: Tlp) -> bool {
        let (giver, taker) = (self.terms[from], self.terms[to]);
        !(giver.keeps_amber && tlp == Tlp::Amber)
            && giver.never_to != Some(to)
            && taker.never_from != Some(from)
    }
}

impl Default for Region {
    fn default() -> Self {
        Self::new()
    }
}
