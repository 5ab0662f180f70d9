//! Release policies: how long a decision takes in a region of 5,000 agencies with two policies each, and what they cost.

use std::{
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lintas_config::{
    Bootstrap, Directory,
    issue::{self, fresh_seed, new_agency, new_broker, sign_roster},
    os_entropy,
    policy::{Bundle, Decision, Layers, Policies, Question, Way, bundle::sign, check},
};
use lintas_proto::{
    canonical,
    schema::{
        HandlingCode, Kind, Label, Member, MemberStatus, NodeSecrets, Offence, Onward, PolicyBundle, Purpose,
        Role, Roster, RosterUnit, Tlp, UnitFunction, UnitRef,
    },
    sign::{KeyRole, SigningKey, VerifyingKey},
};
use lintas_tests::{policy, region::now_ms};

use crate::{
    bench::Bench,
    report::{Outcome, Row, Target},
    statistics::Durations,
    world::unit,
};

const REGION: &str = "bench";
const AGENCIES: usize = 5_000;
/// Agencies of one group; a packet goes to the others of it.
const GROUP: usize = 50;
/// Of so many agencies is the region that the cost of a change is compared with.
const FEW: usize = 50;
/// Partners whom each agency is asked about.
const PARTNERS: usize = 2;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// A policy may ask about the purpose, the offence, the kind, the colour and where the recipient belongs.
const TEXT: &str = r#"
@id("alerts")
@reason("alerts and notices on trafficking go to the contact points of our group")
permit (principal in Lintas::Group::"GROUP", action == Lintas::Action::"Release", resource)
when {
  [Lintas::Kind::"ALERT", Lintas::Kind::"NOTICE"].contains(resource.kind)
  && resource.offences.containsAny([Lintas::Offence::"TRAFFICKING_IN_PERSONS", Lintas::Offence::"FORCED_LABOUR"])
  && principal.functions.contains(Lintas::Function::"SPOC")
}
unless { resource.caveats.contains(Lintas::Caveat::"SOURCE_PROTECT") };

@id("accept-group")
@reason("we take what our group writes, and TLP:RED only if it names us")
permit (principal, action == Lintas::Action::"Accept", resource in Lintas::Group::"GROUP")
unless { resource.tlp == Lintas::Tlp::"RED" && !resource.named };
"#;

pub(super) fn run(bench: &Bench) -> Outcome {
    bench.says(format!("{AGENCIES} agencies make their keys"));
    let region = Region::found(AGENCIES);
    bench.says(format!("{AGENCIES} agencies publish their policies"));
    let signed = region.signed();
    let before = resident_bytes();
    let bundles: Vec<Arc<Bundle>> =
        signed.iter().map(|bytes| Bundle::open(bytes, &region.directory).unwrap()).collect();
    let bytes_each = (resident_bytes() - before) / AGENCIES as f64;
    let policies =
        Policies::new(region.directory.shared_roster(), bundles.iter().cloned(), now_ms()).unwrap();
    bench.says("decisions");
    let asked = asked();
    let cold = decide(&policies, &asked);
    let remembered = decide(&policies, &asked);
    let change = region.change(&bundles, &policies, 0);
    let after = decide(&change.policies, &asked);
    let few = Region::found(FEW);
    let few_bundles: Vec<Arc<Bundle>> =
        few.signed().iter().map(|bytes| Bundle::open(bytes, &few.directory).unwrap()).collect();
    let few_policies =
        Policies::new(few.directory.shared_roster(), few_bundles.iter().cloned(), now_ms()).unwrap();
    let few_change = few.change(&few_bundles, &few_policies, 0);
    let p99 = |name: &str, all: &Durations| Row::new(format!("policy.{name}.p99"), all.p99_us(), "us");
    let p50 = |name: &str, all: &Durations| Row::new(format!("policy.{name}.p50"), all.p50_us(), "us");
    let beside = format!("with {FEW} agencies");
    vec![
        p50("cold", &cold),
        p99("cold", &cold)
            .must_be(Target::AtMost(1_000.0))
            .note(format!("{} questions, three layers each; never asked before", cold.len())),
        p50("remembered", &remembered),
        p99("remembered", &remembered).must_be(Target::AtMost(2.0)).note("each of them once more"),
        p50("after_change", &after),
        p99("after_change", &after).note("each of them, after one agency has changed its policies"),
        Row::new("policy.memory", bytes_each, "bytes").note("of a bundle with two policies that was read"),
        Row::new("policy.change.examine", micros(change.examined), "us")
            .beside(&beside, micros(few_change.examined))
            .note("signature, reading, names, its own cases"),
        Row::new("policy.change.enforce", micros(change.enforced), "us")
            .beside(&beside, micros(few_change.enforced))
            .note(format!("the bundle of one agency, while {AGENCIES} stand")),
    ]
    .into()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Agencies and their keys.
struct Region {
    directory: Directory,
    secrets: Vec<NodeSecrets>,
}

/// What it took to change one agency's policies.
struct Change {
    examined: Duration,
    enforced: Duration,
    policies: Policies,
}

impl Region {
    fn found(agencies: usize) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let each = agencies.div_ceil(threads);
        let make = |numbers: std::ops::Range<usize>| -> Vec<_> {
            let mut entropy = os_entropy();
            numbers
                .map(|number| new_agency(REGION, member(number), now_ms(), &mut entropy).unwrap())
                .collect()
        };
        let made = thread::scope(|scope| {
            let part = |at: usize| at * each..((at + 1) * each).min(agencies);
            let make = &make;
            let running: Vec<_> = (0..threads).map(|at| scope.spawn(move || make(part(at)))).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let (mut members, mut keysets, mut secrets) = (vec![], vec![], vec![]);
        for (_, secret, request) in made {
            // Nobody watches the log: this region has none.
            members.push(Member { witness_key: Bytes::new(), ..request.member.unwrap() });
            keysets.push(request.keyset.unwrap());
            secrets.push(secret);
        }
        let mut entropy = os_entropy();
        let authority = SigningKey::from_seed(KeyRole::Authority, &fresh_seed(&mut entropy)).unwrap();
        let (_, broker) = new_broker("hub.bench", &mut entropy).unwrap();
        let roster = Roster {
            format: 1,
            region: REGION.to_owned(),
            version: 1,
            not_before_ms: now_ms() - DAY_MS,
            not_after_ms: now_ms() + 100 * DAY_MS,
            authority_keys: vec![Bytes::copy_from_slice(&authority.public_key())],
            threshold: 1,
            members,
            brokers: vec![broker],
            suite_min: 1,
            epoch_ms: 10_000,
            ..Roster::default()
        };
        let bootstrap = Bootstrap {
            region: REGION.to_owned(),
            authority_keys: vec![VerifyingKey::parse(&authority.public_key()).unwrap()],
            threshold: 1,
        };
        let bytes = issue::bundle(&sign_roster(&roster, std::slice::from_ref(&authority)).unwrap(), keysets);
        Self { directory: Directory::open(&bytes, &bootstrap).unwrap(), secrets }
    }

    /// The first bundle of each agency.
    fn signed(&self) -> Vec<Bytes> {
        let one = |(number, secrets)| {
            let said = policy::said(secrets, &text(number), &cases(number), None);
            canonical::encode(&sign(secrets, &said).unwrap())
        };
        self.secrets.iter().enumerate().map(one).collect()
    }

    /// An agency publishes once more; as a broker takes it in.
    fn change(&self, bundles: &[Arc<Bundle>], standing: &Policies, number: usize) -> Change {
        let (secrets, roster) = (&self.secrets[number], self.directory.shared_roster());
        let present = &bundles[number];
        let said: PolicyBundle = policy::said(secrets, &text(number), &cases(number), Some(present.said()));
        let bytes = canonical::encode(&sign(secrets, &said).unwrap());
        let began = Instant::now();
        let bundle = Bundle::open(&bytes, &self.directory).unwrap();
        bundle.follows(Some(present)).unwrap();
        check::activation(bundle.policies(), &bundle.said().cases, &roster, now_ms()).unwrap();
        let examined = began.elapsed();
        let mut all = bundles.to_vec();
        all[number] = bundle;
        let began = Instant::now();
        let policies = standing.with(all, now_ms());
        Change { examined, enforced: began.elapsed(), policies }
    }
}

fn group(number: usize) -> String {
    format!("G{:03}", number / GROUP)
}

fn text(number: usize) -> String {
    TEXT.replace("GROUP", &group(number))
}

fn cases(number: usize) -> String {
    let UnitRef { agency, unit } = unit(number);
    format!(
        "[[case]]\nname = \"among ourselves\"\nfrom = \"{agency}/{unit}\"\nto = \"{agency}/{unit}\"\nkind = \
         \"ALERT\"\ntlp = \"AMBER\"\npurposes = [\"INVESTIGATION\"]\noffences = [\"TRAFFICKING_IN_PERSONS\"]\nexpect = \
         \"release\"\n"
    )
}

fn member(number: usize) -> Member {
    let unit = unit(number);
    Member {
        name: format!("Police of {}", unit.agency),
        roles: vec![Role::Agency as i32],
        units: vec![RosterUnit {
            unit: unit.unit,
            name: "Contact point".to_owned(),
            functions: vec![UnitFunction::Spoc as i32],
            clearance: 2,
            purposes: vec![Purpose::Investigation as i32],
        }],
        groups: vec![group(number)],
        status: MemberStatus::Active as i32,
        agency: unit.agency,
        ..Member::default()
    }
}

/// Who asks about whom: each agency about others of its group.
fn asked() -> Vec<(UnitRef, UnitRef)> {
    let neighbour = |number: usize, away: usize| number / GROUP * GROUP + (number + away) % GROUP;
    let of = |number: usize| (1..=PARTNERS).map(move |away| (unit(number), unit(neighbour(number, away))));
    (0..AGENCIES).flat_map(of).collect()
}

/// How long each decision took. All are released.
fn decide(policies: &Policies, asked: &[(UnitRef, UnitRef)]) -> Durations {
    let label = Label {
        tlp: Tlp::Amber as i32,
        handling: vec![HandlingCode::H1 as i32],
        purposes: vec![Purpose::Investigation as i32],
        offences: vec![Offence::TraffickingInPersons as i32],
        ..Label::default()
    };
    let now_ms = now_ms();
    let one = |(originator, recipient): &(UnitRef, UnitRef)| {
        let question = Question {
            originator,
            recipient,
            named: true,
            kind: Kind::Alert,
            label: &label,
            onward: Onward::None,
            reviewed: false,
            way: Way::Direct,
            now_ms,
        };
        let began = Instant::now();
        let decision = policies.decide(&question, Layers::All);
        let time = began.elapsed();
        assert!(matches!(*decision, Decision::Release(_)), "{decision:?}");
        time
    };
    asked.iter().map(one).collect()
}

/// Memory that this process holds, bytes.
fn resident_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1_024.0
}
