//! Bytes to packet and back: the terminator, the head, the split, bundles and control bodies.
