//! `lintas init`: an agency's keys, and its request to join a region.

use std::{net::SocketAddr, path::PathBuf};

use bytes::Bytes;
use clap::Args;
use lintas_config::{
    issue::{new_agency, sign_revocation},
    os_entropy,
    settings::{DEFAULT_FREE_MIB, LogFormat, NODE_ATTACHMENTS_MIB, NodeSettings},
    words::{fingerprint_digits, fingerprint_words},
};
use lintas_proto::{
    canonical,
    id::{check_code, check_name},
    schema::{Member, MemberStatus, NodeSecrets, Role, RosterUnit, UnitFunction},
};
use rand_core::CryptoRng;
use serde::Serialize;

use super::{Context, replace};
use crate::{
    core::{
        keys::{Holds, lock_file, wipe, wipe_all},
        vault::{Unlocker, Wrapping},
    },
    shell::{
        clock,
        desk::revocation_text,
        failure::{Code, Failure},
        files,
        folder::Folder,
        unlock::{new_identity_unlocker, new_unlocker},
    },
};

/// Five segments are the least that a journal takes; a node needs less than a broker.
const SEGMENT_MIB: u32 = 16;

const EXAMPLE: &str = "\
Example:
  lintas --data /var/lib/lintas init --region mekong --agency TH --name \"Royal Thai Police\" --country TH \\
      --unit \"TH-SPOC=National contact point, spoc+investigation\" --unit \"TH-MAR=Marine Police, maritime\" \\
      --broker 203.0.113.7:7411
Without --key-file the node's passphrase is typed twice, then the one of the identity key; they must differ.";

/// What a unit may do.
const FUNCTIONS: &str = "spoc, investigation, victim-protection, child-protection, financial-intelligence, border, maritime, \
                         labour-inspection, audit and coordination";

/// Options of `init`.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Init {
    /// Region to join, e.g. `mekong`.
    #[arg(long, required_unless_present = "replace", value_name = "NAME")]
    region: Option<String>,
    /// Code of the agency, e.g. `TH`.
    #[arg(long, required_unless_present = "replace", value_name = "CODE")]
    agency: Option<String>,
    /// Name of the agency.
    #[arg(long, required_unless_present = "replace")]
    name: Option<String>,
    /// Its country, two capitals (ISO 3166-1), e.g. `TH`; leave it away for an international body.
    #[arg(long, value_name = "CODE")]
    country: Option<String>,
    /// A unit: CODE=NAME, FUNCTION[+FUNCTION]; as often as there are units. Functions: spoc, investigation,
    /// victim-protection, child-protection, financial-intelligence, border, maritime, labour-inspection, audit,
    /// coordination.
    #[arg(long = "unit", required_unless_present_any = ["replace", "no_units"], value_name = "CODE=NAME, FUNCTION")]
    units: Vec<String>,
    /// It has no unit, so it neither sends nor receives: a body that only watches or audits the log.
    #[arg(long, conflicts_with_all = ["units", "coordinator", "replace"])]
    no_units: bool,
    /// IP address and UDP port of the region's broker, e.g. 203.0.113.7:7411.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    broker: SocketAddr,
    /// The agency also relays.
    #[arg(long)]
    coordinator: bool,
    /// File of 64 hex digits that opens the identity key, instead of a passphrase of its own; made if it is not there.
    /// Without it the passphrase is typed, or read from the file that LINTAS_IDENTITY_PASSPHRASE_FILE names.
    #[arg(long, value_name = "FILE")]
    identity_key_file: Option<PathBuf>,
    /// Take the place of this agency's node that was lost: the same identity, every other key new.
    #[arg(long, requires = "identity", requires = "directory",
          conflicts_with_all = ["region", "agency", "name", "country", "units", "coordinator"])]
    replace: bool,
    /// With --replace: identity.key, from its safe place.
    #[arg(long, value_name = "FILE", requires = "replace")]
    identity: Option<PathBuf>,
    /// With --replace: the newest directory, i.e. directory.current of a node that runs, or of the broker. The region
    /// authority's directory.bin may not know this agency's newest keys; the new ones would then be refused.
    #[arg(long, value_name = "FILE", requires = "replace")]
    directory: Option<PathBuf>,
}

#[derive(Serialize)]
struct Made {
    agency: String,
    region: String,
    data: PathBuf,
    join_request: PathBuf,
    identity_key: PathBuf,
    /// Public identity key, hex in groups of four: what others compare.
    identity_words: String,
    identity_digits: String,
    /// Public witness key: the roster names it only if the agency is a witness of the log.
    witness_words: String,
    witness_digits: String,
    revocation: PathBuf,
}

/// Makes everything, or nothing.
pub(super) fn run(context: &Context, init: &Init) -> Result<(), Failure> {
    let folder = &context.folder;
    let taken = ["node.toml", "node.keys", "identity.key", "join-request.bin"];
    if taken.iter().any(|name| folder.path(name).exists()) {
        let message = format!(
            "`{}` already holds a node, and nothing was changed; name a new folder",
            folder.root().display()
        );
        return Err(Failure::new(Code::NotSetUp, message));
    }
    let settings = NodeSettings {
        broker: init.broker,
        segment_mib: SEGMENT_MIB,
        attachments_mib_max: NODE_ATTACHMENTS_MIB,
        free_mib_min: DEFAULT_FREE_MIB,
        lock_after_minutes: 0,
        log: LogFormat::Text,
    };
    if let (true, Some(identity), Some(directory)) = (init.replace, &init.identity, &init.directory) {
        let from =
            replace::From { identity, identity_key_file: init.identity_key_file.as_deref(), directory };
        return replace::run(context, &from, &settings);
    }
    found(context, init, &settings)
}

fn found(context: &Context, init: &Init, settings: &NodeSettings) -> Result<(), Failure> {
    let (folder, region, member) = (&context.folder, init.region.clone().unwrap_or_default(), member(init)?);
    let agency = member.agency.clone();
    let (mut entropy, now_ms) = (os_entropy(), clock::now_ms());
    let unlocker = new_unlocker(context.key_file.as_deref(), &mut entropy)?;
    let identity_unlocker =
        new_identity_unlocker(init.identity_key_file.as_deref(), &unlocker, &mut entropy)?;
    let (identity, secrets, request) = new_agency(&region, member, now_ms, &mut entropy)
        .map_err(|error| Failure::new(Code::Usage, error))?;
    let revocation = canonical::encode(&sign_revocation(&secrets, now_ms).map_err(Failure::internal)?);
    let node_keys = sealed(&secrets, &unlocker, &mut entropy);
    wipe_all(secrets);
    let identity_key = Wrapping::new(&identity_unlocker, &mut entropy)
        .and_then(|with| lock_file(Holds::Identity, identity.as_ref(), &with, &mut entropy))
        .map_err(Failure::internal)?;
    let settings = toml::to_string(settings).map_err(Failure::internal)?;

    folders(folder)?;
    write(folder, "identity.key", &identity_key)?;
    write(folder, "node.keys", &node_keys?)?;
    write(folder, "join-request.bin", &canonical::encode(&request))?;
    write_revocation(folder, &agency, &region, &revocation)?;
    // Last: with it the folder counts as one.
    write(folder, "node.toml", settings.as_bytes())?;
    let public = request.member.unwrap_or_default();
    let key = |bytes: &Bytes| <[u8; 32]>::try_from(bytes.as_ref()).unwrap_or_default();
    let (identity_public, witness_public) = (key(&public.identity_key), key(&public.witness_key));
    let made = Made {
        agency,
        region,
        data: folder.root().to_owned(),
        join_request: folder.path("join-request.bin"),
        identity_key: folder.path("identity.key"),
        identity_words: fingerprint_words(&identity_public),
        identity_digits: fingerprint_digits(&identity_public),
        witness_words: fingerprint_words(&witness_public),
        witness_digits: fingerprint_digits(&witness_public),
        revocation: folder.path("revocation.txt"),
    };
    context.print(&made, plain_words)
}

/// The bytes of a new node.keys.
pub(super) fn sealed(
    secrets: &NodeSecrets,
    with: &Unlocker,
    entropy: &mut dyn CryptoRng,
) -> Result<Bytes, Failure> {
    let with = Wrapping::new(with, entropy).map_err(Failure::internal)?;
    let plain = canonical::encode(secrets);
    let sealed = lock_file(Holds::Node, &plain, &with, entropy).map_err(Failure::internal);
    wipe(plain);
    sealed
}

/// Makes the data folder and those in it.
pub(super) fn folders(folder: &Folder) -> Result<(), Failure> {
    files::private_folder(folder.root())
        .map_err(|error| Failure::file("make the data folder", folder.root(), &error))?;
    for name in ["blobs", "blobs/out", "blobs/in", "journal"] {
        let path = folder.path(name);
        files::private_folder(&path).map_err(|error| Failure::file("make", &path, &error))?;
    }
    Ok(())
}

/// Writes a file that is not there yet.
pub(super) fn write(folder: &Folder, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = folder.path(name);
    files::write_new(&path, bytes).map_err(|error| Failure::file("write", &path, &error))
}

/// Writes the revocation, for programs and for paper.
pub(super) fn write_revocation(
    folder: &Folder,
    agency: &str,
    region: &str,
    revocation: &[u8],
) -> Result<(), Failure> {
    write(folder, "revocation.bin", revocation)?;
    write(folder, "revocation.txt", revocation_text(agency, region, revocation).as_bytes())
}

fn plain_words(made: &Made) -> String {
    format!(
        "The keys of {} are made, sealed, in {}.\n\
         Only your passphrase or key file opens the node's keys, and only the other one identity.key: what is lost, nobody\n\
         can open.\n\
         \n\
         Identity key (read it to others by telephone, so that they can compare):\n\
         \x20 {}\n\
         \x20 {}\n\
         Witness key (only if your agency is to watch the audit log; read it out in the same way):\n\
         \x20 {}\n\
         \x20 {}\n\
         \n\
         What to do next:\n\
         1. Give {} to the authority of region {}.\n\
         2. Move {} to a place that is not connected to anything, with a copy elsewhere.\n\
         3. Print {}: on paper in a safe it takes your agency out of the region if the node is\n\
         \x20  stolen. Then remove revocation.txt and revocation.bin from this machine.\n\
         4. When it has admitted {}, take the file bootstrap.toml that it gives you:\n\
         \x20  lintas join --bootstrap bootstrap.toml\n\
         \x20  Compare its fingerprint with the authority by another way, e.g. by telephone.\n\
         5. Start `lintas run`.\n",
        made.agency,
        made.data.display(),
        made.identity_words,
        made.identity_digits,
        made.witness_words,
        made.witness_digits,
        made.join_request.display(),
        made.region,
        made.identity_key.display(),
        made.revocation.display(),
        made.agency,
    )
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "write an IP address and a UDP port, e.g. 203.0.113.7:7411; names are not looked up")
}

fn member(init: &Init) -> Result<Member, Failure> {
    let wrong = |message: String| Failure::new(Code::Usage, message);
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    let (region, agency, name) = (given(&init.region), given(&init.agency), given(&init.name));
    check_name(&region).map_err(|error| wrong(format!("--region `{region}` is {error}")))?;
    check_code(&agency).map_err(|error| wrong(format!("--agency `{agency}` is {error}")))?;
    let country = init.country.clone().unwrap_or_default();
    let is_country = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
    if !country.is_empty() && !is_country {
        return Err(wrong(format!("--country `{country}` must be two capitals, e.g. TH")));
    }
    if name.is_empty() {
        return Err(wrong("--name must not be empty".to_owned()));
    }
    let mut units = init.units.iter().map(|text| unit(text)).collect::<Result<Vec<_>, _>>()?;
    units.sort_by(|a, b| a.unit.cmp(&b.unit));
    let again = units.iter().zip(units.iter().skip(1)).find(|(a, b)| a.unit == b.unit);
    if let Some((unit, _)) = again {
        return Err(wrong(format!("unit {} is named twice", unit.unit)));
    }
    // The authority attests roles; this one is no more than a hint.
    let mut roles = vec![if init.no_units { Role::Witness as i32 } else { Role::Agency as i32 }];
    roles.extend(init.coordinator.then_some(Role::Coordinator as i32));
    Ok(Member {
        agency,
        name,
        country,
        roles,
        units,
        status: MemberStatus::Active as i32,
        ..Member::default()
    })
}

/// `TH-MAR=Marine Police, maritime+border`. The authority attests clearances; none is asked for here.
fn unit(text: &str) -> Result<RosterUnit, Failure> {
    let wrong = |why: &str| {
        let message = format!("--unit `{text}`: {why}; write it as CODE=NAME, FUNCTION[+FUNCTION]");
        Failure::new(Code::Usage, message)
    };
    let (code, rest) = text.split_once('=').ok_or_else(|| wrong("there is no `=`"))?;
    let (name, functions) = rest.rsplit_once(',').ok_or_else(|| wrong("there is no function"))?;
    let (code, name) = (code.trim(), name.trim());
    check_code(code).map_err(|error| wrong(&format!("`{code}` is {error}")))?;
    if name.is_empty() {
        return Err(wrong("there is no name"));
    }
    let function = |text: &str| {
        let proto = format!("UNIT_FUNCTION_{}", text.trim().replace('-', "_").to_ascii_uppercase());
        let known = UnitFunction::from_str_name(&proto).filter(|found| *found != UnitFunction::Unspecified);
        known
            .map(|found| found as i32)
            .ok_or_else(|| wrong(&format!("`{}` is no function; there are {FUNCTIONS}", text.trim())))
    };
    let mut functions = functions.split('+').map(function).collect::<Result<Vec<_>, _>>()?;
    functions.sort_unstable();
    functions.dedup();
    Ok(RosterUnit { unit: code.to_owned(), name: name.to_owned(), functions, ..RosterUnit::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_read_as_it_is_written() {
        let found = unit("TH-MAR=Marine Police, Ranong, maritime+border").unwrap();
        assert_eq!((found.unit.as_str(), found.name.as_str()), ("TH-MAR", "Marine Police, Ranong"));
        assert_eq!(found.functions, [UnitFunction::Border as i32, UnitFunction::Maritime as i32]);
        for wrong in ["TH-MAR", "TH-MAR=Marine", "th=Marine, border", "TH-MAR=, border", "TH-MAR=Marine, x"] {
            assert_eq!(unit(wrong).unwrap_err().code, Code::Usage, "{wrong}");
        }
    }
}
