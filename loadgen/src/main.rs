//! Drives raet nodes on a schedule and reports throughput and latency that can be trusted.

fn main() {}
