//! `lintas region inspect`: what a file of the region holds, and its keys in words.

use std::path::PathBuf;

use clap::Args;
use lintas_config::{
    Bootstrap, Directory,
    authority::{self, Inspection, KeyView, Office, PolicyView},
    words::{fingerprint_digits, fingerprint_words},
};
use lintas_proto::{
    id::hex,
    schema::{BrokerKeys, JoinRequest},
};
use serde::Serialize;

use super::{Ceremony, policy_words, words};
use crate::{
    core::text::one_line,
    shell::{
        failure::{Code, Failure},
        region::files::{self, Carried},
    },
};

/// Options of `region inspect`.
#[derive(Args)]
pub(super) struct Inspect {
    /// A directory.bin, bootstrap.toml, authority.pub, join-request.bin or broker.roster.
    file: PathBuf,
    /// Believe a directory only if the authorities of this bootstrap.toml signed it; else it must be signed by those
    /// that it names itself.
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// Show a directory as whoever keeps this directory.mark sees it: who is held there.
    #[arg(long, value_name = "FILE", conflicts_with = "bootstrap")]
    mark: Option<PathBuf>,
    /// Show the full text of a directory's baseline policy instead, as it forbids now.
    #[arg(long)]
    baseline: bool,
    /// Public keys of offices, which give names to keys.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    office: Vec<PathBuf>,
}

/// A key, also in digits.
#[derive(Serialize)]
struct Key {
    #[serde(flatten)]
    key: KeyView,
    digits: String,
}

/// The baseline policy of a directory.
#[derive(Serialize)]
struct Baseline {
    region: String,
    version: u64,
    policies: Vec<PolicyView>,
}

impl From<Inspection> for Baseline {
    fn from(Inspection { region, version, baseline, .. }: Inspection) -> Self {
        Self { region, version, policies: baseline }
    }
}

#[derive(Serialize)]
#[serde(tag = "file", rename_all = "snake_case")]
enum Found {
    Directory(Box<Inspection>),
    Baseline(Baseline),
    Bootstrap {
        region: String,
        threshold: usize,
        authorities: Vec<KeyView>,
        words: String,
        digits: String,
    },
    Office(Key),
    JoinRequest {
        region: String,
        agency: String,
        name: String,
        units: Vec<String>,
        identity_key: Key,
        witness_key: Option<Key>,
    },
    Broker {
        name: String,
        transport_key: Key,
        receipt_key: Key,
        log_key: Key,
    },
}

/// Says it.
pub(super) fn run(ceremony: &Ceremony, args: &Inspect) -> Result<(), Failure> {
    let unusable = |error: &dyn std::fmt::Display| files::unusable(&args.file, error);
    let offices = files::offices(&args.office)?;
    let carried = files::carried(&args.file)?;
    let of_directory = args.bootstrap.is_some() || args.mark.is_some() || args.baseline;
    if of_directory && !matches!(carried, Carried::Directory(_)) {
        let message = "--bootstrap, --mark and --baseline are for a directory.bin only";
        return Err(Failure::new(Code::Usage, message));
    }
    let found = match carried {
        Carried::Directory(bytes) => {
            let directory = match &args.mark {
                Some(mark) => {
                    Directory::resume(&bytes, &[], &files::mark(mark)?).map_err(|error| unusable(&error))?
                }
                None => files::directory(&args.file, args.bootstrap.as_deref())?,
            };
            let found = authority::inspect(&directory, &offices).map_err(|error| unusable(&error))?;
            if args.baseline { Found::Baseline(found.into()) } else { Found::Directory(Box::new(found)) }
        }
        Carried::Bootstrap(bootstrap) => of_bootstrap(&bootstrap, &offices),
        Carried::Office(office) => {
            let Key { key, digits } = key(office.key.as_bytes());
            Found::Office(Key { key: KeyView { name: Some(office.name), ..key }, digits })
        }
        Carried::Request(request) => of_request(*request),
        Carried::Broker(broker) => of_broker(&broker),
    };
    ceremony.print(&found, plain_words)
}

fn key(bytes: &[u8]) -> Key {
    let words = |key: [u8; 32]| (fingerprint_words(&key), fingerprint_digits(&key));
    let none = || ("no key: it must be 32 bytes".to_owned(), String::new());
    let (words, digits) = bytes.try_into().map_or_else(|_| none(), words);
    Key { key: KeyView { key: hex(bytes), words, name: None }, digits }
}

fn of_bootstrap(bootstrap: &Bootstrap, offices: &[Office]) -> Found {
    let authorities =
        bootstrap.authority_keys.iter().map(|key| KeyView::of(key.as_bytes(), offices)).collect();
    Found::Bootstrap {
        region: bootstrap.region.clone(),
        threshold: bootstrap.threshold,
        authorities,
        words: bootstrap.words(),
        digits: bootstrap.fingerprint(),
    }
}

fn of_request(request: JoinRequest) -> Found {
    let member = request.member.unwrap_or_default();
    let units = member.units.iter().map(|unit| format!("{}: {}", unit.unit, unit.name)).collect();
    Found::JoinRequest {
        region: request.region,
        agency: member.agency,
        name: member.name,
        units,
        identity_key: key(&member.identity_key),
        witness_key: Some(&member.witness_key).filter(|bytes| !bytes.is_empty()).map(|bytes| key(bytes)),
    }
}

fn of_broker(broker: &BrokerKeys) -> Found {
    Found::Broker {
        name: broker.name.clone(),
        transport_key: key(&broker.transport_key),
        receipt_key: key(&broker.receipt_key),
        log_key: key(&broker.log_key),
    }
}

fn plain_words(found: &Found) -> String {
    let shown =
        |key: &Key| format!("    {}\n    {}\n    {}\n", words::key(&key.key), key.digits, key.key.key);
    match found {
        Found::Directory(found) => words::inspection(found),
        Found::Baseline(found) => policy_words::full(&found.region, found.version, &found.policies),
        Found::Bootstrap { region, threshold, authorities, words, digits } => format!(
            "Who may sign for region {}: {threshold} of these {} authorities\n{}\
             \nTo compare by another way, in words or in digits:\n  {words}\n  {digits}\n",
            one_line(region),
            authorities.len(),
            authorities.iter().map(|key| format!("  {}\n", words::key(key))).collect::<String>(),
        ),
        Found::Office(key) => {
            format!("An office of the region authority, in words, digits and hex:\n{}", shown(key))
        }
        Found::JoinRequest { region, agency, name, units, identity_key, witness_key } => format!(
            "Request of {} (\"{}\") to join region {}\n{}  identity key, in words, digits and hex:\n{}\
             \x20 witness key, which the roster names only if it is a witness:\n{}",
            one_line(agency),
            one_line(name),
            one_line(region),
            units.iter().map(|unit| format!("  unit {}\n", one_line(unit))).collect::<String>(),
            shown(identity_key),
            witness_key.as_ref().map_or_else(|| "    none\n".to_owned(), shown),
        ),
        Found::Broker { name, transport_key, receipt_key, log_key } => format!(
            "Broker {}, keys in words, digits and hex\n  connects with\n{}  signs receipts with\n{}\
             \x20 signs its log with\n{}",
            one_line(name),
            shown(transport_key),
            shown(receipt_key),
            shown(log_key),
        ),
    }
}
