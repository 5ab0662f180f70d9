//! Bytes <-> values and proofs: the Lintas packet envelope, evidence, receipts, frames.
