//! The policies that this node knows: the baseline of its roster and its own agency's bundles. Another agency's bundle never
//! comes here.

use std::sync::{Arc, Mutex, PoisonError};

use lintas_config::{
    Directory,
    policy::{Bundle, Policies, Problem},
};

/// The bundles of the own agency, and what is in force.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// Verified; the newest, and those whose time has not come.
    bundles: Mutex<Vec<Arc<Bundle>>>,
    current: Mutex<Option<Arc<Policies>>>,
}

impl Shelf {
    /// Takes up one more bundle. It is durable.
    #[allow(dead_code, reason = "used by what publishes")]
    pub(crate) fn add(&self, bundle: Arc<Bundle>) {
        self.bundles.lock().unwrap_or_else(PoisonError::into_inner).push(bundle);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What is in force under that directory now.
    pub(crate) fn policies(&self, directory: &Directory, now_ms: u64) -> Result<Arc<Policies>, Problem> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let roster = directory.shared_roster();
        let holds = |known: &&Arc<Policies>| {
            Arc::ptr_eq(known.roster(), &roster) && known.next_change_ms().is_none_or(|next| now_ms < next)
        };
        if let Some(known) = current.as_ref().filter(holds) {
            return Ok(Arc::clone(known));
        }
        let bundles = self.bundles.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let policies = Arc::new(Policies::new(roster, bundles, now_ms)?);
        *current = Some(Arc::clone(&policies));
        Ok(policies)
    }
}
