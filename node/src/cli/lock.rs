//! `lintas lock` and `lintas unlock`: the running node drops its keys, and gets them again.

use serde::Serialize;

use super::{Context, status, unexpected};
use crate::shell::{
    clock::show as time,
    control,
    desk::{Opening, Reply, Request},
    failure::{Code, Failure},
    unlock,
};

#[derive(Serialize)]
struct Locked {
    locked: bool,
    daemon: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_ms: Option<u64>,
}

/// Locks.
pub(super) fn lock(context: &Context) -> Result<(), Failure> {
    context.folder.check()?;
    match control::ask(&context.folder, &Request::Lock) {
        Some(Ok(Reply::Locked { since_ms })) => print(context, since_ms),
        Some(Ok(_)) => Err(unexpected()),
        Some(Err(failure)) => Err(failure),
        None => context.print(&Locked { locked: true, daemon: false, since_ms: None }, |_| {
            "No node runs here, so nobody has the keys. To start one that is locked: lintas run --locked\n".to_owned()
        }),
    }
}

/// Unlocks, and says how the node is then.
pub(super) fn unlock(context: &Context) -> Result<(), Failure> {
    context.folder.check()?;
    let nobody = || Failure::new(Code::Usage, "no node runs here; start it with `lintas run`");
    // Nobody is asked for a passphrase in vain.
    if let Reply::Status(known) = control::ask(&context.folder, &Request::Status).ok_or_else(nobody)?? {
        return context.print(known.as_ref(), status::plain_words);
    }
    let with = Opening::of(&unlock::unlocker(context.key_file.as_deref())?);
    let Reply::Status(known) =
        control::ask(&context.folder, &Request::Unlock { with }).ok_or_else(nobody)??
    else {
        return Err(unexpected());
    };
    context.print(known.as_ref(), status::plain_words)
}

/// That the node is locked.
pub(super) fn print(context: &Context, since_ms: u64) -> Result<(), Failure> {
    context.print(&Locked { locked: true, daemon: true, since_ms: Some(since_ms) }, |_| {
        format!(
            "LOCKED since {}: nobody has the keys, and nothing is sent or received.\nTo go on: lintas unlock\n",
            time(since_ms)
        )
    })
}
