//! Rules of the body, checked by the sender before sealing and by the recipient after opening.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{
    blob::blob_length,
    core::{Core, opens},
};
use crate::{
    limits,
    schema::{Body, Grading, GradingScheme, HandlingCode, Kind, PartialDate, Text},
};

/// The body format of this version.
pub const FORMAT: u32 = 1;

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BodyError {
    /// A format that this version does not know.
    #[error("body format {0} is unknown; this version knows format 1")]
    Format(u32),
    /// Not exactly the typed part that the core's kind names.
    #[error("body must hold exactly the part for {0:?}")]
    Kind(Kind),
    /// No title, or one without words.
    #[error("body needs a title")]
    Title,
    /// Text without language, or with a tag that is none.
    #[error("`{0}` is not a BCP 47 language tag, e.g. `th` or `km-Khmr`")]
    Language(String),
    /// A grading that its scheme does not know.
    #[error("grading {source_code}/{information} is not in the scheme {scheme:?}")]
    Grading {
        /// Scheme named.
        scheme: GradingScheme,
        /// Source code given.
        source_code: String,
        /// Information code given.
        information: String,
    },
    /// H3 without words, or words without H3.
    #[error("handling code H3 and its restriction in words go together")]
    HandlingRestriction,
    /// Attachments of core and body do not fit.
    #[error("attachment {0} of the body does not fit the core")]
    Attachment(usize),
    /// Openings that are not those of all commitments.
    #[error("the visible audience is not the audience that the core commits to")]
    Audience,
    /// Entity ids not unique or zero.
    #[error("entity id {0} is zero or stands twice")]
    EntityId(u32),
    /// A relation, leg or event that names no entity.
    #[error("entity id {0} is named but not there")]
    NoSuchEntity(u32),
    /// A fixed-size or bounded field of another size.
    #[error("{0} has the wrong size")]
    Size(&'static str),
    /// A position on no globe, or a date in no calendar.
    #[error("{0} is out of range")]
    Range(&'static str),
}

/// Checks a body against the core that it is sealed with.
///
/// # Errors
/// [`BodyError`].
pub fn check(body: &Body, core: &Core) -> Result<(), BodyError> {
    if body.format != FORMAT {
        return Err(BodyError::Format(body.format));
    }
    check_kind(body, core.kind)?;
    if body.title.is_empty() || body.title.iter().any(|title| title.text.is_empty()) {
        return Err(BodyError::Title);
    }
    texts(body).try_for_each(language)?;
    body.gradings.iter().try_for_each(grading)?;
    let restricted = core.label.handling.contains(&(HandlingCode::H3 as i32));
    if restricted == body.handling_restriction.is_empty() {
        return Err(BodyError::HandlingRestriction);
    }
    check_sizes(body)?;
    check_attachments(body, core)?;
    check_audience(body, core)?;
    check_entities(body)?;
    check_places_and_dates(body)
}

fn check_kind(body: &Body, kind: Kind) -> Result<(), BodyError> {
    let parts = [
        (Kind::Alert, body.alert.is_some()),
        (Kind::Notice, body.notice.is_some()),
        (Kind::Request, body.request.is_some()),
        (Kind::Reply, body.reply.is_some()),
        (Kind::Recall, body.recall.is_some()),
    ];
    let fits = parts.iter().all(|(part, present)| (*part == kind) == *present);
    if fits && kind != Kind::Unspecified { Ok(()) } else { Err(BodyError::Kind(kind)) }
}

/// Every text of the body.
fn texts(body: &Body) -> impl Iterator<Item = &Text> {
    let head = body.title.iter().chain(&body.summary).chain(&body.handling_restriction);
    let alert = body.alert.iter().flat_map(|alert| &alert.action_asked);
    let request = body.request.iter().flat_map(|request| &request.questions);
    let reply = body.reply.iter().flat_map(|reply| reply.answer.iter().chain(&reply.ground));
    let recall = body.recall.iter().flat_map(|recall| &recall.explanation);
    head.chain(alert).chain(request).chain(reply).chain(recall).chain(entity_texts(body))
}

fn entity_texts(body: &Body) -> impl Iterator<Item = &Text> {
    let persons = body.persons.iter().flat_map(|person| &person.description);
    let vessels = body.vessels.iter().flat_map(|vessel| &vessel.description);
    let vehicles = body.vehicles.iter().flat_map(|vehicle| &vehicle.description);
    let documents = body.documents.iter().flat_map(|document| &document.description);
    let phones = body.phones.iter().flat_map(|phone| &phone.description);
    let accounts = body.accounts.iter().flat_map(|account| &account.description);
    let locations = body.locations.iter().flat_map(|location| location.name.iter().chain(&location.address));
    let routes = body.routes.iter().flat_map(|route| &route.description);
    let organisations = body.organisations.iter().flat_map(|org| org.name.iter().chain(&org.description));
    let events = body.events.iter().flat_map(|event| &event.description);
    let relations = body.relations.iter().flat_map(|relation| &relation.description);
    let attachments = body.attachments.iter().flat_map(|attachment| &attachment.description);
    let things = vessels.chain(vehicles).chain(documents).chain(phones).chain(accounts).chain(locations);
    persons.chain(things).chain(routes).chain(organisations).chain(events).chain(relations).chain(attachments)
}

fn language(text: &Text) -> Result<(), BodyError> {
    let tag = text.language.as_str();
    let subtag =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    let primary =
        tag.split('-').next().is_some_and(|p| p.len() >= 2 && p.bytes().all(|b| b.is_ascii_alphabetic()));
    if primary && tag.len() <= 35 && tag.split('-').all(subtag) {
        return Ok(());
    }
    Err(BodyError::Language(start(tag)))
}

/// What an error may show of a text that somebody else wrote: 40 characters.
fn start(text: &str) -> String {
    text.chars().take(40).collect()
}

fn grading(grading: &Grading) -> Result<(), BodyError> {
    let scheme = GradingScheme::try_from(grading.scheme).unwrap_or(GradingScheme::Unspecified);
    let (sources, informations, handlings): (&[&str], &[&str], &[&str]) = match scheme {
        GradingScheme::Europol4x4 => (&["A", "B", "C", "X"], &["1", "2", "3", "4"], &[""]),
        GradingScheme::Admiralty => {
            (&["A", "B", "C", "D", "E", "F", "G"], &["1", "2", "3", "4", "5", "6"], &[""])
        }
        GradingScheme::Uk3x5x2 => (&["1", "2", "3"], &["A", "B", "C", "D", "E"], &["P", "C"]),
        GradingScheme::Unspecified => (&[], &[], &[]),
    };
    let known = sources.contains(&grading.source.as_str())
        && informations.contains(&grading.information.as_str())
        && handlings.contains(&grading.handling.as_str());
    let (source_code, information) = (start(&grading.source), start(&grading.information));
    if known { Ok(()) } else { Err(BodyError::Grading { scheme, source_code, information }) }
}

fn check_sizes(body: &Body) -> Result<(), BodyError> {
    let sizes = [
        ("supersedes", &body.supersedes, 32),
        (
            "alert.reclassifies",
            &body.alert.as_ref().map(|alert| alert.reclassifies.clone()).unwrap_or_default(),
            32,
        ),
        (
            "thread.in_reply_to_id",
            &body.thread.as_ref().map(|t| t.in_reply_to_id.clone()).unwrap_or_default(),
            16,
        ),
        (
            "thread.in_reply_to_digest",
            &body.thread.as_ref().map(|t| t.in_reply_to_digest.clone()).unwrap_or_default(),
            32,
        ),
    ];
    if let Some((name, ..)) = sizes.iter().find(|(_, value, size)| !value.is_empty() && value.len() != *size)
    {
        return Err(BodyError::Size(name));
    }
    if body.thread.as_ref().is_some_and(|thread| thread.thread_id.len() != 16) {
        return Err(BodyError::Size("thread.thread_id"));
    }
    // A packet is answered by both its names or by none.
    if body.thread.as_ref().is_some_and(|t| t.in_reply_to_id.is_empty() != t.in_reply_to_digest.is_empty()) {
        return Err(BodyError::Size("thread.in_reply_to_digest"));
    }
    let checkpoint = body.root_checkpoint.len() <= limits::CHECKPOINT_BYTES_MAX;
    if checkpoint { Ok(()) } else { Err(BodyError::Size("root_checkpoint")) }
}

fn check_attachments(body: &Body, core: &Core) -> Result<(), BodyError> {
    let (keys, references) = (&body.attachments, &core.attachments);
    if keys.len() != references.len() {
        return Err(BodyError::Attachment(keys.len().min(references.len())));
    }
    for (index, (key, reference)) in keys.iter().zip(references).enumerate() {
        let sound = key.key.len() == 32
            && key.sha256.len() == 32
            && !key.file_name.is_empty()
            && key.file_name.len() <= 255
            && key.media_type.len() <= 127
            && blob_length(key.length) == Some(reference.length);
        if !sound {
            return Err(BodyError::Attachment(index));
        }
    }
    Ok(())
}

fn check_audience(body: &Body, core: &Core) -> Result<(), BodyError> {
    let (openings, commitments) = (&body.audience, &core.recipient_commit);
    let whole =
        openings.len() == commitments.len() && openings.iter().zip(commitments).all(|(o, c)| opens(o, c));
    if openings.is_empty() || whole { Ok(()) } else { Err(BodyError::Audience) }
}

fn check_entities(body: &Body) -> Result<(), BodyError> {
    let things = body.vessels.iter().map(|e| e.id).chain(body.vehicles.iter().map(|e| e.id));
    let papers = body.documents.iter().map(|e| e.id).chain(body.phones.iter().map(|e| e.id));
    let places = body.locations.iter().map(|e| e.id).chain(body.routes.iter().map(|e| e.id));
    let others = body.organisations.iter().map(|e| e.id).chain(body.events.iter().map(|e| e.id));
    let all = body.persons.iter().map(|e| e.id).chain(body.accounts.iter().map(|e| e.id));
    let mut ids = BTreeSet::new();
    for id in all.chain(things).chain(papers).chain(places).chain(others) {
        if id == 0 || !ids.insert(id) {
            return Err(BodyError::EntityId(id));
        }
    }
    let locations: BTreeSet<u32> = body.locations.iter().map(|location| location.id).collect();
    let relations = body.relations.iter().flat_map(|relation| [relation.from_id, relation.to_id]);
    let legs = body.routes.iter().flat_map(|route| &route.legs);
    let stops = legs.flat_map(|leg| [leg.from_location_id, leg.to_location_id]);
    let scenes = body.events.iter().map(|event| event.location_id).filter(|id| *id != 0);
    let dangling = relations.filter(|id| !ids.contains(id));
    let misplaced = stops.chain(scenes).filter(|id| !locations.contains(id));
    dangling.chain(misplaced).next().map_or(Ok(()), |id| Err(BodyError::NoSuchEntity(id)))
}

fn check_places_and_dates(body: &Body) -> Result<(), BodyError> {
    for position in body.locations.iter().filter_map(|location| location.position.as_ref()) {
        let on_globe = position.latitude_udeg.unsigned_abs() <= 90_000_000
            && position.longitude_udeg.unsigned_abs() <= 180_000_000
            && position.accuracy_m > 0;
        if !on_globe {
            return Err(BodyError::Range("position"));
        }
    }
    let papers = body.documents.iter().flat_map(|document| [&document.issued, &document.expires]);
    let dates = body.persons.iter().map(|person| &person.born).chain(papers).flatten();
    let confident = body.relations.iter().all(|relation| relation.confidence <= 100);
    if !confident {
        return Err(BodyError::Range("confidence"));
    }
    if dates.into_iter().all(in_calendar) { Ok(()) } else { Err(BodyError::Range("date")) }
}

/// Whether a date of which parts may be unknown (0) stands in the Gregorian calendar, from 1800 to 2300.
fn in_calendar(date: &PartialDate) -> bool {
    let every = |years| date.year.is_multiple_of(years);
    let leap = every(4) && (!every(100) || every(400));
    let days = match date.month {
        // No month, so no day.
        0 => 0,
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return false,
    };
    (1_800..=2_300).contains(&date.year) && date.day <= days
}
