//! Key pages: under which keys the content keys of kept packets are sealed, and how they die.
//!
//! A page seals up to [`PAGE_KEYS_MAX`] content keys or serves for a day, whichever ends first. Page keys lie in the key
//! file. To destroy a packet for good, the keys that share its page move to a new page, and the old page leaves the key
//! file, which is sealed anew under another key each time it is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use lintas_proto::schema::{KeyPage, NodeSecrets};
use rand_core::CryptoRng;

use super::{keys::KeysError, vault::Vault};

/// Most content keys of a page.
pub(crate) const PAGE_KEYS_MAX: usize = 256;
/// How long a page serves, milliseconds: 1 day.
const PAGE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Most pages of a node: less than a list can hold.
pub(crate) const PAGES_MAX: usize = 8_000;

/// A page's number and key.
pub(crate) type Page = (u64, Arc<Vault>);

/// The page that serves now.
#[derive(Debug, Clone, Copy)]
struct Serving {
    number: u64,
    /// Content keys sealed so far.
    keys: usize,
    since_ms: u64,
}

/// The pages of a node.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    keys: BTreeMap<u64, Arc<Vault>>,
    serving: Option<Serving>,
    /// Highest number under which something was sealed.
    used: u64,
    /// Highest number that a page of this key file had.
    last: u64,
}

impl Pages {
    /// Reads the pages of a key file.
    pub(crate) fn parse(secrets: &NodeSecrets) -> Result<Self, KeysError> {
        let page = |page: &KeyPage| Ok((page.number, Arc::new(Vault::from_bytes(&page.key)?)));
        let keys = secrets.pages.iter().map(page).collect::<Result<_, KeysError>>()?;
        Ok(Self { keys, serving: None, used: 0, last: secrets.last_page })
    }

    /// Takes over what the key file says now; the page that serves goes on if it is still there. `used` as in
    /// [`resume`](Self::resume).
    pub(crate) fn replace(&mut self, now: Self, used: u64) {
        self.used = self.used.max(used);
        (self.keys, self.last) = (now.keys, now.last);
        self.serving = self.serving.filter(|serving| self.keys.contains_key(&serving.number));
    }

    /// After a restart: the highest page under which something was sealed (0 for none), with how many keys and since
    /// when.
    pub(crate) fn resume(&mut self, used: u64, keys: usize, since_ms: u64) {
        self.used = used;
        self.serving =
            Some(Serving { number: used, keys, since_ms }).filter(|_| self.keys.contains_key(&used));
    }

    /// Pages that are here and will seal nothing any more, or nothing yet but are passed over, without those in `live`.
    pub(crate) fn idle(&self, live: impl Fn(u64) -> bool) -> BTreeSet<u64> {
        let serving = self.serving.map(|serving| serving.number);
        let idle = |number: &u64| *number <= self.used && Some(*number) != serving && !live(*number);
        self.keys.keys().copied().filter(idle).collect()
    }

    /// Refuses a key file in which pages are missing that are in use here: somebody has put an older one back.
    pub(crate) fn check(&self, secrets: &NodeSecrets) -> Result<(), KeysError> {
        if secrets.last_page < self.last { Err(KeysError::OlderFile) } else { Ok(()) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.keys.len()
    }

    /// The key of a page.
    pub(crate) fn key(&self, number: u64) -> Option<&Arc<Vault>> {
        self.keys.get(&number)
    }

    /// The page for one more content key; none if a new page is to be made first.
    pub(crate) fn take(&mut self, now_ms: u64) -> Option<Page> {
        if !self.serving.is_some_and(|serving| serving.has_room(now_ms)) {
            let number = self.spare()?;
            self.used = self.used.max(number);
            self.serving = Some(Serving { number, keys: 0, since_ms: now_ms });
        }
        let serving = self.serving.as_mut()?;
        serving.keys += 1;
        Some((serving.number, Arc::clone(self.keys.get(&serving.number)?)))
    }

    /// Whether the next page should be made now, so that nobody waits for it.
    pub(crate) fn is_short(&self, now_ms: u64) -> bool {
        let half = |serving: Serving| {
            serving.keys * 2 >= PAGE_KEYS_MAX || now_ms.abs_diff(serving.since_ms) * 2 >= PAGE_MS_MAX
        };
        self.serving.is_none_or(half) && self.spare().is_none()
    }

    /// The first page that has not served. Pages serve in the order of their numbers.
    fn spare(&self) -> Option<u64> {
        self.keys.range(self.used.saturating_add(1)..).map(|(number, _)| *number).next()
    }
}

impl Serving {
    fn has_room(self, now_ms: u64) -> bool {
        // A clock that went back ends a page too.
        self.keys < PAGE_KEYS_MAX
            && (self.since_ms..self.since_ms.saturating_add(PAGE_MS_MAX)).contains(&now_ms)
    }
}

/// Adds `count` pages to a key file, numbered above every number that was ever used, `seen` among them. Their numbers.
pub(crate) fn add(
    secrets: &mut NodeSecrets,
    seen: u64,
    count: usize,
    entropy: &mut dyn CryptoRng,
) -> Result<Vec<u64>, KeysError> {
    if secrets.pages.len().saturating_add(count) > PAGES_MAX {
        return Err(KeysError::TooManyPages);
    }
    let mut numbers = Vec::with_capacity(count);
    secrets.last_page = secrets.last_page.max(seen);
    for _ in 0..count {
        secrets.last_page = secrets.last_page.checked_add(1).ok_or(KeysError::TooManyPages)?;
        let key = lintas_config::issue::fresh_seed(entropy);
        let key = Bytes::copy_from_slice(key.as_slice());
        secrets.pages.push(KeyPage { number: secrets.last_page, key });
        numbers.push(secrets.last_page);
    }
    Ok(numbers)
}

/// Takes pages out of a key file; true if any of them was there.
pub(crate) fn remove(secrets: &mut NodeSecrets, numbers: &BTreeSet<u64>) -> bool {
    let (gone, kept): (Vec<_>, Vec<_>) =
        std::mem::take(&mut secrets.pages).into_iter().partition(|page| numbers.contains(&page.number));
    secrets.pages = kept;
    let any = !gone.is_empty();
    gone.into_iter().for_each(|page| super::keys::wipe(page.key));
    any
}

#[cfg(test)]
mod tests {
    use lintas_config::os_entropy;

    use super::*;

    const NOW: u64 = 1_790_000_000_000;

    fn pages(secrets: &NodeSecrets) -> Pages {
        Pages::parse(secrets).unwrap()
    }

    #[test]
    fn a_page_serves_256_keys_or_a_day_and_the_next_is_wanted_at_half() {
        let mut secrets = NodeSecrets::default();
        assert!(pages(&secrets).take(NOW).is_none() && pages(&secrets).is_short(NOW));
        assert_eq!(add(&mut secrets, 0, 3, &mut os_entropy()).unwrap(), [1, 2, 3]);
        let mut found = pages(&secrets);
        for _ in 0..PAGE_KEYS_MAX {
            assert_eq!(found.take(NOW).unwrap().0, 1);
        }
        assert_eq!(found.take(NOW).unwrap().0, 2);
        assert!(!found.is_short(NOW + PAGE_MS_MAX / 2), "page 3 waits");
        assert_eq!(found.take(NOW + PAGE_MS_MAX).unwrap().0, 3, "a day is over");
        let day = NOW + PAGE_MS_MAX;
        assert!(!found.is_short(day) && found.is_short(day + PAGE_MS_MAX / 2), "half a day");
        assert!(found.take(day + PAGE_MS_MAX).is_none() && found.take(day - 1).is_none());
        assert_eq!(found.idle(|page| page == 1), [2].into());
        // After a restart, as the journal has it.
        let mut found = pages(&secrets);
        found.resume(2, PAGE_KEYS_MAX - 1, NOW);
        assert_eq!((found.take(NOW).unwrap().0, found.take(NOW).unwrap().0), (2, 3));
        let mut found = pages(&secrets);
        found.resume(3, PAGE_KEYS_MAX / 2, NOW);
        assert!(found.is_short(NOW), "half of the keys");
        remove(&mut secrets, &[3].into());
        found.replace(pages(&secrets), 0);
        assert!(found.take(NOW).is_none(), "1 and 2 have served");
    }

    #[test]
    fn a_number_is_never_used_again_also_after_an_old_key_file_was_restored() {
        let mut secrets = NodeSecrets::default();
        add(&mut secrets, 0, 3, &mut os_entropy()).unwrap();
        let old = secrets.clone();
        assert!(remove(&mut secrets, &[2, 3].into()));
        assert!(!remove(&mut secrets, &[2, 3].into()));
        assert_eq!(add(&mut secrets, 0, 1, &mut os_entropy()).unwrap(), [4]);
        assert!(pages(&secrets).key(3).is_none() && pages(&secrets).key(4).is_some());
        // The journal knows of page 9.
        assert!(pages(&secrets).check(&old).is_err() && pages(&old).check(&secrets).is_ok());
        let mut restored = old;
        assert_eq!(add(&mut restored, 9, 1, &mut os_entropy()).unwrap(), [10]);
        let full = add(&mut restored, 9, PAGES_MAX, &mut os_entropy()).unwrap_err();
        assert!(full.to_string().contains("purge"), "{full}");
    }
}
