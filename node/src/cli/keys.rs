//! `lintas keys`: the keys of this agency.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use lintas_config::os_entropy;
use lintas_proto::{
    canonical,
    id::hex,
    limits,
    sign::{KeyRole, SigningKey},
};
use zeroize::Zeroizing;

use super::{Context, absolute, handover, render::count, unexpected};
use crate::{
    core::{
        keys::{Holds, open_file, wipe, wipe_all},
        rotation,
        view::KeysView,
    },
    shell::{
        clock::{self, show as time},
        desk::{Reply, Request, Secret, locked},
        failure::Failure,
        files,
        unlock::identity_unlocker,
    },
};

/// Options of `keys`.
#[derive(Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Let the offline identity key certify this node anew, for a year.
    Renew {
        /// The identity key: identity.key, from its safe place.
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
        /// File of 64 hex digits that opens the identity key, instead of its passphrase (typed, or in the file that
        /// LINTAS_IDENTITY_PASSPHRASE_FILE names).
        #[arg(long, value_name = "FILE")]
        identity_key_file: Option<PathBuf>,
        /// Make new transport and packet keys as well: they take over once the region's directory names them.
        #[arg(long)]
        all: bool,
    },
    /// Take this agency out of the region: its keys count for nothing any more. It cannot be undone.
    Revoke {
        /// A revocation that was signed in advance, revocation.bin or revocation.txt; without it one is signed now.
        #[arg(long, value_name = "FILE")]
        revocation: Option<PathBuf>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Bring a keyset or a revocation, this agency's or another's, to the broker.
    Publish {
        /// The file: keyset.bin, revocation.bin, or a revocation.txt typed in from the paper.
        file: PathBuf,
    },
    /// Let this agency's old identity key vouch for its new one, for `lintas region change --handover`.
    Handover(handover::Handover),
}

/// Does it, and says how the keys are then.
pub(super) fn run(context: &Context, keys: Keys) -> Result<(), Failure> {
    let request = match keys.what {
        None => Request::Keys,
        Some(What::Renew { identity, identity_key_file, all }) => {
            renew(context, &identity, identity_key_file.as_deref(), all)?
        }
        Some(What::Revoke { revocation, yes }) => {
            context.confirm(
                yes,
                "This takes your agency out of the region: nothing can be sent or received with its keys any more, and \
                 it cannot be undone.",
            )?;
            Request::Revoke { revocation: revocation.map(|path| absolute(&path)).transpose()? }
        }
        Some(What::Handover(asked)) => return handover::run(context, &asked),
        Some(What::Publish { file }) => Request::Publish { file: absolute(&file)? },
    };
    let renewed = matches!(request, Request::Renew { .. });
    context.print(&look(context, request)?, |view| {
        let mut out = plain_words(view);
        if renewed {
            out.push_str(
                "The revocation that you keep on paper is void now. revocation.txt in the data folder is the new one:\n\
                 print it, then move it and revocation.bin away from this machine.\n",
            );
        }
        out
    })
}

fn look(context: &Context, request: Request) -> Result<KeysView, Failure> {
    let Reply::Keys(view) = context.ask(request)? else {
        return Err(unexpected());
    };
    Ok(*view)
}

/// The identity key is opened here and goes nowhere: what it has signed goes to the node.
fn renew(context: &Context, identity: &Path, key_file: Option<&Path>, all: bool) -> Result<Request, Failure> {
    let known = look(context, Request::Keys)?;
    let identity = read_identity(identity, key_file)?;
    let (now_ms, mut entropy) = (clock::now_ms(), os_entropy());
    let version = known.delegation_version.saturating_add(1);
    let word = rotation::word(&known.region, &known.agency, version, &identity, now_ms, &mut entropy);
    let word = word.map_err(locked)?;
    let bytes = canonical::encode(&word);
    let digits = Secret(Zeroizing::new(hex(&bytes)));
    wipe(bytes);
    wipe_all(word);
    Ok(Request::Renew { word: digits, all })
}

/// The identity key of a file.
pub(super) fn read_identity(path: &Path, key_file: Option<&Path>) -> Result<SigningKey, Failure> {
    let file = files::read(path, limits::KEYSET_BYTES_MAX as u64);
    let file = file.map_err(|error| Failure::file("read the identity key", path, &error))?;
    let with = identity_unlocker(key_file)?;
    let (_, seed) = open_file(Holds::Identity, &Bytes::from(file), &with).map_err(locked)?;
    let seed = lintas_config::issue::seed("identity", &seed).map_err(Failure::internal)?;
    SigningKey::from_seed(KeyRole::Identity, &seed).map_err(Failure::internal)
}

fn plain_words(view: &KeysView) -> String {
    let mut out = format!("keys of {} in region {}\n", view.agency, view.region);
    for unit in &view.units {
        out.push_str(&format!(
            "  unit {}: keys for the weeks {} to {} (counted from 1970), until {}\n",
            unit.unit,
            unit.first_epoch,
            unit.last_epoch,
            time(unit.until_ms)
        ));
    }
    out.push_str(&format!(
        "certified by the identity key until {} (certificate {})\n",
        time(view.delegated_until_ms),
        view.delegation_version
    ));
    let version = |version: Option<u64>| match version {
        None => "none".to_owned(),
        Some(u64::MAX) => "the revocation".to_owned(),
        Some(version) => version.to_string(),
    };
    let (own, known) = (version(view.keyset_version), version(view.published_version));
    out.push_str(&match (view.revoked, view.published) {
        (false, true) => format!("keyset {known}, published\n"),
        (true, true) => "REVOKED: the region knows it\n".to_owned(),
        (true, false) => "REVOKED: the region does not know it yet; keep the node running\n".to_owned(),
        (false, false) => {
            format!("keyset {own}, not published yet (the region has {known}); a running node publishes it\n")
        }
    });
    if view.keys_to_come {
        out.push_str("new transport and packet keys take over once the region's directory names them\n");
    }
    out.push_str(&match view.witness_named {
        None => "no witness of the audit log\n".to_owned(),
        Some(true) => format!("witness of the audit log, with the key {}\n", view.witness_words),
        Some(false) => format!(
            "WARNING: the roster names another witness key of this agency, so nothing counts that this node cosigns; \
             ask the region authority to name {} (see join-request.bin)\n",
            view.witness_words
        ),
    });
    for agency in &view.to_publish {
        out.push_str(&format!("to be brought to the broker: the keyset of {agency}\n"));
    }
    out.push_str(&format!("{}\n", count(view.pages, "key page")));
    out
}
