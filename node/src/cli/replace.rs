//! `lintas init --replace`: a new machine takes the place of a node that is lost, stolen or broken. Same agency, same
//! identity; every other key is new, and those of the old node count for nothing once the new keyset is published.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lintas_config::{
    directory::{OwnEntry, own_entry},
    issue::sign_revocation,
    os_entropy,
    settings::NodeSettings,
};
use lintas_proto::{
    canonical, limits,
    schema::{JoinRequest, Member, NodeSecrets, SignedKeyset},
    sign::{KeyRole, SigningKey},
};
use serde::Serialize;

use super::{Context, init, keys::read_identity};
use crate::{
    core::{
        keys::wipe_all,
        rotation::{self, Published},
    },
    shell::{
        clock,
        desk::locked,
        failure::{Code, Failure},
        files,
        unlock::new_unlocker,
    },
};

/// Where the old identity is, and who knows of it.
pub(super) struct From<'a> {
    pub(super) identity: &'a Path,
    pub(super) identity_key_file: Option<&'a Path>,
    pub(super) directory: &'a Path,
}

#[derive(Serialize)]
struct Replaced {
    agency: String,
    region: String,
    data: PathBuf,
    keyset: PathBuf,
    keyset_version: u64,
    revocation: PathBuf,
    /// Of a witness of the log: for the region authority, which must name the new witness key.
    #[serde(skip_serializing_if = "Option::is_none")]
    witness_request: Option<PathBuf>,
}

/// Makes everything, or nothing.
pub(super) fn run(context: &Context, from: &From<'_>, settings: &NodeSettings) -> Result<(), Failure> {
    let (folder, mut entropy, now_ms) = (&context.folder, os_entropy(), clock::now_ms());
    let directory = files::read(from.directory, limits::DIRECTORY_BYTES_MAX as u64);
    let directory = directory.map_err(|error| Failure::file("read", from.directory, &error))?.into();
    let identity = read_identity(from.identity, from.identity_key_file)?;
    let unlocker = new_unlocker(context.key_file.as_deref(), &mut entropy)?;
    let not_set_up = |message: String| Failure::new(Code::NotSetUp, message);
    let entry = own_entry(&directory, &identity.public_key()).map_err(|error| {
        not_set_up(format!(
            "this directory is not believed: {error}; get the newest from the region authority"
        ))
    })?;
    let entry = entry.ok_or_else(|| {
        not_set_up(
            "no agency in this directory has that identity key; get the newest from the region authority"
                .to_owned(),
        )
    })?;
    let agency = &entry.member.agency;
    let version = entry.delegation_version.saturating_add(1);
    let published = Published {
        units: entry.member.units.iter().map(|unit| unit.unit.clone()).collect(),
        keyset: entry.keyset,
        member: true,
        in_force: true,
        surely_ms: 0,
        enough: false,
    };
    let word = rotation::word(&entry.region, agency, version, &identity, now_ms, &mut entropy);
    let secrets =
        rotation::replace(word.map_err(locked)?, &published, now_ms, &mut entropy).map_err(locked)?;
    let revocation = canonical::encode(&sign_revocation(&secrets, now_ms).map_err(Failure::internal)?);
    let keyset = secrets.keyset.clone();
    let request = request(&secrets, &entry)?;
    let keyset_version = entry.keyset.map_or(0, |(version, _)| version).saturating_add(1);
    let node_keys = init::sealed(&secrets, &unlocker, &mut entropy);
    let keyset_copy = bytes::Bytes::copy_from_slice(&keyset);
    drop(keyset);
    wipe_all(secrets);

    init::folders(folder)?;
    init::write(folder, "node.keys", &node_keys?)?;
    init::write(folder, "directory.bin", &directory)?;
    init::write(folder, "keyset.bin", &keyset_copy)?;
    init::write(folder, "join-request.bin", &canonical::encode(&request))?;
    init::write_revocation(folder, agency, &entry.region, &revocation)?;
    // Last: with it the folder counts as one.
    let settings = toml::to_string(settings).map_err(Failure::internal)?;
    init::write(folder, "node.toml", settings.as_bytes())?;
    let made = Replaced {
        agency: agency.clone(),
        region: entry.region.clone(),
        data: folder.root().to_owned(),
        keyset: folder.path("keyset.bin"),
        keyset_version,
        revocation: folder.path("revocation.txt"),
        witness_request: Some(folder.path("join-request.bin"))
            .filter(|_| !entry.member.witness_key.is_empty()),
    };
    context.print(&made, plain_words)
}

/// What the region authority needs if the agency is a witness: its new witness key, under the same identity.
fn request(secrets: &NodeSecrets, entry: &OwnEntry) -> Result<JoinRequest, Failure> {
    let seed = lintas_config::issue::seed("witness", &secrets.witness_seed).map_err(Failure::internal)?;
    let witness = SigningKey::from_seed(KeyRole::Witness, &seed).map_err(Failure::internal)?;
    let witness_key = Bytes::copy_from_slice(&witness.public_key());
    let keyset: SignedKeyset =
        canonical::decode(&secrets.keyset, limits::KEYSET_BYTES_MAX).map_err(Failure::internal)?;
    let member = Member { witness_key, ..entry.member.clone() };
    Ok(JoinRequest { region: entry.region.clone(), member: Some(member), keyset: Some(keyset) })
}

fn plain_words(made: &Replaced) -> String {
    let witness = made.witness_request.as_ref().map_or_else(String::new, |path| {
        format!(
            "5. Your agency is a witness of the audit log: give {} to the region authority, which names the new\n\
             \x20  witness key with `lintas region change --witness {}=join-request.bin`.\n",
            path.display(),
            made.agency
        )
    });
    format!(
        "New keys of {} are made, sealed, in {}. The identity is the same.\n\
         \n\
         What to do next:\n\
         1. Give {} (version {}) to the operator of the region's broker, or to any node of the region: there,\n\
         \x20  `lintas keys publish keyset.bin` brings it to the broker. From then on the keys of the old node count for\n\
         \x20  nothing.\n\
         2. Once the keyset is published: lintas --data {} join --bootstrap bootstrap.toml\n\
         3. Print {} and keep it in a safe; the revocation that you had is void. Then remove\n\
         \x20  revocation.txt and revocation.bin from this machine, and take the identity key away again.\n\
         4. Start `lintas run`.\n\
         {witness}\
         Packets that were sealed for the old keys cannot be opened here: ask their senders to send them again.\n",
        made.agency,
        made.data.display(),
        made.keyset.display(),
        made.keyset_version,
        made.data.display(),
        made.revocation.display(),
    )
}
