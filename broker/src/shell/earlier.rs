//! `directory.earlier`: the directories that were in force here (see [`core::earlier`](crate::core::earlier)). A line
//! for each, the last for the one in force: directory_hash in hex, since when in milliseconds, roster version, and the
//! agency whose keyset made it, `-` when a roster did. A line is added before a directory comes into force; a start
//! writes the file anew.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};

use lintas_proto::id::{hex, unhex};

use super::folder::{Folder, FolderError, at, replace};
use crate::core::earlier::{Earlier, Taken};

const EARLIER: &str = "directory.earlier";

impl Folder {
    /// The directories remembered, `present` being in force from now on.
    pub(crate) fn earlier(&self, present: Taken) -> Result<Earlier, FolderError> {
        let path = self.path(EARLIER);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(at(&path)(error)),
        };
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let known: Vec<Taken> = lines.iter().filter_map(|line| parse(str::from_utf8(line).ok()?)).collect();
        let unread = lines.len().saturating_sub(known.len());
        if unread > 0 {
            tracing::warn!(
                lines = unread,
                "lines of directory.earlier cannot be read and are left out: what waits under those directories is refused, and \
                 its node seals it again"
            );
        }
        let mut earlier = Earlier::default();
        known.into_iter().chain([present]).for_each(|taken| earlier.take(taken));
        replace(&path, earlier.iter().map(line).collect::<String>().as_bytes())?;
        Ok(earlier)
    }

    /// Adds one, durably.
    pub(crate) fn add_earlier(&self, taken: &Taken) -> Result<(), FolderError> {
        let path = self.path(EARLIER);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            // Behind what a full disk may have cut.
            file.write_all(format!("\n{}", line(taken)).as_bytes())?;
            file.sync_data()
        };
        write().map_err(at(&path))
    }
}

fn line(taken: &Taken) -> String {
    let cause = if taken.cause.is_empty() { "-" } else { &taken.cause };
    format!("{} {} {} {cause}\n", hex(&taken.hash), taken.since_ms, taken.roster_version)
}

/// A line that cannot be read counts for nothing: packets under that directory are sealed again.
fn parse(line: &str) -> Option<Taken> {
    let mut words = line.split(' ');
    let taken = Taken {
        hash: unhex(words.next()?).ok()?.try_into().ok()?,
        since_ms: words.next()?.parse().ok()?,
        roster_version: words.next()?.parse().ok()?,
        cause: words.next().filter(|cause| *cause != "-").unwrap_or_default().to_owned(),
    };
    words.next().is_none().then_some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempFolder;

    fn taken(number: u8, cause: &str) -> Taken {
        let number_ms = u64::from(number);
        Taken { hash: [number; 32], since_ms: number_ms, roster_version: number_ms, cause: cause.to_owned() }
    }

    #[test]
    fn what_was_added_is_there_after_a_start() {
        let root = TempFolder::new();
        let folder = Folder::at(root.path());
        folder.earlier(taken(1, "")).unwrap();
        folder.add_earlier(&taken(2, "KH")).unwrap();
        let path = root.path().join(EARLIER);
        let whole = fs::read_to_string(&path).unwrap();
        // A line that was cut, and one behind it.
        crate::testing::put(&path, format!("{whole}\n0303").as_bytes());
        folder.add_earlier(&taken(4, "")).unwrap();
        let earlier = folder.earlier(taken(4, "")).unwrap();
        assert_eq!(earlier.iter().cloned().collect::<Vec<_>>(), [taken(1, ""), taken(2, "KH"), taken(4, "")]);
        let earlier = folder.earlier(taken(5, "")).unwrap();
        assert_eq!(earlier.iter().count(), 4);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
    }

    #[test]
    fn a_byte_that_is_no_text_costs_its_line_and_not_the_start() {
        let root = TempFolder::new();
        let folder = Folder::at(root.path());
        for number in 1..4 {
            folder.earlier(taken(number, "KH")).unwrap();
        }
        let path = root.path().join(EARLIER);
        let mut bytes = fs::read(&path).unwrap();
        let second = bytes.len() / 3 + 5;
        bytes[second] |= 0x80;
        crate::testing::put(&path, &bytes);
        let earlier = folder.earlier(taken(3, "KH")).unwrap();
        assert_eq!(earlier.iter().cloned().collect::<Vec<_>>(), [taken(1, "KH"), taken(3, "KH")]);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2, "the start has written it anew");
    }

    #[test]
    fn what_cannot_be_read_counts_for_nothing() {
        let hash = hex(&[3; 32]);
        let lines = ["zz 1 1 -".to_owned(), format!("{hash} 1"), format!("{hash} 1 1 - 9"), String::new()];
        assert!(lines.iter().all(|line| parse(line).is_none()));
        assert_eq!(parse(line(&taken(3, "KH")).trim_end()), Some(taken(3, "KH")));
    }
}
