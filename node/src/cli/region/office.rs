//! `lintas region office`: an office's authority key.

use std::path::PathBuf;

use clap::Args;
use lintas_config::{authority::KeyView, words::fingerprint_digits};
use serde::Serialize;

use super::Ceremony;
use crate::{
    core::text::one_line,
    shell::{failure::Failure, region::office},
};

/// Options of `region office`.
#[derive(Args)]
pub(super) struct Make {
    /// Name of the office, exactly as `authorities` in region.toml writes it.
    #[arg(long)]
    name: String,
}

#[derive(Serialize)]
struct Made {
    #[serde(flatten)]
    office: KeyView,
    digits: String,
    public: PathBuf,
}

/// Makes everything, or nothing.
pub(super) fn run(ceremony: &Ceremony, make: &Make) -> Result<(), Failure> {
    let (made, public) = office::make(&ceremony.folder()?, &make.name, ceremony.key_file())?;
    let key = made.key.as_bytes();
    let made = Made {
        office: KeyView { name: Some(made.name.clone()), ..KeyView::of(key, &[]) },
        digits: fingerprint_digits(key),
        public,
    };
    ceremony.print(&made, plain_words)
}

fn plain_words(made: &Made) -> String {
    format!(
        "The authority key of \"{}\" is made, sealed. Only your passphrase or key file opens it.\n\
         \n\
         Its fingerprint, in words and in digits:\n  {}\n  {}\n\
         \n\
         What to do next:\n\
         1. Give {} to whoever drafts the roster, and read the words to them by another way, e.g. by telephone.\n\
         2. Copy the whole folder to a second medium and keep it elsewhere. Keep this machine offline.\n\
         3. After every signature copy signed.mark and directory.mark too: they keep this office from signing twice.\n",
        one_line(made.office.name.as_deref().unwrap_or_default()),
        made.office.words,
        made.digits,
        made.public.display(),
    )
}
