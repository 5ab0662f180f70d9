//! The region authority on disk: an office's folder, and the files that are carried between offices.

pub(crate) mod files;
pub(crate) mod office;
