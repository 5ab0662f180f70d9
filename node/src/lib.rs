//! An agency's node: composes, seals, sends, receives, opens.
