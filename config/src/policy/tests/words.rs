//! The label, the schema and the slice speak of the same things.

use std::collections::BTreeSet;

use super::{vocabulary::vocabularies, *};

/// The schema without comments.
fn schema_text() -> String {
    SCHEMA.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ")
}

fn between<'t>(text: &'t str, from: &str, to: char) -> &'t str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("{from}"));
    rest.split_once(to).unwrap().0
}

fn quoted(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_words_of_the_label_are_those_of_the_schema_and_none_is_missing() {
    let schema = schema_text();
    let mut types = BTreeSet::new();
    for (kind, _, words) in vocabularies() {
        assert_eq!(quoted(between(&schema, &format!("entity {kind} enum ["), ']')), words, "{kind}");
        assert!(!words.is_empty());
        types.insert(kind);
    }
    let enumerated: BTreeSet<&str> =
        schema.split("entity ").filter_map(|rest| rest.split_once(" enum [")).map(|(kind, _)| kind).collect();
    assert_eq!(enumerated, types);
}

fn attributes(text: &str) -> BTreeSet<String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once(':'));
    pairs
        .map(|(name, _)| name.trim().trim_end_matches('?').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// A policy may rely on every attribute of the schema: a slice without one would not be made, and one that is not in the schema
/// could not be.
#[test]
fn every_attribute_of_the_schema_is_in_the_slice() {
    let schema = schema_text();
    let roster = roster();
    let relayed = Ask { way: Way::Relayed { via: "VN", hops: 2, consent: true }, ..ask() }.marked("LAP");
    let slice = question::Slice::new(&roster, &relayed.question()).unwrap();
    let entities: serde_json::Value = slice.entities().to_json_value().unwrap();
    for (kind, id) in
        [("Unit", "KH/KH-A"), ("Packet", "packet"), ("Agency", "VN"), ("Agency", "TH"), ("Agency", "KH")]
    {
        let said =
            attributes(between(schema.split_once(&format!("entity {kind} in")).unwrap().1, "= {", '}'));
        let found =
            entities.as_array().unwrap().iter().find(|entity| {
                entity["uid"]["type"] == format!("Lintas::{kind}") && entity["uid"]["id"] == id
            });
        let filled: BTreeSet<String> = found.unwrap()["attrs"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(filled, said, "{kind}::{id}");
    }
    // Each attribute of the context is there: a policy that reads it is evaluated.
    for (name, condition) in [
        ("now", "context.now > datetime(\"2000-01-01\")"),
        ("purposes", "context.purposes.contains(Lintas::Purpose::\"INVESTIGATION\")"),
        ("via", "context has via && context.via.country == \"VN\""),
        ("hops", "context.hops == 2"),
        ("consent", "context.consent"),
    ] {
        assert!(attributes(between(&schema, "type Circumstances = {", '}')).contains(name));
        assert!(relayed.released(&release("x", &format!("when {{ {condition} }}")), ACCEPT), "{name}");
    }
    assert_eq!(attributes(between(&schema, "type Circumstances = {", '}')).len(), 5);
}
