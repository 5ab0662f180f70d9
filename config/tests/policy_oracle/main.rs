//! The sample region's decisions against an oracle: conditions in plain Rust, written from the tables of docs/POLICY.md and
//! not from the policies. Random questions; the seed of each run is printed where it fails.
//!
//! | variable | what |
//! |---|---|
//! | `LINTAS_POLICY_CASES` | how many questions; 5,000 if not set |
//! | `LINTAS_POLICY_SEED` | makes a run again |

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod agencies;
mod mutants;
mod oracle;
mod random;
mod world;

use std::collections::BTreeMap;

use lintas_config::{
    issue::fresh_seed,
    os_entropy,
    policy::{DecidedBy, Layers, sample},
};
use lintas_proto::schema::Roster;

use self::{
    oracle::{Expected, decide, rules},
    random::Random,
    world::{Asked, InForce, bundles, regions},
};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn cases() -> usize {
    number("LINTAS_POLICY_CASES").map_or(5_000, |count| usize::try_from(count).unwrap())
}

fn is_long() -> bool {
    cases() >= 50_000
}

fn seed() -> u64 {
    let fresh = || {
        let bytes = fresh_seed(&mut os_entropy());
        u64::from_le_bytes(bytes.as_slice()[..8].try_into().unwrap())
    };
    number("LINTAS_POLICY_SEED").unwrap_or_else(fresh)
}

fn layers(random: &mut Random) -> Layers {
    *random.one(&[Layers::All, Layers::All, Layers::All, Layers::Release, Layers::Accept])
}

/// What the oracle says.
fn expected(regions: &[Roster], asked: &Asked, layers: Layers) -> Expected {
    match rules(&regions[asked.region], asked) {
        Ok(rules) => decide(&rules, asked, layers),
        Err(by_the_roster) => by_the_roster,
    }
}

fn answer(policies: &InForce, asked: &Asked, layers: Layers) -> Expected {
    Expected::of(&policies.of(asked.region).decide(&asked.question(), layers))
}

/// A random question. What the region alone decides is drawn again now and then: there is much of it.
fn asked(random: &mut Random, regions: &[Roster]) -> Asked {
    let mut asked = random::asked(random, regions);
    for _ in 0..if random.percent(60) { 4 } else { 0 } {
        match expected(regions, &asked, Layers::All) {
            Expected::Denied { by: DecidedBy::Region, .. } => asked = random::asked(random, regions),
            Expected::Denied { .. } | Expected::Allowed { .. } => break,
        }
    }
    asked
}

/// Rules on which the decision hangs: were it the other way round with one of them, it would differ. And whether each holds.
fn hinges(regions: &[Roster], asked: &Asked, layers: Layers) -> Vec<(String, bool)> {
    let Ok(mut rules) = rules(&regions[asked.region], asked) else { return Vec::new() };
    let so = decide(&rules, asked, layers);
    let mut found = Vec::new();
    for at in 0..rules.len() {
        rules[at].holds ^= true;
        let differs = decide(&rules, asked, layers) != so;
        rules[at].holds ^= true;
        if differs {
            found.push((rules[at].id.clone(), rules[at].holds));
        }
    }
    found
}

/// Full ids of all sample policies.
fn all_ids() -> Vec<String> {
    let of = bundles();
    let agencies = of.iter().flat_map(|bundle| bundle.policies().policies().map(|told| told.id.clone()));
    let owner = lintas_config::policy::Owner::Baseline;
    let baseline = lintas_config::policy::PolicySet::read(owner, sample::baseline().0).unwrap();
    let mut ids: Vec<String> = agencies.chain(baseline.policies().map(|told| told.id.clone())).collect();
    ids.sort();
    ids
}

#[test]
fn every_decision_is_the_one_that_the_page_promises() {
    let (seed, cases) = (seed(), cases());
    let regions = regions(sample::baseline().0);
    let policies = InForce::new(&regions, &bundles());
    let mut random = Random(seed);
    // How often a decision hung on each rule: while it did not hold, and while it did.
    let mut reached: BTreeMap<String, [u32; 2]> = BTreeMap::new();
    let mut outcomes: BTreeMap<&str, u32> = BTreeMap::new();
    for number in 0..cases {
        let (asked, layers) = (asked(&mut random, &regions), layers(&mut random));
        let (should, is) = (expected(&regions, &asked, layers), answer(&policies, &asked, layers));
        assert_eq!(is, should, "seed {seed}, question {number}, {layers:?}: {asked:#?}");
        let outcome = match &is {
            Expected::Denied { .. } => "denied",
            Expected::Allowed { review: true, .. } => "review",
            Expected::Allowed { .. } => "released",
        };
        *outcomes.entry(outcome).or_default() += 1;
        for (id, holds) in hinges(&regions, &asked, layers) {
            reached.entry(id).or_default()[usize::from(holds)] += 1;
        }
    }
    println!("seed {seed}: {outcomes:?}");
    let mut never = Vec::new();
    for id in all_ids() {
        let [not, held] = reached.get(&id).copied().unwrap_or_default();
        println!("{held:7} held, {not:7} did not: {id}");
        if held == 0 || not == 0 {
            never.push(id);
        }
    }
    assert_eq!(never, Vec::<String>::new(), "seed {seed}: these never mattered, in one way or the other");
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
}

#[test]
fn what_is_remembered_is_what_would_be_decided_anew() {
    let (seed, cases) = (seed(), cases() / 20);
    let regions = regions(sample::baseline().0);
    let bundles = bundles();
    let remembering = InForce::new(&regions, &bundles);
    let mut random = Random(seed);
    let mut all: Vec<(Asked, Layers)> = Vec::new();
    for _ in 0..cases {
        let (first, layers) = (asked(&mut random, &regions), layers(&mut random));
        // The same again, at other times and after other decisions.
        for _ in 0..3 {
            all.push((Asked { now_ms: asked(&mut random, &regions).now_ms, ..first.clone() }, layers));
        }
        all.push((first, layers));
    }
    for round in 0..2 {
        random.shuffle(&mut all);
        for (number, (asked, layers)) in all.iter().enumerate() {
            let remembered = answer(&remembering, asked, *layers);
            assert_eq!(
                remembered,
                expected(&regions, asked, *layers),
                "seed {seed}, round {round}, {layers:?}: {asked:#?}"
            );
            if number % 20 == 0 {
                let one = std::slice::from_ref(&regions[asked.region]);
                let anew = InForce::new(one, &bundles).of(0).decide(&asked.question(), *layers);
                assert_eq!(remembered, Expected::of(&anew), "seed {seed}, {layers:?}: {asked:#?}");
            }
        }
    }
}
