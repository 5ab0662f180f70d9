//! Single events, read from the files.
