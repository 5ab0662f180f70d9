//! What a region is: who is a member, with which keys ([`directory`]); how keys are made ([`issue`]); and what
//! the operator of a broker or a node may set ([`settings`]).

pub mod directory;
pub mod issue;
pub mod settings;
#[cfg(test)]
mod testing;

pub use directory::{Bootstrap, Directory, DirectoryError, HighWater, SuccessionError};

/// Randomness of the operating system, for everything in Lintas that takes entropy as an argument.
///
/// It panics if the operating system has none: there is nothing safe left to do.
#[must_use]
pub fn os_entropy() -> impl rand_core::CryptoRng {
    rand_core::UnwrapErr(getrandom::SysRng)
}
