//! Rules of the body. For each rule something that keeps all others.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; a failure is a failed test"
)]

mod scene;

use lintas_proto::{
    envelope::body::{self, BodyError},
    schema::{self, Body, Kind},
};
use scene::{Packet, Stream};

fn packet() -> Packet {
    scene::packet(&mut Stream::new("rules"))
}

/// What the body rules say when `change` was applied to a sound body.
fn body_with(change: impl FnOnce(&mut Body)) -> Result<(), BodyError> {
    let packet = packet();
    let mut body = packet.draft_body.clone();
    change(&mut body);
    body::check(&body, packet.verified().core())
}

#[test]
fn a_body_that_breaks_a_rule_is_refused() {
    type Change = fn(&mut Body);
    let changes: [(Change, BodyError); 26] = [
        (|b| b.format = 2, BodyError::Format(2)),
        (|b| b.format = 0, BodyError::Format(0)),
        (|b| b.alert = None, BodyError::Kind(Kind::Alert)),
        (|b| b.recall = Some(schema::Recall::default()), BodyError::Kind(Kind::Alert)),
        (|b| b.title.clear(), BodyError::Title),
        (|b| b.title[0].text.clear(), BodyError::Title),
        (|b| b.title[0].language = "e".to_owned(), BodyError::Language("e".to_owned())),
        (|b| b.title[0].language.clear(), BodyError::Language(String::new())),
        (|b| b.summary.push(scene::text("en_GB", "x")), BodyError::Language("en_GB".to_owned())),
        (|b| b.persons[0].description.push(scene::text("en-", "x")), BodyError::Language("en-".to_owned())),
        (|b| b.gradings[0].source = "Z".to_owned(), grading("Z", "2")),
        (|b| b.gradings[0].information = "5".to_owned(), grading("B", "5")),
        (|b| b.gradings[0].handling = "P".to_owned(), grading("B", "2")),
        (|b| b.handling_restriction.push(scene::text("en", "x")), BodyError::HandlingRestriction),
        (|b| b.attachments.clear(), BodyError::Attachment(0)),
        (|b| b.attachments[0].length = 1_000, BodyError::Attachment(0)),
        (|b| b.attachments[0].key.truncate(31), BodyError::Attachment(0)),
        (|b| b.attachments[0].file_name.clear(), BodyError::Attachment(0)),
        (|b| b.attachments[0].file_name = "x".repeat(256), BodyError::Attachment(0)),
        (|b| b.audience.push(schema::Opening::default()), BodyError::Audience),
        (|b| b.persons[0].id = 0, BodyError::EntityId(0)),
        (|b| b.vessels.push(schema::Vessel { id: 1, ..Default::default() }), BodyError::EntityId(1)),
        (|b| b.relations.push(relation(1, 2)), BodyError::NoSuchEntity(2)),
        (|b| b.supersedes = vec![1; 31].into(), BodyError::Size("supersedes")),
        (|b| b.root_checkpoint = vec![1; 4_097].into(), BodyError::Size("root_checkpoint")),
        (|b| b.thread = Some(schema::Thread::default()), BodyError::Size("thread.thread_id")),
    ];
    body_with(|_| ()).unwrap();
    for (number, (change, error)) in changes.into_iter().enumerate() {
        assert_eq!(body_with(change), Err(error), "change {number}");
    }
}

fn grading(source: &str, information: &str) -> BodyError {
    BodyError::Grading {
        scheme: schema::GradingScheme::Europol4x4,
        source_code: source.to_owned(),
        information: information.to_owned(),
    }
}

fn relation(from_id: u32, to_id: u32) -> schema::Relation {
    schema::Relation { from_id, to_id, kind: schema::RelationKind::Owns as i32, ..Default::default() }
}

#[test]
fn an_answer_names_its_packet_by_id_and_digest() {
    let thread = |id: usize, digest: usize| {
        body_with(|body| {
            body.thread = Some(schema::Thread {
                thread_id: vec![1; 16].into(),
                in_reply_to_id: vec![2; id].into(),
                in_reply_to_digest: vec![3; digest].into(),
            });
        })
    };
    assert_eq!((thread(0, 0), thread(16, 32)), (Ok(()), Ok(())));
    let half = Err(BodyError::Size("thread.in_reply_to_digest"));
    assert_eq!((thread(16, 0), thread(0, 32)), (half.clone(), half));
}

#[test]
fn places_and_dates_lie_on_the_globe_and_in_the_calendar() {
    let born = |year: u32, month: u32, day: u32| {
        body_with(|body| body.persons[0].born = Some(schema::PartialDate { year, month, day }))
    };
    for (year, month, day) in [(1985, 0, 0), (1985, 2, 0), (1984, 2, 29), (2000, 2, 29), (1985, 12, 31)] {
        assert_eq!(born(year, month, day), Ok(()), "{year}-{month}-{day}");
    }
    for (year, month, day) in
        [(2528, 1, 1), (0, 1, 1), (1985, 13, 1), (1985, 0, 1), (1985, 2, 29), (1900, 2, 29), (1985, 4, 31)]
    {
        assert_eq!(born(year, month, day), Err(BodyError::Range("date")), "{year}-{month}-{day}");
    }
    let at = |latitude_udeg: i32, longitude_udeg: i32, accuracy_m: u32| {
        body_with(|body| {
            let position = schema::Position { latitude_udeg, longitude_udeg, accuracy_m };
            let location = schema::Location { id: 2, position: Some(position), ..Default::default() };
            body.locations.push(location);
        })
    };
    assert_eq!((at(-90_000_000, 180_000_000, 1), at(0, 0, 1)), (Ok(()), Ok(())));
    for (latitude, longitude, accuracy) in
        [(90_000_001, 0, 1), (i32::MIN, 0, 1), (0, -180_000_001, 1), (0, i32::MIN, 1), (0, 0, 0)]
    {
        assert_eq!(at(latitude, longitude, accuracy), Err(BodyError::Range("position")));
    }
    let confidence = |confidence: u32| {
        body_with(|body| body.relations.push(schema::Relation { confidence, ..relation(1, 1) }))
    };
    assert_eq!((confidence(100), confidence(101)), (Ok(()), Err(BodyError::Range("confidence"))));
}

#[test]
fn an_error_shows_little_of_what_others_wrote() {
    let long = "x".repeat(100_000);
    let refused = body_with(|body| body.gradings[0].source.clone_from(&long)).unwrap_err();
    assert!(refused.to_string().len() < 200);
    let refused = body_with(|body| body.title[0].language.clone_from(&long)).unwrap_err();
    assert!(refused.to_string().len() < 200);
}
