//! `lintas init`: an agency's keys, and its request to join a region.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use lintas_config::{
    issue::new_agency,
    os_entropy,
    settings::{DEFAULT_FREE_MIB, LogFormat, NODE_ATTACHMENTS_MIB, NodeSettings},
};
use lintas_proto::{
    canonical,
    id::{check_code, check_name},
    schema::{Member, MemberStatus, Role, RosterUnit, UnitFunction},
};
use serde::Serialize;
use zeroize::Zeroize as _;

use super::Context;
use crate::{
    core::keys::{Holds, lock_file},
    shell::{
        clock,
        failure::{Code, Failure},
        files,
        unlock::new_unlocker,
    },
};

/// Five segments are the least that a journal takes; a node needs less than a broker.
const SEGMENT_MIB: u32 = 16;

/// Options of `init`.
#[derive(Args)]
pub(super) struct Init {
    /// Region to join, e.g. `mekong`.
    #[arg(long)]
    region: String,
    /// Code of the agency, e.g. `TH`.
    #[arg(long)]
    agency: String,
    /// Name of the agency.
    #[arg(long)]
    name: String,
    /// ISO 3166-1 alpha-2 code; leave it away for an international body.
    #[arg(long)]
    country: Option<String>,
    /// A unit: CODE=NAME, FUNCTION[+FUNCTION]; as often as there are units. Functions: spoc, investigation,
    /// victim-protection, child-protection, financial-intelligence, border, maritime, labour-inspection, audit,
    /// coordination.
    #[arg(long = "unit", required = true, value_name = "CODE=NAME, FUNCTION")]
    units: Vec<String>,
    /// IP address and UDP port of the region's broker, e.g. 203.0.113.7:7411.
    #[arg(long)]
    broker: SocketAddr,
    /// The agency also relays.
    #[arg(long)]
    coordinator: bool,
}

#[derive(Serialize)]
struct Made {
    agency: String,
    region: String,
    data: PathBuf,
    join_request: PathBuf,
    identity_key: PathBuf,
}

/// Makes everything, or nothing.
pub(super) fn run(context: &Context, init: &Init) -> Result<(), Failure> {
    let member = member(init)?;
    let folder = &context.folder;
    let taken = ["node.toml", "node.keys", "identity.key", "join-request.bin"];
    if taken.iter().any(|name| folder.path(name).exists()) {
        let message = format!(
            "`{}` already holds a node, and nothing was changed; name a new folder",
            folder.root().display()
        );
        return Err(Failure::new(Code::NotSetUp, message));
    }
    let mut entropy = os_entropy();
    let unlocker = new_unlocker(context.key_file.as_deref(), &mut entropy)?;
    let (identity, secrets, request) = new_agency(&init.region, member, clock::now_ms(), &mut entropy)
        .map_err(|error| Failure::new(Code::Usage, error))?;
    let plain = canonical::encode(&secrets);
    let node_keys = lock_file(Holds::Node, &plain, &unlocker, &mut entropy).map_err(Failure::internal)?;
    if let Ok(mut plain) = plain.try_into_mut() {
        plain.as_mut().zeroize();
    }
    let identity_key =
        lock_file(Holds::Identity, identity.as_ref(), &unlocker, &mut entropy).map_err(Failure::internal)?;
    let settings = NodeSettings {
        broker: init.broker,
        segment_mib: SEGMENT_MIB,
        attachments_mib_max: NODE_ATTACHMENTS_MIB,
        free_mib_min: DEFAULT_FREE_MIB,
        log: LogFormat::Text,
    };
    let settings = toml::to_string(&settings).map_err(Failure::internal)?;

    let private = |name: &str| {
        let path = folder.path(name);
        files::private_folder(&path).map_err(|error| Failure::file("make", &path, &error))
    };
    files::private_folder(folder.root())
        .map_err(|error| Failure::file("make the data folder", folder.root(), &error))?;
    for name in ["blobs", "blobs/out", "blobs/in", "journal"] {
        private(name)?;
    }
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path(name);
        files::write_new(&path, bytes).map_err(|error| Failure::file("write", &path, &error))
    };
    write("identity.key", &identity_key)?;
    write("node.keys", &node_keys)?;
    write("join-request.bin", &canonical::encode(&request))?;
    // Last: with it the folder counts as one.
    write("node.toml", settings.as_bytes())?;
    let made = Made {
        agency: init.agency.clone(),
        region: init.region.clone(),
        data: folder.root().to_owned(),
        join_request: folder.path("join-request.bin"),
        identity_key: folder.path("identity.key"),
    };
    context.print(&made, plain_words)
}

fn plain_words(made: &Made) -> String {
    format!(
        "The keys of {} are made, sealed, in {}.\n\
         Only your passphrase or key file opens them, and identity.key as well: if it is lost, nobody can.\n\
         \n\
         What to do next:\n\
         1. Give {} to the authority of region {}.\n\
         2. Move {} to a place that is not connected to anything, with a copy elsewhere.\n\
         3. When it has admitted {}, take the file bootstrap.toml that it gives you:\n\
         \x20  lintas join --bootstrap bootstrap.toml\n\
         \x20  Compare its fingerprint with the authority by another way, e.g. by telephone.\n\
         4. Start `lintas run`.\n",
        made.agency,
        made.data.display(),
        made.join_request.display(),
        made.region,
        made.identity_key.display(),
        made.agency,
    )
}

fn member(init: &Init) -> Result<Member, Failure> {
    let wrong = |message: String| Failure::new(Code::Usage, message);
    check_name(&init.region).map_err(|error| wrong(format!("--region `{}` is {error}", init.region)))?;
    check_code(&init.agency).map_err(|error| wrong(format!("--agency `{}` is {error}", init.agency)))?;
    let country = init.country.clone().unwrap_or_default();
    let is_country = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
    if !country.is_empty() && !is_country {
        return Err(wrong(format!("--country `{country}` must be two capitals, e.g. TH")));
    }
    if init.name.is_empty() {
        return Err(wrong("--name must not be empty".to_owned()));
    }
    let mut units = init.units.iter().map(|text| unit(text)).collect::<Result<Vec<_>, _>>()?;
    units.sort_by(|a, b| a.unit.cmp(&b.unit));
    let again = units.iter().zip(units.iter().skip(1)).find(|(a, b)| a.unit == b.unit);
    if let Some((unit, _)) = again {
        return Err(wrong(format!("unit {} is named twice", unit.unit)));
    }
    let mut roles = vec![Role::Agency as i32];
    roles.extend(init.coordinator.then_some(Role::Coordinator as i32));
    Ok(Member {
        agency: init.agency.clone(),
        name: init.name.clone(),
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
        known.map(|found| found as i32).ok_or_else(|| wrong(&format!("`{}` is no function", text.trim())))
    };
    let mut functions = functions.split('+').map(function).collect::<Result<Vec<_>, _>>()?;
    functions.sort_unstable();
    functions.dedup();
    Ok(RosterUnit { unit: code.to_owned(), name: name.to_owned(), functions, clearance: 0 })
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
