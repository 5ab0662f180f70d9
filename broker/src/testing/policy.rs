//! Policy bundles of the test region.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use lintas_config::{
    Directory,
    policy::{Bundle, Policies, bundle::sign, schema_hash},
};
use lintas_proto::{
    canonical,
    schema::{NodeSecrets, PolicyBundle},
};

use super::{World, put};
use crate::core::rules::Rules;

/// Releases and accepts everything.
pub(crate) const OPEN: &str = r#"
@id("release") @reason("everything is released")
permit (principal, action == Lintas::Action::"Release", resource);
@id("accept") @reason("everything is accepted")
permit (principal, action == Lintas::Action::"Accept", resource);
"#;

pub(super) type Bundles = BTreeMap<String, Vec<Arc<Bundle>>>;

/// The first bundle of an agency.
pub(super) fn first(secrets: &NodeSecrets) -> Arc<Bundle> {
    next(secrets, None, OPEN, 0)
}

fn next(secrets: &NodeSecrets, before: Option<&Bundle>, policies: &str, not_before_ms: u64) -> Arc<Bundle> {
    let said = PolicyBundle {
        format: 1,
        region: secrets.region.clone(),
        owner: secrets.agency.clone(),
        version: before.map_or(1, |before| before.version() + 1),
        prev_hash: before.map(|before| Bytes::copy_from_slice(before.hash())).unwrap_or_default(),
        not_before_ms,
        schema_hash: Bytes::copy_from_slice(&schema_hash()),
        policies: policies.to_owned(),
        ..PolicyBundle::default()
    };
    let signed = sign(secrets, &said).unwrap();
    let hash = lintas_proto::id::sha256(&[&signed.bundle]);
    Bundle::kept(&canonical::encode(&signed), &hash).unwrap()
}

/// The rules at `now_ms`.
pub(super) fn rules(directory: &Directory, bundles: &Bundles, now_ms: u64) -> Rules {
    let all = bundles.values().flatten().cloned();
    let policies = Policies::new(directory.shared_roster(), all, now_ms).unwrap();
    Rules::new(Arc::new(directory.clone()), Arc::new(policies))
}

impl World {
    /// Another bundle of an agency, in force at once.
    pub(crate) fn set_policy(&mut self, agency: &str, policies: &str) {
        let known = self.bundles.entry(agency.to_owned()).or_default();
        let bundle = next(&self.secrets[agency], known.last().map(Arc::as_ref), policies, 0);
        known.push(bundle);
        self.rules = rules(&self.directory, &self.bundles, self.now_ms);
    }

    /// An agency has not published any bundle.
    pub(crate) fn without_policy(&mut self, agency: &str) {
        self.bundles.remove(agency);
        self.rules = rules(&self.directory, &self.bundles, self.now_ms);
    }

    /// Writes all bundles into a broker's data folder, as it keeps them.
    pub(crate) fn write_policies(&self, folder: &Path) {
        for (agency, bundles) in &self.bundles {
            let folder = folder.join("policies").join(agency);
            std::fs::create_dir_all(&folder).unwrap();
            for bundle in bundles {
                put(&folder.join(format!("{}.bin", bundle.version())), bundle.bytes());
            }
        }
    }
}
