//! The packet plane: packet numbers, acknowledgements, round-trip time, loss, congestion.
