//! `lintas export`: attachments in clear, under names of our own.

use std::path::PathBuf;

use clap::Args;

use super::{Context, absolute, progress::with_bar, unexpected};
use crate::{
    core::{text::one_line, view::Exported},
    shell::{
        desk::{Reply, Request},
        failure::{Code, Failure},
    },
};

/// Options of `export`.
#[derive(Args)]
pub(super) struct Export {
    /// Packet id, or at least 8 digits of the header digest.
    id: String,
    /// Export the attachments; nothing else can be exported yet.
    #[arg(long)]
    attachments: bool,
    /// Folder to write into, which must be there: as 1.bin, 2.bin, in the order of `lintas show`. Nothing in it is
    /// overwritten.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Writes.
pub(super) fn run(context: &Context, export: &Export) -> Result<(), Failure> {
    if !export.attachments {
        return Err(Failure::new(Code::Usage, "say what to export: --attachments"));
    }
    let request = Request::Export { id: export.id.clone(), to: absolute(&export.to)? };
    let asked = with_bar("opening", |watch| context.ask_watching(request, watch));
    let Reply::Exported(files) = asked? else {
        return Err(unexpected());
    };
    context.print(&files, |files| files.iter().map(plain_words).collect())
}

fn plain_words(exported: &Exported) -> String {
    format!(
        "{}  {} bytes\n  the sender calls it `{}`: do not trust the name\n",
        exported.file,
        exported.attachment.bytes,
        one_line(&exported.attachment.claimed_name)
    )
}
