//! The region authority's work: from the readable sources of a region and the requests of its members to a roster,
//! and from one roster to the next. The commands, the demo and the tests call the same functions.
//!
//! What the authority attests (names, roles, groups, units, functions, purposes, clearances) comes from its sources, which
//! people review, and so do the regional baseline policy and the schemes of classification; from a request come the identity key and, of a witness, the witness key only. A request may ask for fewer units and functions than
//! the source attests, never for more.
//!
//! | module | what |
//! |---|---|
//! | `found` | sources and requests make the first roster |
//! | `change` | a directory and what shall change make the next one |
//! | `logs` | what a change says of the audit logs: who watches and reads them, which one has ended |
//! | `office` | an office's public key as a file; what it signed last |
//! | `proposal` | a roster on its way from office to office, until k of n have signed it |
//! | `review` | what a proposal changes, in words |
//! | `rules`, `units` | the same of the baseline policy, of markings, of units |
//! | `inspect` | what a directory says |
//! | `names` | statuses, roles, functions and purposes by their names |
//! | `history` | all directories of a region, one after the other |
//!
//! ```
//! use bytes::Bytes;
//! use lintas_config::{Bootstrap, Directory, authority, issue, os_entropy, source};
//! use lintas_proto::sign::{KeyRole, SigningKey, VerifyingKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (now_ms, mut entropy, region) = (1_790_000_000_000, os_entropy(), source::mekong()?);
//! // Each member, on its own machine:
//! let mut requests = Vec::new();
//! for member in &region.members {
//!     let asks = member.member(Bytes::new());
//!     let (_identity, _secrets, request) = issue::new_agency(&region.region, asks, now_ms, &mut entropy)?;
//!     requests.push(request);
//! }
//! // The operator of the broker:
//! let (_secrets, broker) = issue::new_broker("hub.mekong", &mut entropy)?;
//! // The three offices of the authority, two of which sign:
//! let mut offices = Vec::new();
//! for _ in &region.authorities {
//!     offices.push(SigningKey::from_seed(KeyRole::Authority, &issue::fresh_seed(&mut entropy))?);
//! }
//! let keys: Result<Vec<_>, _> = offices.iter().map(|key| VerifyingKey::parse(&key.public_key())).collect();
//! let keys = keys?;
//! let (roster, keysets) = authority::found(&region, &requests, &[broker], &keys, now_ms)?;
//! let file = issue::bundle(&issue::sign_roster(&roster, &offices[..2])?, keysets);
//! // Everybody:
//! let bootstrap = Bootstrap { region: region.region, authority_keys: keys, threshold: 2 };
//! assert!(Directory::open(&file, &bootstrap)?.at(now_ms).in_force());
//! # Ok(())
//! # }
//! ```

mod change;
mod found;
mod history;
mod inspect;
mod logs;
mod names;
mod office;
mod proposal;
mod review;
mod rules;
mod units;

pub use self::{
    change::{ChangeError, Changes, change},
    found::{FoundError, admit, found, next_roster, set_status},
    history::{Published, Walk},
    inspect::{BrokerView, EncryptionView, Inspection, KeysetView, LogView, MemberView, UnitView, inspect},
    logs::{LogEnd, quorum_words},
    office::{MarkProblem, Office, SignedMark},
    proposal::{MergeError, Proposal},
    review::{Change, KeyView, Need, Review, SignatureView, review},
    rules::{EquivalentView, PolicyView, SchemeView},
};

#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod tests;
