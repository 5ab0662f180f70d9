//! This agency's keyset: what of it the region does not know yet.

use bytes::Bytes;

use super::Desk;

impl Desk {
    /// Canonical bytes of the `SignedKeyset` that a broker should take into its directory; none if the directory in
    /// force has it.
    #[allow(
        clippy::unused_self,
        dead_code,
        clippy::unnecessary_wraps,
        reason = "filled in by the next commit"
    )]
    pub(crate) fn unpublished_keyset(&self) -> Option<Bytes> {
        None
    }
}
