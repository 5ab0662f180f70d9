//! Checks of the data folder as files: they need no key, and say most when nothing opens any more.

use std::path::Path;

use super::{
    failure::{Code, Failure},
    files,
    folder::Folder,
};
use crate::core::health::Check;

/// Below this there is soon no room for packets and attachments, bytes.
const DISK_FREE_BYTES_MIN: u64 = 1 << 30;
/// Below this the next segment of the journal finds no room, bytes.
const DISK_FREE_BYTES_LEAST: u64 = 128 << 20;

/// All of them. Only the first when there is no data folder.
pub(crate) fn of_files(folder: &Folder, key_file: Option<&Path>) -> Vec<Check> {
    let first = private(folder);
    if !folder.path("node.toml").exists() {
        return vec![first];
    }
    let mut checks = vec![first, rooms(folder), settings(folder), sealed_keys(folder), identity(folder)];
    checks.extend(key_file.map(|path| opener(folder, path)));
    checks.push(disk(files::free_bytes(folder.root()).ok()));
    checks
}

/// What is to be said when the folder does not open.
pub(crate) fn unopened(failure: &Failure) -> Check {
    if failure.code == Code::NodeLocked {
        let advice =
            "if that is not intended: lintas unlock; then ask again, for what can be seen with keys only";
        return Check::warning("open", failure.message.clone(), advice);
    }
    let advice = match failure.code {
        Code::Locked => "give the right passphrase or key file; without it nothing that is kept can be read",
        Code::InUse => "wait for the other process, or ask the running node",
        Code::Storage => "look at the disk, then restore `journal` and `blobs` from a copy if need be",
        Code::DaemonEnded => "look at the log of the node, and start it again",
        Code::Internal
        | Code::Usage
        | Code::NotSetUp
        | Code::Draft
        | Code::NotFound
        | Code::NoAnswer
        | Code::Refused
        | Code::Forbidden
        | Code::Stale
        | Code::NodeLocked
        | Code::Evidence
        | Code::AuditDamaged
        | Code::AuditIncomplete
        | Code::AuditNotAttested
        | Code::Warned
        | Code::Wrong => "do what the sentence says, then ask again",
    };
    Check::wrong("open", format!("the node does not open: {}", failure.message), advice)
}

fn private(folder: &Folder) -> Check {
    match folder.check() {
        Ok(()) => Check::ok("folder", "the data folder is this user's, and nobody else may enter"),
        Err(failure) => Check::wrong(
            "folder",
            failure.message,
            "name the right folder with --data, and run this as the user of the node",
        ),
    }
}

/// That the folder around them is private, [`private`] says.
fn rooms(folder: &Folder) -> Check {
    let names = ["journal", "blobs", "blobs/in", "blobs/out"];
    // The journal makes its own folder when it is opened first.
    let unborn = |name: &str| name == "journal" && !folder.path(name).exists();
    let sound = |name: &str| unborn(name) || files::is_own_folder(&folder.path(name));
    let bad: Vec<_> = names.into_iter().filter(|name| !sound(name)).collect();
    if bad.is_empty() {
        return Check::ok(
            "inner_folders",
            "the folders of journal and attachments are there, and this user's",
        );
    }
    let found = format!("missing, or another user's: {}", bad.join(", "));
    let advice = "restore them from a copy, or chown them to the user of the node";
    Check::wrong("inner_folders", found, advice)
}

fn settings(folder: &Folder) -> Check {
    match folder.settings() {
        Ok(settings) => {
            Check::ok("settings", format!("node.toml is sound; the broker is {}", settings.broker))
        }
        Err(failure) => Check::wrong("settings", failure.message, "mend node.toml"),
    }
}

fn sealed_keys(folder: &Folder) -> Check {
    let keys = folder.path("node.keys");
    if !keys.is_file() {
        let advice = "restore node.keys from a copy, or from its paper copy";
        return Check::wrong("key_files", "node.keys is not there: nothing can be opened or sent", advice);
    }
    let open: Vec<_> = ["node.keys", "identity.key"]
        .into_iter()
        .filter(|name| files::others_may_read(&folder.path(name)))
        .collect();
    if open.is_empty() {
        return Check::ok("key_files", "the sealed keys may be read by this user only");
    }
    let found = format!("other users may read {}", open.join(" and "));
    Check::wrong("key_files", found, "chmod 600 them; whoever has read them can try passphrases at leisure")
}

fn identity(folder: &Folder) -> Check {
    if folder.path("identity.key").exists() {
        return Check::warning(
            "identity_key",
            "identity.key still lies on this machine: whoever takes the machine takes the agency's identity",
            "move it to two media that are kept offline under lock, then delete it here",
        );
    }
    Check::ok("identity_key", "the identity key is not on this machine")
}

fn opener(folder: &Folder, path: &Path) -> Check {
    if files::others_may_read(path) {
        let found = format!("other users may read the key file `{}`, which opens everything", path.display());
        return Check::wrong("key_file", found, "chmod 600 it, and think about who has read it");
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if absolute.starts_with(folder.root()) {
        let found = "the key file lies in the data folder, beside what it opens: a stolen copy opens itself";
        return Check::warning("key_file", found, "keep it on another medium");
    }
    Check::ok("key_file", "the key file may be read by this user only, and lies elsewhere")
}

fn disk(free: Option<u64>) -> Check {
    let Some(free) = free else {
        return Check::warning("disk", "the system does not say how much disk is left", "look at it by hand");
    };
    let (found, advice) =
        (format!("{} MiB of disk are left", free >> 20), "make room before packets are refused");
    if free < DISK_FREE_BYTES_LEAST {
        Check::wrong("disk", found, advice)
    } else if free < DISK_FREE_BYTES_MIN {
        Check::warning("disk", found, advice)
    } else {
        Check::ok("disk", found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::health::Mark;

    #[test]
    fn little_room_warns_and_none_is_wrong() {
        for (free, mark) in [(None, Mark::Warning), (Some(1 << 31), Mark::Ok), (Some(1 << 29), Mark::Warning)]
        {
            assert_eq!(disk(free).mark, mark, "{free:?}");
        }
        assert_eq!(disk(Some(1 << 20)).mark, Mark::Wrong);
    }
}
