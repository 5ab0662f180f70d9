//! The one way Lintas speaks QUIC: raw public keys, post-quantum key exchange, framed streams.
