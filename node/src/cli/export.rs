//! `lintas export`: attachments in clear, under names of our own.

use std::path::PathBuf;

use clap::Args;

use super::{Context, absolute, progress::with_bar, show::restrictions, unexpected};
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
    /// You have read the restrictions of a packet with H3 or DISPLAY_ONLY, and they allow it: do not ask.
    #[arg(long)]
    yes: bool,
}

/// Writes.
pub(super) fn run(context: &Context, export: &Export) -> Result<(), Failure> {
    if !export.attachments {
        return Err(Failure::new(Code::Usage, "say what to export: --attachments"));
    }
    let to = absolute(&export.to)?;
    let confirmed = confirmed(context, export)?;
    let request = Request::Export { id: export.id.clone(), to, confirmed };
    let asked = with_bar("opening", |watch| context.ask_watching(request, watch));
    let Reply::Exported(files) = asked? else {
        return Err(unexpected());
    };
    context.print(&files, |files| files.iter().map(plain_words).collect())
}

/// Whether the officer has agreed; asked only where the label restricts.
fn confirmed(context: &Context, export: &Export) -> Result<bool, Failure> {
    if export.yes {
        return Ok(true);
    }
    let Reply::Packet(packet) = context.ask(Request::Show { id: export.id.clone() })? else {
        return Err(unexpected());
    };
    if !packet.restricted {
        return Ok(false);
    }
    let question = format!(
        "{}Do these restrictions allow you to write the attachments of packet {} into files?",
        restrictions(&packet.restrictions),
        packet.packet_id
    );
    if context.json {
        return Err(Failure::new(Code::Usage, format!("{question} Nothing was written; say yes with --yes")));
    }
    context.confirm(false, &question).map(|()| true)
}

fn plain_words(exported: &Exported) -> String {
    format!(
        "{}  {} bytes\n  the sender calls it `{}`: do not trust the name\n",
        exported.file,
        exported.attachment.bytes,
        one_line(&exported.attachment.claimed_name)
    )
}
