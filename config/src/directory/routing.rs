//! What a broker makes of identity keys that nobody vouches for.

use lintas_proto::schema::Member;

use super::{Directory, SuccessionError, chain};

impl Directory {
    /// This directory with every identity key that the roster names: for a broker, which routes by the word of k
    /// authorities, and for a newcomer, who has seen nobody before. Whether an agency is believed elsewhere is for the
    /// officers there to say; see [`confirm`](Self::confirm).
    ///
    /// # Errors
    /// [`SuccessionError`]; does not happen for a directory that was verified.
    pub fn by_roster_alone(self) -> Result<Self, SuccessionError> {
        if self.held.is_empty() {
            return Ok(self);
        }
        let mut mark = self.mark.clone();
        let is_held = |member: &&Member| self.held.iter().any(|held| held.agency == member.agency);
        for member in self.roster.members.iter().filter(is_held) {
            mark.agencies.insert(member.agency.clone(), chain::first(member));
        }
        Self::follow(&self.bytes, &[], &mark, Some(&self.roster), &self.keys)
    }
}
