//! What a policy is asked: may this packet go to this unit? And everything it may know, cut out of the roster: nothing else
//! is ever shown to Cedar.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};
use lintas_proto::schema::{
    Caveat, DataCategory, HandlingCode, Kind, Label, Member, MemberStatus, Offence, Onward, PolicyFacts,
    Purpose, Roster, RosterUnit, Tlp, UnitFunction, UnitRef,
};

use super::{
    decide::Stop,
    vocabulary::{Word, schema, uid, unit_name, word_uid},
};

/// How a packet comes to the recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    /// From its originator.
    Direct,
    /// A member passes it on.
    Relayed {
        /// Agency code.
        via: &'a str,
        /// How often it was passed on, this time included.
        hops: u32,
        /// The originator has consented to this.
        consent: bool,
    },
}

/// May this packet go to this unit? All of it comes from signed bytes.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who wrote it.
    pub originator: &'a UnitRef,
    /// Who would receive it.
    pub recipient: &'a UnitRef,
    /// The sender chose the unit itself, not an agency or a group.
    pub named: bool,
    /// What it is.
    pub kind: Kind,
    /// Its clear label.
    pub label: &'a Label,
    /// Whether it may be passed on.
    pub onward: Onward,
    /// A person of the originator has reviewed the release.
    pub reviewed: bool,
    /// How it comes.
    pub way: Way<'a>,
    /// When, milliseconds since 1970.
    pub now_ms: u64,
}

impl Question<'_> {
    /// What the audit log holds of it, beside originator, recipient and time.
    #[must_use]
    pub fn facts(&self) -> PolicyFacts {
        PolicyFacts {
            kind: self.kind as i32,
            label: Some(self.label.clone()),
            onward: self.onward as i32,
            reviewed: self.reviewed,
        }
    }
}

/// An active member of a roster.
#[must_use]
pub fn member<'r>(roster: &'r Roster, agency: &str) -> Option<&'r Member> {
    let at = roster.members.binary_search_by(|member| member.agency.as_str().cmp(agency)).ok()?;
    roster.members.get(at).filter(|member| member.status == MemberStatus::Active as i32)
}

/// A unit of a member.
#[must_use]
pub fn unit<'r>(member: &'r Member, unit: &str) -> Option<&'r RosterUnit> {
    let at = member.units.binary_search_by(|known| known.unit.as_str().cmp(unit)).ok()?;
    member.units.get(at)
}

/// Rank of the label's marking, 0 for none; `None` for one that the roster does not know.
#[must_use]
pub fn rank(roster: &Roster, label: &Label) -> Option<u32> {
    let Some(marking) = &label.classification else { return Some(0) };
    let scheme = roster.schemes.iter().find(|scheme| scheme.scheme == marking.scheme)?;
    scheme.markings.iter().find(|known| known.value == marking.value).map(|known| known.rank)
}

/// The question in Cedar's terms.
#[derive(Debug)]
pub(super) struct Slice {
    principal: EntityUid,
    packet: EntityUid,
    context: Context,
    entities: Entities,
}

impl Slice {
    /// Cuts out of the roster what the question is about.
    ///
    /// # Errors
    /// [`Stop`]: the question is answered without any policy.
    pub(super) fn new(roster: &Roster, question: &Question<'_>) -> Result<Self, Stop> {
        let (to, from) = (question.recipient, question.originator);
        let originator = member(roster, &from.agency)
            .filter(|member| unit(member, &from.unit).is_some())
            .ok_or(Stop::Originator)?;
        let recipient = member(roster, &to.agency).ok_or(Stop::Recipient)?;
        let receiving = unit(recipient, &to.unit).ok_or(Stop::Recipient)?;
        let rank = rank(roster, question.label).ok_or(Stop::Marking)?;
        let broken = |error: String| Stop::Broken(error);
        let agency = uid("Agency", &recipient.agency);
        let functions = words::<UnitFunction>(&receiving.functions)?;
        let principal = Entity::new(
            uid("Unit", &unit_name(&to.agency, &to.unit)),
            HashMap::from([
                ("agency".to_owned(), RestrictedExpression::new_entity_uid(agency.clone())),
                ("functions".to_owned(), functions),
                ("clearance".to_owned(), RestrictedExpression::new_long(receiving.clearance.into())),
            ]),
            HashSet::from([agency]),
        )
        .map_err(|error| broken(error.to_string()))?;
        let packet = packet(question, rank)?;
        let (principal_uid, packet_uid) = (principal.uid(), packet.uid());
        let mut entities = vec![principal, packet];
        // Everybody whom a policy may ask about: of an agency that is not here `in` is never true.
        let mut agencies = vec![recipient, originator];
        if let Way::Relayed { via, .. } = question.way {
            agencies.push(member(roster, via).ok_or(Stop::Via)?);
        }
        agencies.sort_by_key(|member| &member.agency);
        agencies.dedup_by_key(|member| &member.agency);
        for agency in &agencies {
            entities.push(agency_entity(roster, agency)?);
        }
        let region = uid("Region", &roster.region);
        let mut groups: Vec<&String> = agencies.iter().flat_map(|member| &member.groups).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            entities.push(plain(uid("Group", group), HashSet::from([region.clone()]))?);
        }
        entities.push(plain(region, HashSet::new())?);
        // With the schema: without it there would be no hierarchy of actions, and `action in` would never hold.
        let entities =
            Entities::from_entities(entities, Some(schema())).map_err(|e| broken(e.to_string()))?;
        let context = context(question, receiving)?;
        Ok(Self { principal: principal_uid, packet: packet_uid, context, entities })
    }

    /// The request of one action.
    pub(super) fn request(&self, action: &str) -> Result<Request, Stop> {
        let (principal, packet) = (self.principal.clone(), self.packet.clone());
        Request::new(principal, uid("Action", action), packet, self.context.clone(), Some(schema()))
            .map_err(|error| Stop::Broken(error.to_string()))
    }

    pub(super) fn entities(&self) -> &Entities {
        &self.entities
    }
}

fn plain(uid: EntityUid, parents: HashSet<EntityUid>) -> Result<Entity, Stop> {
    Entity::new(uid, HashMap::new(), parents).map_err(|error| Stop::Broken(error.to_string()))
}

fn agency_entity(roster: &Roster, member: &Member) -> Result<Entity, Stop> {
    let mut parents: HashSet<EntityUid> = member.groups.iter().map(|group| uid("Group", group)).collect();
    parents.insert(uid("Region", &roster.region));
    let country = RestrictedExpression::new_string(member.country.clone());
    Entity::new(uid("Agency", &member.agency), HashMap::from([("country".to_owned(), country)]), parents)
        .map_err(|error| Stop::Broken(error.to_string()))
}

/// Its name is always the same, so that equal questions are equal.
fn packet(question: &Question<'_>, rank: u32) -> Result<Entity, Stop> {
    let label = question.label;
    let originator = uid("Agency", &question.originator.agency);
    let agency = |code: &String| RestrictedExpression::new_entity_uid(uid("Agency", code));
    let entity = RestrictedExpression::new_entity_uid;
    let tlp = Tlp::try_from(label.tlp).map_err(|_| Stop::Broken("the label has no TLP".to_owned()))?;
    let attributes = HashMap::from([
        ("originator".to_owned(), entity(originator.clone())),
        ("named".to_owned(), RestrictedExpression::new_bool(question.named)),
        ("kind".to_owned(), entity(word_uid(&question.kind))),
        ("tlp".to_owned(), entity(word_uid(&tlp))),
        ("handling".to_owned(), words::<HandlingCode>(&label.handling)?),
        ("caveats".to_owned(), words::<Caveat>(&label.caveats)?),
        ("relTo".to_owned(), RestrictedExpression::new_set(label.rel_to.iter().map(agency))),
        ("classification".to_owned(), RestrictedExpression::new_long(rank.into())),
        ("purposes".to_owned(), words::<Purpose>(&label.purposes)?),
        ("offences".to_owned(), words::<Offence>(&label.offences)?),
        ("data".to_owned(), words::<DataCategory>(&label.data)?),
        ("onward".to_owned(), entity(word_uid(&question.onward))),
    ]);
    Entity::new(uid("Packet", "packet"), attributes, HashSet::from([originator]))
        .map_err(|error| Stop::Broken(error.to_string()))
}

fn context(question: &Question<'_>, receiving: &RosterUnit) -> Result<Context, Stop> {
    let broken = |error: String| Stop::Broken(error);
    let (via, hops, consent) = match question.way {
        Way::Direct => (None, 0, false),
        Way::Relayed { via, hops, consent } => (Some(via), hops, consent),
    };
    let via = via.map(|via| ("via".to_owned(), RestrictedExpression::new_entity_uid(uid("Agency", via))));
    let pairs = [
        ("now".to_owned(), RestrictedExpression::new_datetime(datetime(question.now_ms)?)),
        ("purposes".to_owned(), words::<Purpose>(&receiving.purposes)?),
        ("hops".to_owned(), RestrictedExpression::new_long(hops.into())),
        ("consent".to_owned(), RestrictedExpression::new_bool(consent)),
    ];
    Context::from_pairs(pairs.into_iter().chain(via)).map_err(|error| broken(error.to_string()))
}

/// A moment as Cedar writes it, e.g. `2026-11-22T13:22:48.123Z`.
fn datetime(ms: u64) -> Result<String, Stop> {
    let broken = || Stop::Broken("the time is beyond all calendars".to_owned());
    let ms = i64::try_from(ms).map_err(|_| broken())?;
    let moment = jiff::Timestamp::from_millisecond(ms).map_err(|_| broken())?;
    Ok(moment.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

fn words<W: Word>(values: &[i32]) -> Result<RestrictedExpression, Stop> {
    let word =
        |value: &i32| W::try_from(*value).map(|word| RestrictedExpression::new_entity_uid(word_uid(&word)));
    let words: Result<Vec<_>, _> = values.iter().map(word).collect();
    let words = words.map_err(|_| Stop::Broken(format!("a value of {} is not known here", W::TYPE)))?;
    Ok(RestrictedExpression::new_set(words))
}
