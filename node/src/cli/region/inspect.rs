//! `lintas region inspect`: what a directory holds.

use std::path::PathBuf;

use clap::Args;
use lintas_config::{Directory, authority};

use super::{Ceremony, words};
use crate::shell::{failure::Failure, region::files};

/// Options of `region inspect`.
#[derive(Args)]
pub(super) struct Inspect {
    /// The directory.
    directory: PathBuf,
    /// Believe it only if the authorities of this bootstrap.toml signed it; else it must be signed by those that it
    /// names itself.
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// Show it as whoever keeps this directory.mark sees it: who is held there.
    #[arg(long, value_name = "FILE", conflicts_with = "bootstrap")]
    mark: Option<PathBuf>,
    /// Public keys of offices, which give names to keys.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    office: Vec<PathBuf>,
}

/// Says it.
pub(super) fn run(ceremony: &Ceremony, args: &Inspect) -> Result<(), Failure> {
    let unusable = |error: &dyn std::fmt::Display| files::unusable(&args.directory, error);
    let directory = match &args.mark {
        Some(mark) => {
            let bytes = files::directory_bytes(&args.directory)?;
            Directory::resume(&bytes, &[], &files::mark(mark)?).map_err(|error| unusable(&error))?
        }
        None => files::directory(&args.directory, args.bootstrap.as_deref())?,
    };
    let offices = files::offices(&args.office)?;
    let found = authority::inspect(&directory, &offices).map_err(|error| unusable(&error))?;
    ceremony.print(&found, words::inspection)
}
