//! Keys, ciphers, hashes and seeded randomness, behind our own small types.
