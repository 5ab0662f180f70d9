//! `lintas keys handover`: the old identity key vouches for the new one, so that nobody holds the agency.

use std::path::PathBuf;

use clap::Args;
use lintas_config::{issue::hand_over, words::fingerprint_words};
use lintas_proto::{id::check_code, sign::VerifyingKey};
use serde::Serialize;

use super::{Context, keys::read_identity};
use crate::{
    core::text::one_line,
    shell::{
        failure::{Code, Failure},
        region::files,
    },
};

/// Options of `keys handover`.
#[derive(Args)]
pub(super) struct Handover {
    /// The old identity key: identity.key, from its safe place.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// File of 64 hex digits that opens the old identity key, instead of its passphrase.
    #[arg(long, value_name = "FILE")]
    identity_key_file: Option<PathBuf>,
    /// The join-request.bin that `lintas init` made with the new identity key.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// File to write the signature to, 64 bytes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// You have compared the new key: do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Made {
    agency: String,
    region: String,
    before_words: String,
    after_words: String,
    handover: PathBuf,
}

/// Shows the new key, asks, signs. Needs no node, and leaves the data folder alone.
pub(super) fn run(context: &Context, asked: &Handover) -> Result<(), Failure> {
    let unusable = |why: &str| files::unusable(&asked.to, &why);
    let member = |request: lintas_proto::schema::JoinRequest| Some((request.region, request.member?));
    let request = files::requests(std::slice::from_ref(&asked.to))?.pop();
    let (region, new) = request.and_then(member).ok_or_else(|| unusable("it names no agency"))?;
    check_code(&new.agency).map_err(|error| unusable(&format!("the agency is {error}")))?;
    let after = VerifyingKey::parse(&new.identity_key).map_err(|error| unusable(&error.to_string()))?;
    let after_words = fingerprint_words(after.as_bytes());
    context.confirm(
        asked.yes,
        &format!(
            "From now on {} in region {} is whoever has the identity key\n  {after_words}\nThis holds for ever. Compare \
             the words with those that `lintas init` showed.",
            new.agency,
            one_line(&region),
        ),
    )?;
    let before = read_identity(&asked.identity, asked.identity_key_file.as_deref())?;
    if before.public_key() == *after.as_bytes() {
        let message =
            "the request names the identity key that is to be left; make a new one with `lintas init`";
        return Err(Failure::new(Code::Usage, message));
    }
    files::write_new(&asked.out, &hand_over(&region, &new.agency, &before, after.as_bytes()))?;
    let made = Made {
        agency: new.agency,
        region,
        before_words: fingerprint_words(&before.public_key()),
        after_words,
        handover: asked.out.clone(),
    };
    context.print(&made, plain_words)
}

fn plain_words(made: &Made) -> String {
    format!(
        "The old identity key of {}\n  {}\nvouches for the new one\n  {}\n\
         What to do next: give {} and the new join-request.bin to the region authority:\n\
         \x20  lintas region change --identity join-request.bin --handover FILE ...\n",
        made.agency,
        made.before_words,
        made.after_words,
        made.handover.display(),
    )
}
