//! Bundles: whose, which version, after which. What is refused changes nothing.

use std::sync::Arc;

use bytes::Bytes;
use lintas_proto::{
    canonical,
    schema::{PolicyBundle, SignedPolicyBundle},
};

use super::*;
use crate::{
    Directory, issue, os_entropy,
    testing::{self, Region},
};

pub(super) fn region() -> (Region, Directory) {
    let region = testing::region();
    let directory = region.open().unwrap();
    (region, directory)
}

fn said(text: &str) -> PolicyBundle {
    PolicyBundle {
        format: bundle::FORMAT,
        region: "example".to_owned(),
        owner: "TH".to_owned(),
        version: 1,
        not_before_ms: NOW - 1,
        schema_hash: Bytes::copy_from_slice(&schema_hash()),
        policies: text.to_owned(),
        ..PolicyBundle::default()
    }
}

fn sign(region: &Region, said: &PolicyBundle) -> SignedPolicyBundle {
    bundle::sign(&region.secrets[1], said).unwrap()
}

pub(super) fn open(region: &Region, directory: &Directory, text: &str) -> Result<Arc<Bundle>, BundleError> {
    opened(directory, &sign(region, &said(text)))
}

fn opened(directory: &Directory, signed: &SignedPolicyBundle) -> Result<Arc<Bundle>, BundleError> {
    Bundle::open(&canonical::encode(signed), directory)
}

fn refusal(change: impl FnOnce(&mut PolicyBundle)) -> BundleError {
    let (region, directory) = region();
    let mut bundle = said(RELEASE);
    change(&mut bundle);
    opened(&directory, &sign(&region, &bundle)).unwrap_err()
}

#[test]
fn a_bundle_for_another_region_schema_or_format_is_refused() {
    assert_eq!(
        refusal(|said| said.region = "other".to_owned()),
        BundleError::Rule("it is for another region")
    );
    assert_eq!(refusal(|said| said.schema_hash = Bytes::from_static(&[7; 32])), BundleError::Schema);
    assert_eq!(refusal(|said| said.schema_hash = Bytes::new()), BundleError::Schema);
    assert_eq!(refusal(|said| said.format = 2), BundleError::Rule("its format must be 1"));
    assert!(matches!(refusal(|said| said.version = 0), BundleError::Rule(_)));
    assert!(matches!(refusal(|said| said.prev_hash = Bytes::from_static(&[7; 32])), BundleError::Rule(_)));
    assert!(matches!(refusal(|said| said.note = "a\u{1b}[2Jb".to_owned()), BundleError::Rule(_)));
    assert!(
        matches!(refusal(|said| said.owner = "XX".to_owned()), BundleError::Owner(owner) if owner == "XX")
    );
}

#[test]
fn a_bundle_that_its_owner_did_not_sign_is_refused() {
    let (region, directory) = region();
    let good = sign(&region, &said(RELEASE));
    assert!(opened(&directory, &good).is_ok());
    let mut broken = good.clone();
    let mut signature = broken.bundle_signature.to_vec();
    signature[5] ^= 1;
    broken.bundle_signature = signature.into();
    assert!(matches!(opened(&directory, &broken), Err(BundleError::Directory(_))));
    let mut text = good.clone();
    text.bundle = canonical::encode(&said(ACCEPT));
    assert!(matches!(opened(&directory, &text), Err(BundleError::Directory(_))));
    // KH signs a bundle in the name of TH: with its own delegation, and with TH's.
    let theft = bundle::sign(&region.secrets[0], &said(RELEASE)).unwrap();
    assert!(opened(&directory, &theft).is_err());
    let mixed = SignedPolicyBundle {
        delegation: good.delegation.clone(),
        delegation_signature: good.delegation_signature.clone(),
        ..theft
    };
    assert!(matches!(opened(&directory, &mixed), Err(BundleError::Directory(_))));
}

#[test]
fn a_bundle_signed_with_keys_that_were_replaced_is_refused() {
    let (mut region, _) = region();
    let old = sign(&region, &said(RELEASE));
    issue::delegate(&mut region.secrets[1], &region.identities[1], 2, testing::NOW, &mut os_entropy())
        .unwrap();
    region.rotate(1, 1);
    let directory = region.open().unwrap();
    assert!(matches!(opened(&directory, &old), Err(BundleError::OldKeys(owner)) if owner == "TH"));
    assert!(opened(&directory, &sign(&region, &said(RELEASE))).is_ok());
}

#[test]
fn a_bundle_of_ten_megabytes_is_refused_unread() {
    let long = format!("// {}\n{RELEASE}", "x".repeat(10_000_000));
    let problems = PolicySet::read(th(), &long).unwrap_err();
    assert!(problems.len() == 1 && problems[0].what.contains("at most 262144"), "{problems:?}");
    let cases = Cases::read(&"#".repeat(10_000_000), &th()).unwrap_err();
    assert!(cases.len() == 1 && cases[0].what.contains("at most 262144"), "{cases:?}");
    let (region, directory) = region();
    assert!(matches!(open(&region, &directory, &long), Err(BundleError::Decode(_))));
    assert!(matches!(refusal(|said| said.cases = "x".repeat(262_145)), BundleError::Rule(_)));
}

#[test]
fn versions_follow_each_other_and_none_is_taken_back() {
    let (region, directory) = region();
    let next = |before: &Bundle, change: &dyn Fn(&mut PolicyBundle)| {
        let mut bundle = said(RELEASE);
        bundle.version = before.version() + 1;
        bundle.prev_hash = Bytes::copy_from_slice(before.hash());
        change(&mut bundle);
        opened(&directory, &sign(&region, &bundle)).unwrap()
    };
    let first = opened(&directory, &sign(&region, &said(RELEASE))).unwrap();
    let second = next(&first, &|_| ());
    assert_eq!((first.follows(None), second.follows(Some(&first))), (Ok(()), Ok(())));
    assert_eq!(first.follows(Some(&second)), Err(BundleError::Old { have: 1, present: 2 }));
    assert_eq!(first.follows(Some(&first)), Err(BundleError::Old { have: 1, present: 1 }));
    let third = next(&second, &|_| ());
    let gap = third.follows(Some(&first)).unwrap_err().to_string();
    assert!(gap.contains("version 2 is missing"), "{gap}");
    assert!(matches!(second.follows(None), Err(BundleError::Chain { present: 0, .. })));
    let fork = next(&first, &|said| said.prev_hash = Bytes::from_static(&[9; 32]));
    assert!(fork.follows(Some(&first)).unwrap_err().to_string().contains("as the one before"));
    let back = next(&first, &|said| said.not_before_ms = NOW - 2);
    assert!(back.follows(Some(&first)).unwrap_err().to_string().contains("would be in force before"));
}

#[test]
fn a_wrong_policy_in_a_signed_bundle_is_told_with_its_place() {
    let (region, directory) = region();
    let text = release("alerts", "when { resource.kind == Lintas::Kind::\"ALARM\" }");
    let Err(BundleError::Policies(problems)) = open(&region, &directory, &text) else { panic!() };
    assert_eq!((problems[0].line, problems[0].column), (4, 40));
}
