//! Random questions over the sample region. Most fields are drawn freely; some are drawn near what a rule asks for, so that
//! every rule is met often. A seed makes all of it again.

use lintas_proto::schema::{
    Caveat, Classification, DataCategory, HandlingCode, Kind, Label, Offence, Onward, Purpose, Roster,
    RosterUnit, Tlp, UnitRef,
};

use crate::world::{Asked, MARKINGS, midnight, units};

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
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
pub(crate) fn asked(random: &mut Random, regions: &[Roster]) -> Asked {
    let region = if random.percent(70) { 0 } else { 1 + random.below(regions.len() - 1) };
    let roster = &regions[region];
    let (from, to) = both(random, roster);
    let known = units(roster, &to.agency).iter().find(|unit| unit.unit == to.unit).cloned();
    let known = known.unwrap_or_default();
    let tame = random.percent(50);
    let relay = random.percent(if tame { 10 } else { 40 }).then(|| {
        let via = if random.percent(80) { "RCO".to_owned() } else { someone(random, roster).agency };
        (via, 1 + u32::try_from(random.below(3)).unwrap(), random.percent(75))
    });
    let mut asked = Asked {
        region,
        named: random.percent(75),
        kind: random.value::<Kind>(5),
        label: label(random, tame, &to, &known),
        onward: random.value::<Onward>(4),
        reviewed: random.percent(30),
        relay,
        now_ms: moment(random),
        from,
        to,
    };
    if random.percent(35) {
        random.one(&HINTS)(&mut asked);
    }
    asked
}

/// What rare rules ask for, each in a word or two; all else stays random.
const HINTS: [fn(&mut Asked); 24] = [
    |q| {
        (q.from, q.to) = (unit("VN", "VN-C02"), unit("ID", "ID-FIU"));
        q.label.purposes = vec![Purpose::FinancialInvestigation as i32];
    },
    |q| {
        (q.from, q.to) = (unit("ID", "ID-FIU"), unit("VN", "VN-FIU"));
        q.label.purposes = vec![Purpose::FinancialInvestigation as i32];
    },
    |q| {
        (q.from, q.to) = (unit("ID", "ID-SPOC"), unit("VN", "VN-C02"));
        q.label.offences = vec![Offence::MigrantSmuggling as i32];
    },
    |q| {
        (q.from, q.to) = (unit("TH", "TH-SPOC"), unit("ID", "ID-PPA"));
        (q.kind, q.label.purposes) = (Kind::Reply, vec![Purpose::VictimProtection as i32]);
    },
    |q| (q.from, q.to, q.kind) = (unit("TH", "TH-SPOC"), unit("RCO", "RCO-DESK"), Kind::Alert),
    |q| (q.from, q.to, q.kind) = (unit("RCO", "RCO-DESK"), unit("TH", "TH-SPOC"), Kind::Alert),
    |q| {
        (q.from, q.to) = (unit("TH", "TH-SPOC"), unit("VN", "VN-C02"));
        q.label.caveats = vec![Caveat::SourceProtect as i32];
    },
    |q| {
        (q.from, q.to) = (unit("LA", "LA-ATD"), unit("KH", "KH-AHT"));
        (q.named, q.label.data) = (true, vec![DataCategory::Minor as i32]);
    },
    |q| {
        (q.from, q.to) = (unit("TH", "TH-SPOC"), unit("TH", "TH-LAB"));
        (q.label.data, q.label.purposes) =
            (vec![DataCategory::Suspect as i32], vec![Purpose::Prevention as i32]);
    },
    |q| (q.to, q.named, q.label.caveats) = (unit("KH", "KH-AHT"), true, vec![Caveat::EyesOnly as i32]),
    |q| (q.named, q.label.caveats) = (false, vec![Caveat::EyesOnly as i32]),
    |q| (q.label.caveats, q.label.rel_to) = (vec![Caveat::RelTo as i32], vec!["LA".to_owned()]),
    |q| q.label.caveats = vec![Caveat::Noforn as i32],
    |q| (q.from, q.label.caveats) = (unit("ID", "ID-SPOC"), vec![Caveat::SourceProtect as i32]),
    |q| (q.relay, q.onward) = (Some(("RCO".to_owned(), 1, false)), Onward::None),
    |q| {
        (q.relay, q.onward) = (Some(("RCO".to_owned(), 1, false)), Onward::Region);
        q.label.handling = vec![HandlingCode::H2 as i32];
    },
    |q| {
        (q.from, q.to) = (unit("MM", "MM-ATIPD"), unit("ID", "ID-SPOC"));
        q.label.offences = vec![Offence::MigrantSmuggling as i32];
    },
    |q| (q.from, q.to, q.kind) = (unit("ID", "ID-SPOC"), unit("RCO", "RCO-DESK"), Kind::Alert),
    |q| (q.from, q.to, q.kind) = (unit("MM", "MM-MAR"), unit("TH", "TH-MAR"), Kind::Alert),
    |q| {
        (q.from, q.to) = (unit("VN", "VN-C02"), unit("KH", "KH-AHT"));
        q.label.classification =
            Some(Classification { scheme: "VN".to_owned(), value: "TOI-MAT".to_owned() });
    },
    |q| (q.from, q.to, q.kind) = (unit("VN", "VN-C02"), unit("ID", "ID-SPOC"), Kind::Request),
    |q| (q.from, q.label.data) = (unit("KH", "KH-AHT"), vec![DataCategory::Witness as i32]),
    |q| q.label.data = vec![DataCategory::Victim as i32, DataCategory::Minor as i32],
    |q| {
        (q.from, q.to, q.kind) = (unit("RCO", "RCO-DESK"), unit("AUD", "AUD-BOARD"), Kind::Notice);
        (q.label.data, q.label.purposes) = (Vec::new(), vec![Purpose::Statistics as i32]);
    },
];

fn unit(agency: &str, unit: &str) -> UnitRef {
    UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }
}

/// Who writes and who would receive: any two units, one agency's own, or two that have an arrangement.
fn both(random: &mut Random, roster: &Roster) -> (UnitRef, UnitRef) {
    let pair = |from: (&str, &str), to: (&str, &str)| (unit(from.0, from.1), unit(to.0, to.1));
    let arranged = [
        pair(("MM", "MM-ATIPD"), ("ID", "ID-SPOC")),
        pair(("ID", "ID-SPOC"), ("VN", "VN-C02")),
        pair(("ID", "ID-SPOC"), ("MM", "MM-ATIPD")),
        pair(("KH", "KH-AHT"), ("RCO", "RCO-DESK")),
        pair(("TH", "TH-SPOC"), ("DSI", "DSI-A")),
        pair(("TH", "TH-ATD-RNG"), ("KH", "KH-BOR")),
        pair(("VN", "VN-C02"), ("KH", "KH-BOR")),
        pair(("TH", "TH-SPOC"), ("LA", "LA-ATD")),
        pair(("KH", "KH-AHT"), ("LA", "LA-ATD")),
        pair(("RCO", "RCO-DESK"), ("LA", "LA-ATD")),
        pair(("TH", "TH-ATD-RNG"), ("RCO", "RCO-DESK")),
        pair(("VN", "VN-C02"), ("RCO", "RCO-DESK")),
        pair(("VN", "VN-VP"), ("TH", "TH-LAB")),
        pair(("LA", "LA-ATD"), ("KH", "KH-VP")),
        pair(("LA", "LA-ATD"), ("TH", "TH-VP")),
        pair(("VN", "VN-C02"), ("KH", "KH-AHT")),
        pair(("RCO", "RCO-DESK"), ("AUD", "AUD-BOARD")),
    ];
    let (from, to) = (someone(random, roster), someone(random, roster));
    match random.below(100) {
        0..35 => random.one(&arranged).clone(),
        35..41 => units(roster, &from.agency)
            .iter()
            .max_by_key(|_| random.next())
            .map_or((from.clone(), to), |unit| {
                (from.clone(), UnitRef { agency: from.agency.clone(), unit: unit.unit.clone() })
            }),
        _ => (from, to),
    }
}

/// A unit of any member; now and then one that is not there.
fn someone(random: &mut Random, roster: &Roster) -> UnitRef {
    let member = random.one(&roster.members);
    let nobody = member.units.is_empty() || random.percent(1);
    let unit = if nobody { "NOBODY".to_owned() } else { random.one(&member.units).unit.clone() };
    UnitRef { agency: member.agency.clone(), unit }
}

/// Any moment of three years, or one at which an arrangement begins or ends, or next to it.
fn moment(random: &mut Random) -> u64 {
    let literals = [midnight("2026-07-01"), midnight("2027-07-01")];
    if random.percent(40) {
        return random.one(&literals) - 1 + random.below(3) as u64;
    }
    midnight("2026-01-01") + random.next() % (midnight("2029-01-01") - midnight("2026-01-01"))
}

fn label(random: &mut Random, tame: bool, to: &UnitRef, unit: &RosterUnit) -> Label {
    let suits = random.percent(80) && !unit.purposes.is_empty();
    let suits = suits || (tame && !unit.purposes.is_empty());
    let mut purposes = if suits { vec![*random.one(&unit.purposes)] } else { random.words(8, 2) };
    if random.percent(25) {
        purposes.push(1 + i32::try_from(random.below(8)).unwrap());
    }
    if purposes.is_empty() {
        purposes.push(Purpose::Investigation as i32);
    }
    let purposes = sorted(purposes);
    let mut caveats =
        if random.percent(if tame { 15 } else { 50 }) { random.words(6, 2) } else { Vec::new() };
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
    let classification = random.percent(if tame { 15 } else { 40 }).then(|| {
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
        data: if random.percent(60) {
            random.words(DataCategory::Financial as i32, if tame { 1 } else { 3 })
        } else {
            Vec::new()
        },
    }
}
