//! The gate: what a bundle must stand before it is kept. In this order: its size and form; whose it is; its signature; its
//! place in the chain; the schema and the policies; names and cases. The first thing that is wrong is told, with its place and
//! what to write instead. Whatever is refused, the bundle in force stays in force.

use std::sync::Arc;

use super::files::said;
use crate::core::refuse::sentence;
use bytes::Bytes;
use lintas_config::{
    Directory, DirectoryError,
    policy::{Bundle, BundleError, Problem, bundle, check},
};
use lintas_proto::{
    canonical,
    id::sha256,
    limits,
    schema::{Delegation, PolicyBundle, Reason, SignedPolicyBundle},
};

/// Most bytes of what is wrong at a place, so that the mend has room in the sentence.
const WHAT_BYTES_MAX: usize = 150;
/// Most bytes of a mend.
const MEND_BYTES_MAX: usize = 110;

/// Why a bundle is not kept.
#[derive(Debug)]
pub(in crate::shell) struct Refused {
    pub(in crate::shell) reason: Reason,
    /// Of at most [`limits::SENTENCE_BYTES_MAX`] bytes.
    pub(in crate::shell) text: String,
}

impl Refused {
    pub(in crate::shell) fn new(reason: Reason, text: &str) -> Self {
        Self { reason, text: sentence(text) }
    }
}

/// Whether a bundle that the node of `agency` brings may be kept behind `newest`. Takes a while: not for a thread that serves
/// others.
///
/// # Errors
/// The first thing that is wrong.
pub(in crate::shell) fn examine(
    bytes: &Bytes,
    agency: &str,
    directory: &Directory,
    newest: Option<&Bundle>,
    now_ms: u64,
) -> Result<Arc<Bundle>, Refused> {
    let (signed, said) = form(bytes)?;
    owner(&said, agency, directory)?;
    let opened = Bundle::open(bytes, directory);
    // Policies are read last; what comes before them is told before them.
    let is_signed = matches!(opened, Ok(_) | Err(BundleError::Schema | BundleError::Policies(_)));
    if is_signed {
        keys(&signed, agency, now_ms)?;
        bundle::follows(&said, newest).map_err(|error| refused(&error, &said, newest))?;
    }
    let opened = opened.map_err(|error| refused(&error, &said, newest))?;
    let checked = check::activation(opened.policies(), &said.cases, &directory.shared_roster(), now_ms);
    checked.map_err(|problems| refused(&BundleError::Policies(problems), &said, newest))?;
    Ok(opened)
}

/// Whether the bytes hold that very bundle, whoever signed it.
pub(in crate::shell) fn is_same(bytes: &Bytes, bundle: &Bundle) -> bool {
    said(bytes).is_ok_and(|(signed, _)| sha256(&[&signed.bundle]) == *bundle.hash())
}

fn form(bytes: &Bytes) -> Result<(SignedPolicyBundle, PolicyBundle), Refused> {
    let long = |what: &str, length: usize, max: usize| {
        let text = format!(
            "The broker does not take the policies: {what} {length} bytes long, at most {max} are allowed; shorten it."
        );
        Err(Refused::new(Reason::TooLarge, &text))
    };
    if bytes.len() > limits::POLICY_BUNDLE_BYTES_MAX {
        return long("the bundle is", bytes.len(), limits::POLICY_BUNDLE_BYTES_MAX);
    }
    let (signed, said) = said(bytes).map_err(|error| {
        let text = format!(
            "The broker could not read the policies: {error}; publish them again with the present software."
        );
        Refused::new(Reason::Malformed, &text)
    })?;
    for (what, text) in [("their text is", &said.policies), ("the text of their cases is", &said.cases)] {
        if text.len() > limits::POLICY_TEXT_BYTES_MAX {
            return long(what, text.len(), limits::POLICY_TEXT_BYTES_MAX);
        }
    }
    Ok((signed, said))
}

fn owner(said: &PolicyBundle, agency: &str, directory: &Directory) -> Result<(), Refused> {
    let region = &directory.roster().region;
    if said.region != *region {
        let text = format!(
            "The broker does not take the policies: they are for another region; this broker serves {region}."
        );
        return Err(Refused::new(Reason::WrongRegion, &text));
    }
    if said.owner != agency {
        let text = format!(
            "The broker does not take the policies: they are those of {}, and only its own node may bring them; this is the node \
             of {agency}.",
            said.owner
        );
        return Err(Refused::new(Reason::UnknownSender, &text));
    }
    if directory.held().iter().any(|held| held.agency == agency) {
        let text = format!(
            "{agency} has a new identity key that is not served yet; bring the policies again in a few seconds."
        );
        return Err(Refused::new(Reason::Quota, &text));
    }
    if directory.member(agency).is_none() {
        let text = format!(
            "The broker does not take the policies: {agency} is no active member of the region; ask the region authority."
        );
        return Err(Refused::new(Reason::UnknownSender, &text));
    }
    Ok(())
}

/// Whether the keys that signed it still may.
fn keys(signed: &SignedPolicyBundle, agency: &str, now_ms: u64) -> Result<(), Refused> {
    let delegation: Option<Delegation> = canonical::decode(&signed.delegation, limits::KEYSET_BYTES_MAX).ok();
    if delegation.is_some_and(|delegation| delegation.not_after_ms > now_ms) {
        return Ok(());
    }
    let text = format!(
        "The broker does not take the policies: the keys that signed them have run out; make new ones for {agency} with \
         `lintas keys renew`, and publish again."
    );
    Err(Refused::new(Reason::BadSignature, &text))
}

fn refused(error: &BundleError, said: &PolicyBundle, newest: Option<&Bundle>) -> Refused {
    let stays = newest.map_or_else(
        || format!("{} still has none", said.owner),
        |newest| format!("version {} stays", newest.version()),
    );
    let (reason, why) = match error {
        BundleError::Policies(problems) => (Reason::Policy, first(problems)),
        BundleError::Old { have, present } if have == present => (
            Reason::Replay,
            format!(
                "version {have} is there already, with another text; publish this one as version {}",
                present + 1
            ),
        ),
        BundleError::Decode(_)
        | BundleError::Directory(_)
        | BundleError::Owner(_)
        | BundleError::Rule(_)
        | BundleError::Schema
        | BundleError::OldKeys(_)
        | BundleError::Old { .. }
        | BundleError::Chain { .. } => (reason(error, said, newest), error.to_string()),
    };
    Refused::new(
        reason,
        &format!("The broker does not take version {} of the policies, {stays}: {why}.", said.version),
    )
}

fn reason(error: &BundleError, said: &PolicyBundle, newest: Option<&Bundle>) -> Reason {
    match error {
        BundleError::Decode(_) | BundleError::Rule(_) => Reason::Malformed,
        BundleError::Directory(DirectoryError::WrongRegion { .. }) => Reason::WrongRegion,
        BundleError::Directory(_) | BundleError::OldKeys(_) => Reason::BadSignature,
        BundleError::Owner(_) => Reason::UnknownSender,
        BundleError::Schema | BundleError::Policies(_) => Reason::Policy,
        BundleError::Old { .. } => Reason::Replay,
        BundleError::Chain { have, present, .. } if *have > present + 1 => Reason::StaleDirectory,
        // A fork, or the right one with a wrong time.
        BundleError::Chain { .. }
            if newest.is_none_or(|newest| said.prev_hash != newest.hash().as_slice()) =>
        {
            Reason::Replay
        }
        BundleError::Chain { .. } => Reason::Malformed,
    }
}

/// The first problem: its place and its mend, and how many there are beside it.
fn first(problems: &[Problem]) -> String {
    let Some(problem) = problems.first() else { return "they are wrong".to_owned() };
    let short = Problem {
        what: cut(&problem.what, WHAT_BYTES_MAX),
        mend: cut(&problem.mend, MEND_BYTES_MAX),
        ..problem.clone()
    };
    match problems.len() {
        1 => short.to_string(),
        all => format!("{short} (and {} more)", all - 1),
    }
}

/// A text on one line, cut at a character.
fn cut(text: &str, bytes_max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= bytes_max {
        return line;
    }
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= bytes_max - '…'.len_utf8();
    line.char_indices().take_while(fits).map(|(_, c)| c).chain(['…']).collect()
}
