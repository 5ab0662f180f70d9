//! `lintas region change`: the next roster of a region.

use std::path::{Path, PathBuf};

use clap::Args;
use lintas_config::{
    Directory,
    authority::{self, ChangeError, Changes, LogEnd, Office},
    words::names_key,
};
use lintas_proto::{schema::JoinRequest, sign::VerifyingKey};

use super::{
    Ceremony,
    draft::{Drafted, plain_words},
};
use crate::{
    core::text::one_line,
    shell::{
        clock,
        failure::{Code, Failure},
        region::files,
    },
};

const EXAMPLE: &str = "\
Several changes can be made at once. Examples:
  lintas region change --from directory.bin --sources mekong --admit join-request.bin --out proposal.bin
  lintas region change --from directory.bin --suspend KH --out proposal.bin
  lintas region change --from directory.bin --audits AUD=KH,TH --no-witness KH --out proposal.bin
  lintas region change --from directory.bin --baseline mekong/policy/baseline/policy.cedar --out proposal.bin
  lintas region change --from directory.bin --renew --out proposal.bin";

/// Options of `region change`.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Change {
    /// The directory in force: the newest directory.bin that anybody has.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Believe it only if the authorities of this bootstrap.toml signed it.
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// Folder with region.toml and one file for each member; for --admit and --update.
    #[arg(long, value_name = "DIR")]
    sources: Option<PathBuf>,
    /// A newcomer: its join-request.bin.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    admit: Vec<PathBuf>,
    /// A member that neither sends nor receives until it is reinstated.
    #[arg(long, num_args = 1.., value_name = "AGENCY")]
    suspend: Vec<String>,
    /// A suspended member that is active again.
    #[arg(long, num_args = 1.., value_name = "AGENCY")]
    reinstate: Vec<String>,
    /// A member that leaves, for ever.
    #[arg(long, num_args = 1.., value_name = "AGENCY")]
    revoke: Vec<String>,
    /// A member whose names, roles, groups and units (functions, purposes, clearance) are taken from the sources again.
    #[arg(long, num_args = 1.., value_name = "AGENCY")]
    update: Vec<String>,
    /// A member that lost or replaced its identity key: its new join-request.bin.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// The old identity key's signature for the new one (64 bytes), so that no officer has to confirm it.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    handover: Vec<PathBuf>,
    /// An office that comes: its authority.pub.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    add_office: Vec<PathBuf>,
    /// An office that goes, e.g. because its key is lost: its authority.pub; or its name, if --office knows it; or
    /// its key in words or hex digits.
    #[arg(long, num_args = 1.., value_name = "OFFICE")]
    drop_office: Vec<String>,
    /// How many offices must sign from then on; as before if left out.
    #[arg(long, value_name = "K")]
    threshold: Option<u32>,
    /// Replaced keys of a broker: its broker.roster.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    broker: Vec<PathBuf>,
    /// A member that becomes a witness of the audit log, or has a new witness key: AGENCY=FILE, its join-request.bin.
    #[arg(long, num_args = 1.., value_name = "AGENCY=FILE")]
    witness: Vec<String>,
    /// A witness that is none any more.
    #[arg(long, num_args = 1.., value_name = "AGENCY")]
    no_witness: Vec<String>,
    /// Whose parts of the log an auditor may read from now on: AGENCY=CODE,CODE or AGENCY=* for all, AGENCY= for none.
    #[arg(long, num_args = 1.., value_name = "AGENCY=LIST")]
    audits: Vec<String>,
    /// A broker whose log ends, and the next one begins: BROKER=FILE, the largest `checkpoint` that a quorum of
    /// witnesses has cosigned.
    #[arg(long, num_args = 1.., value_name = "BROKER=FILE")]
    end_log: Vec<String>,
    /// End it although fewer have cosigned that checkpoint, because there is no better one.
    #[arg(long, requires = "end_log")]
    without_quorum: bool,
    /// After how many days an agency is told that an auditor read its part of the log.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=365))]
    reads_told_after_days: Option<u32>,
    /// Another regional baseline policy, e.g. policy/baseline/policy.cedar; cases.toml beside it is run. What it adds
    /// forbids at once; what it lacks of the one before goes on to forbid for 14 days.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Other classification schemes, in the place of all of before: region.toml, or a file with its [[scheme]] tables.
    #[arg(long, value_name = "FILE")]
    schemes: Option<PathBuf>,
    /// Change nothing but the validity, which begins anew with every roster.
    #[arg(long)]
    renew: bool,
    /// Days of validity; as region.toml says, or as long as before, if left out.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=399))]
    valid_days: Option<u32>,
    /// Public keys of offices, which give names to keys.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    office: Vec<PathBuf>,
    /// File to write the proposal to.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Drafts.
pub(super) fn run(ceremony: &Ceremony, change: &Change) -> Result<(), Failure> {
    let directory = files::directory(&change.from, change.bootstrap.as_deref())?;
    let source = change.sources.as_deref().map(files::sources).transpose()?;
    let mut known = files::offices(&change.office)?;
    let coming = files::offices(&change.add_office)?;
    let changes = Changes {
        admit: files::requests(&change.admit)?,
        identity: files::requests(&change.identity)?,
        handovers: files::handovers(&change.handover)?,
        update: change.update.clone(),
        suspend: change.suspend.clone(),
        reinstate: change.reinstate.clone(),
        revoke: change.revoke.clone(),
        add_offices: coming.iter().map(|office| office.key.clone()).collect(),
        drop_offices: change
            .drop_office
            .iter()
            .map(|text| dropped(text, &directory, &known))
            .collect::<Result<_, _>>()?,
        threshold: change.threshold,
        brokers: files::brokers(&change.broker)?,
        witness: change.witness.iter().map(|text| witness(text)).collect::<Result<_, _>>()?,
        no_witness: change.no_witness.clone(),
        audits: change.audits.iter().map(|text| audits(text)).collect::<Result<_, _>>()?,
        end_logs: change.end_log.iter().map(|text| end_log(text)).collect::<Result<_, _>>()?,
        without_quorum: change.without_quorum,
        reads_told_after_days: change.reads_told_after_days,
        baseline: change.baseline.as_deref().map(files::baseline).transpose()?,
        schemes: change.schemes.as_deref().map(files::schemes).transpose()?,
        valid_days: change.valid_days,
    };
    if !change.renew && changes == (Changes { valid_days: change.valid_days, ..Changes::default() }) {
        let message = "nothing was asked for: say what to change, e.g. --suspend AGENCY (see --help); with --renew only the validity \
                       begins anew";
        return Err(Failure::new(Code::Usage, message));
    }
    let proposal = authority::change(&directory, source.as_ref(), &changes, clock::now_ms())
        .map_err(|error| refused(&error))?;
    files::write_new(&change.out, &proposal.to_bytes())?;
    known.extend(coming);
    let review = authority::review(&proposal, Some(&directory), &known).map_err(Failure::internal)?;
    ceremony.print(&Drafted { proposal: change.out.clone(), review }, plain_words)
}

fn refused(error: &ChangeError) -> Failure {
    let code = if matches!(error, ChangeError::Sources { .. }) { Code::Usage } else { Code::Forbidden };
    let advice = if code == Code::Usage { ": --sources DIR" } else { "" };
    Failure::new(code, format_args!("{error}{advice}"))
}

/// `NAME=VALUE`.
fn pair<'a>(option: &str, text: &'a str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
        let message =
            format!("--{option} `{}`: write it with `=`, see `lintas region change --help`", one_line(text));
        Failure::new(Code::Usage, message)
    })
}

fn witness(text: &str) -> Result<(String, JoinRequest), Failure> {
    let (agency, path) = pair("witness", text)?;
    Ok((agency.to_owned(), files::request(Path::new(path))?))
}

fn audits(text: &str) -> Result<(String, Vec<String>), Failure> {
    let (agency, list) = pair("audits", text)?;
    let codes = list.split(',').map(str::trim).filter(|code| !code.is_empty());
    Ok((agency.to_owned(), codes.map(str::to_owned).collect()))
}

fn end_log(text: &str) -> Result<LogEnd, Failure> {
    let (broker, path) = pair("end-log", text)?;
    Ok(LogEnd { broker: broker.to_owned(), checkpoint: files::checkpoint(Path::new(path))? })
}

/// The key of an office that goes.
fn dropped(text: &str, directory: &Directory, known: &[Office]) -> Result<VerifyingKey, Failure> {
    let path = Path::new(text);
    if path.is_file() {
        return files::office(path).map(|office| office.key);
    }
    if let Some(office) = known.iter().find(|office| office.name == text) {
        return Ok(office.key.clone());
    }
    let keys = directory.roster().authority_keys.iter().filter_map(|key| VerifyingKey::parse(key).ok());
    keys.into_iter().find(|key| names_key(text, key.as_bytes())).ok_or_else(|| {
        let message = format!(
            "no authority of the region is known as `{}`: give its authority.pub, its key in words (see `lintas region \
             inspect`), or its name and its authority.pub with --office",
            one_line(text)
        );
        Failure::new(Code::Usage, message)
    })
}
