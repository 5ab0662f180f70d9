//! Random questions over the sample region. Most fields are drawn freely; some are drawn near what a rule asks for, so that
//! every rule is met often. A seed makes all of it again.

use lintas_proto::schema::{
    Caveat, Classification, DataCategory, HandlingCode, Kind, Label, Offence, Onward, Purpose, Roster,
    RosterUnit, Tlp, UnitRef,
};

use crate::world::{Asked, MARKINGS, midnight, units};

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last + 1));
        }
    }
    /// Up to `most` of the values 1 to `last` of a vocabulary, sorted, each once.
    fn words(&mut self, last: i32, most: usize) -> Vec<i32> {
        let count = self.below(most + 1);
        sorted((0..count).map(|_| 1 + i32::try_from(self.below(last.unsigned_abs() as usize)).unwrap()))
    }
    fn value<W: TryFrom<i32>>(&mut self, last: i32) -> W {
        let value = 1 + i32::try_from(self.below(last.unsigned_abs() as usize)).unwrap();
        W::try_from(value).ok().unwrap()
    }
}

fn sorted(words: impl IntoIterator<Item = i32>) -> Vec<i32> {
    let mut words: Vec<i32> = words.into_iter().collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// One question about one of `regions`.
pub fn asked(random: &mut Random, regions: &[Roster]) -> Asked {
    let region = if random.percent(70) { 0 } else { 1 + random.below(regions.len() - 1) };
    let roster = &regions[region];
    let (from, _) = someone(random, roster);
    let (mut to, mut unit) = someone(random, roster);
    if random.percent(5) {
        // Within one agency.
        let others = units(roster, &from.agency);
        if !others.is_empty() {
            unit = random.one(others).clone();
            to = UnitRef { agency: from.agency.clone(), unit: unit.unit.clone() };
        }
    }
    let relay = random.percent(25).then(|| {
        let via = if random.percent(80) { "RCO".to_owned() } else { someone(random, roster).0.agency };
        (via, 1 + u32::try_from(random.below(4)).unwrap(), random.percent(70))
    });
    Asked {
        region,
        named: random.percent(75),
        kind: random.value::<Kind>(5),
        label: label(random, &to, &unit),
        onward: random.value::<Onward>(4),
        reviewed: random.percent(30),
        relay,
        now_ms: moment(random),
        from,
        to,
    }
}

/// A unit of any member; now and then one that is not there.
fn someone(random: &mut Random, roster: &Roster) -> (UnitRef, RosterUnit) {
    let member = random.one(&roster.members);
    let agency = member.agency.clone();
    if member.units.is_empty() || random.percent(1) {
        return (UnitRef { agency, unit: "NOBODY".to_owned() }, RosterUnit::default());
    }
    let unit = random.one(&member.units).clone();
    (UnitRef { agency, unit: unit.unit.clone() }, unit)
}

/// Any moment of three years, or one at which an arrangement begins or ends, or next to it.
fn moment(random: &mut Random) -> u64 {
    let literals = [midnight("2026-07-01"), midnight("2027-07-01")];
    if random.percent(40) {
        return random.one(&literals) - 1 + random.below(3) as u64;
    }
    midnight("2026-01-01") + random.next() % (midnight("2029-01-01") - midnight("2026-01-01"))
}

fn label(random: &mut Random, to: &UnitRef, unit: &RosterUnit) -> Label {
    let suits = random.percent(80) && !unit.purposes.is_empty();
    let mut purposes = if suits { vec![*random.one(&unit.purposes)] } else { random.words(8, 2) };
    if random.percent(25) {
        purposes.push(1 + i32::try_from(random.below(8)).unwrap());
    }
    if purposes.is_empty() {
        purposes.push(Purpose::Investigation as i32);
    }
    let purposes = sorted(purposes);
    let mut caveats = if random.percent(40) { random.words(6, 2) } else { Vec::new() };
    if random.percent(60) {
        caveats.retain(|caveat| *caveat != Caveat::Noforn as i32);
    }
    let mut rel_to = Vec::new();
    if caveats.contains(&(Caveat::RelTo as i32)) {
        rel_to = vec![(*random.one(&["ID", "KH", "TH", "VN"])).to_owned()];
        if random.percent(70) {
            rel_to.push(to.agency.clone());
        }
        rel_to.sort();
        rel_to.dedup();
    }
    let classification = random.percent(30).then(|| {
        let (scheme, value) = if random.percent(3) {
            *random.one(&[("TH", "MAT"), ("XX", "SECRET")])
        } else {
            let (scheme, value, _) = random.one(&MARKINGS);
            (*scheme, *value)
        };
        Classification { scheme: scheme.to_owned(), value: value.to_owned() }
    });
    let tlp = if random.percent(50) { *random.one(&[Tlp::Green, Tlp::Amber]) } else { random.value(5) };
    let mut handling = random.words(4, 2);
    if random.percent(60) {
        handling.retain(|code| *code != HandlingCode::H3 as i32);
    }
    if handling.is_empty() {
        handling.push(HandlingCode::H0 as i32);
    }
    Label {
        tlp: tlp as i32,
        handling,
        caveats,
        rel_to,
        classification,
        purposes,
        offences: random.words(Offence::Other as i32, 3),
        data: if random.percent(60) { random.words(DataCategory::Financial as i32, 3) } else { Vec::new() },
    }
}
