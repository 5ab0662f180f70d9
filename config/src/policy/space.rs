//! Packets to ask about where nobody has written one: a neutral packet for each unit, and what can be turned about it.
//!
//! | neutral | is |
//! |---|---|
//! | TLP, handling, onward | AMBER, H0, NONE |
//! | purpose | one that the unit is registered for, INVESTIGATION if it is one of them |
//! | everything else of the label | empty |
//! | the recipient | named by the sender |
//!
//! The combinations: nothing turned; each turn alone; for each text of interest all its words together, each of them left out
//! once, and all threes of few; all pairs of words that any text names. A text names a word if it holds it in quotes: one too
//! many costs a question, none is missed.

use std::collections::BTreeSet;

use lintas_proto::schema::{
    Caveat, Classification, DataCategory, HandlingCode, Kind, Label, Offence, Onward, Purpose, Roster, Tlp,
    UnitRef,
};

use super::{
    question::{member, unit},
    view::{Described, Relay},
    vocabulary::Word,
};

/// Of a text with at most this many words, all threes are asked.
const THREES_MAX: usize = 12;
/// Most words of all texts that are paired.
const PAIRED_MAX: usize = 40;

/// One thing about a packet that is not neutral.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    Offence(Offence),
    Data(DataCategory),
    Purpose(Purpose),
    Tlp(Tlp),
    Handling(HandlingCode),
    Caveat(Caveat),
    /// REL_TO with the recipient's agency alone, or with all active members.
    RelTo(bool),
    Marking(String, String),
    Onward(Onward),
    Unnamed,
    Relayed(String),
}

/// The kinds of packets.
pub(super) const KINDS: [Kind; 5] = [Kind::Alert, Kind::Notice, Kind::Request, Kind::Reply, Kind::Recall];

fn all<W: Word>() -> impl Iterator<Item = W> {
    (1..=64).map_while(|value| W::try_from(value).ok())
}

impl Turn {
    /// Of every word of the label, one marking of each rank, and the ways.
    pub(super) fn every(roster: &Roster, owner: &str) -> Vec<Self> {
        let mut turns: Vec<Self> = all::<Offence>().map(Self::Offence).collect();
        turns.extend(all::<DataCategory>().map(Self::Data));
        turns.extend(all::<Purpose>().map(Self::Purpose));
        turns.extend(all::<Tlp>().filter(|tlp| *tlp != Tlp::Amber).map(Self::Tlp));
        turns.extend(all::<HandlingCode>().filter(|code| *code != HandlingCode::H0).map(Self::Handling));
        turns.extend(all::<Caveat>().filter(|caveat| *caveat != Caveat::RelTo).map(Self::Caveat));
        turns.extend([Self::RelTo(false), Self::RelTo(true)]);
        let mut ranks = BTreeSet::new();
        for scheme in &roster.schemes {
            let new = scheme.markings.iter().filter(|marking| ranks.insert(marking.rank));
            turns.extend(new.map(|marking| Self::Marking(scheme.scheme.clone(), marking.value.clone())));
        }
        turns.extend(all::<Onward>().filter(|onward| *onward != Onward::None).map(Self::Onward));
        turns.push(Self::Unnamed);
        let via = roster.members.iter().map(|member| &member.agency).filter(|agency| *agency != owner);
        turns
            .extend(via.filter(|agency| member(roster, agency).is_some()).last().cloned().map(Self::Relayed));
        turns
    }

    /// Whether a text speaks of it.
    pub(super) fn named_in(&self, text: &str) -> bool {
        let quoted = |word: &str| text.contains(&format!("\"{word}\""));
        match self {
            Self::Offence(word) => quoted(word.word()),
            Self::Data(word) => quoted(word.word()),
            Self::Purpose(word) => quoted(word.word()),
            // Policies list the words that they allow: those that they leave out count as well.
            Self::Tlp(_) => all::<Tlp>().any(|tlp| quoted(tlp.word())),
            Self::Handling(word) => quoted(word.word()),
            Self::Caveat(word) => quoted(word.word()),
            Self::RelTo(_) => text.contains("relTo") || quoted(Caveat::RelTo.word()),
            Self::Marking(..) => text.contains("classification"),
            Self::Onward(word) => quoted(word.word()),
            Self::Unnamed => text.contains("named"),
            Self::Relayed(_) => ["via", "hops", "consent"].iter().any(|word| text.contains(word)),
        }
    }

    /// Which field it is about, and whether that field holds one value only.
    fn field(&self) -> (u8, bool) {
        match self {
            Self::Offence(_) => (0, false),
            Self::Data(_) => (1, false),
            Self::Purpose(_) => (2, false),
            Self::Tlp(_) => (3, true),
            Self::Handling(_) => (4, false),
            Self::Caveat(_) => (5, false),
            Self::RelTo(_) => (6, true),
            Self::Marking(..) => (7, true),
            Self::Onward(_) => (8, true),
            Self::Unnamed => (9, true),
            Self::Relayed(_) => (10, true),
        }
    }

    /// What stands before its word, and the word.
    pub(super) fn words(&self) -> (&'static str, String) {
        match self {
            Self::Offence(word) => ("about", word.word().to_owned()),
            Self::Data(word) => ("with data on", word.word().to_owned()),
            Self::Purpose(word) => ("for", word.word().to_owned()),
            Self::Tlp(word) => ("with TLP", word.word().to_owned()),
            Self::Handling(word) => ("with handling", word.word().to_owned()),
            Self::Caveat(word) => ("with", word.word().to_owned()),
            Self::RelTo(false) => ("with REL_TO", "that agency alone".to_owned()),
            Self::RelTo(true) => ("with REL_TO", "all members".to_owned()),
            Self::Marking(scheme, value) => ("marked", format!("{scheme}/{value}")),
            Self::Onward(word) => ("onward", word.word().to_owned()),
            Self::Unnamed => ("to", "a group or an agency".to_owned()),
            Self::Relayed(via) => ("passed on by", format!("{via} with consent")),
        }
    }

    fn apply(&self, roster: &Roster, recipient: &UnitRef, packet: &mut Described) {
        let insert = |list: &mut Vec<i32>, value: i32| {
            list.push(value);
            list.sort_unstable();
            list.dedup();
        };
        let label = &mut packet.label;
        match self {
            Self::Offence(word) => insert(&mut label.offences, *word as i32),
            Self::Data(word) => insert(&mut label.data, *word as i32),
            Self::Purpose(word) => insert(&mut label.purposes, *word as i32),
            Self::Tlp(word) => label.tlp = *word as i32,
            Self::Handling(word) => insert(&mut label.handling, *word as i32),
            Self::Caveat(word) => insert(&mut label.caveats, *word as i32),
            Self::RelTo(everyone) => {
                insert(&mut label.caveats, Caveat::RelTo as i32);
                let active = roster.members.iter().map(|member| &member.agency);
                let active = active.filter(|agency| *everyone && member(roster, agency).is_some());
                label.rel_to = [&recipient.agency].into_iter().chain(active).cloned().collect();
                label.rel_to.sort_unstable();
                label.rel_to.dedup();
            }
            Self::Marking(scheme, value) => {
                let (scheme, value) = (scheme.clone(), value.clone());
                label.classification = Some(Classification { scheme, value });
            }
            Self::Onward(word) => packet.onward = *word,
            Self::Unnamed => packet.named = false,
            Self::Relayed(via) => {
                packet.relay = Some(Relay { via: via.clone(), hops: 1, consent: true });
            }
        }
    }
}

/// The neutral packet of a kind for a unit.
pub(super) fn neutral(roster: &Roster, originator: &UnitRef, recipient: &UnitRef, kind: Kind) -> Described {
    let receiving = member(roster, &recipient.agency).and_then(|member| unit(member, &recipient.unit));
    let registered = receiving.map(|unit| unit.purposes.as_slice()).unwrap_or_default();
    let usual = Purpose::Investigation as i32;
    let purpose =
        if registered.contains(&usual) { usual } else { registered.first().copied().unwrap_or(usual) };
    let label = Label {
        tlp: Tlp::Amber as i32,
        handling: vec![HandlingCode::H0 as i32],
        purposes: vec![purpose],
        ..Label::default()
    };
    let originator = originator.clone();
    Described { originator, named: true, kind, label, onward: Onward::None, reviewed: false, relay: None }
}

/// That packet, turned. A turn of purpose or handling takes the place of the neutral one; two stand together.
pub(super) fn turned(
    roster: &Roster,
    recipient: &UnitRef,
    mut packet: Described,
    turns: &[Turn],
) -> Described {
    if turns.iter().any(|turn| matches!(turn, Turn::Purpose(_))) {
        packet.label.purposes.clear();
    }
    if turns.iter().any(|turn| matches!(turn, Turn::Handling(_))) {
        packet.label.handling.clear();
    }
    for turn in turns {
        turn.apply(roster, recipient, &mut packet);
    }
    packet
}

/// Combinations to ask about, most telling first; each in ascending order, none twice. `focus`: texts each of whose words
/// belong together; `others`: texts whose words are only paired.
pub(super) fn combinations(turns: &[Turn], focus: &[&str], others: &[&str]) -> Vec<Vec<Turn>> {
    let mut found = Found::default();
    found.add(Vec::new());
    turns.iter().for_each(|turn| found.add(vec![turn.clone()]));
    for text in focus {
        let named: Vec<&Turn> = turns.iter().filter(|turn| turn.named_in(text)).collect();
        together(&named, &mut found);
        if named.len() <= THREES_MAX {
            for (a, b, c) in threes(&named) {
                found.add(vec![a.clone(), b.clone(), c.clone()]);
            }
        }
    }
    let texts = || focus.iter().chain(others);
    let named = turns.iter().filter(|turn| texts().any(|text| turn.named_in(text)));
    let named: Vec<&Turn> = named.take(PAIRED_MAX).collect();
    for (at, a) in named.iter().enumerate() {
        for b in named.iter().skip(at + 1) {
            found.add(vec![(*a).clone(), (*b).clone()]);
        }
    }
    found.list
}

/// All words of one text: those of lists together, each with each choice of one field that holds one value, and with one left out.
fn together(named: &[&Turn], found: &mut Found) {
    let lists: Vec<Turn> = named.iter().filter(|turn| !turn.field().1).map(|turn| (*turn).clone()).collect();
    let single: Vec<&Turn> = named.iter().copied().filter(|turn| turn.field().1).collect();
    let mut bases = vec![lists.clone()];
    bases.extend((0..lists.len()).map(|out| {
        let kept = lists.iter().enumerate().filter(|(at, _)| *at != out);
        kept.map(|(_, turn)| turn.clone()).collect()
    }));
    for base in bases {
        for one in &single {
            let mut more = base.clone();
            more.push((*one).clone());
            for other in &single {
                let mut pair = more.clone();
                pair.push((*other).clone());
                found.add(pair);
            }
            found.add(more);
        }
        found.add(base);
    }
}

fn threes<'t>(named: &[&'t Turn]) -> Vec<(&'t Turn, &'t Turn, &'t Turn)> {
    let mut all = Vec::new();
    for (i, a) in named.iter().enumerate() {
        for (j, b) in named.iter().enumerate().skip(i + 1) {
            all.extend(named.iter().skip(j + 1).map(|c| (*a, *b, *c)));
        }
    }
    all
}

#[derive(Default)]
struct Found {
    list: Vec<Vec<Turn>>,
    known: BTreeSet<Vec<Turn>>,
}

impl Found {
    fn add(&mut self, mut turns: Vec<Turn>) {
        turns.sort_unstable();
        turns.dedup();
        let mut single: Vec<u8> =
            turns.iter().map(Turn::field).filter(|(_, single)| *single).map(|(field, _)| field).collect();
        let chosen = single.len();
        single.dedup();
        if single.len() == chosen && self.known.insert(turns.clone()) {
            self.list.push(turns);
        }
    }
}

/// Combinations in words: `about A or B; with TLP RED and about C`. Nothing turned is the empty text.
pub(super) fn phrase(turns: &[Turn], joint: &str) -> String {
    let mut parts: Vec<(&str, Vec<String>)> = Vec::new();
    for turn in turns {
        let (lead, word) = turn.words();
        match parts.last_mut().filter(|(known, _)| *known == lead) {
            Some((_, words)) => words.push(word),
            None => parts.push((lead, vec![word])),
        }
    }
    let part = |(lead, words): &(&str, Vec<String>)| format!("{lead} {}", words.join(joint));
    parts.iter().map(part).collect::<Vec<_>>().join(" ")
}
