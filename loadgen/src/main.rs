//! Drives raet nodes on a schedule and reports throughput and latency that can be trusted.

mod check;
mod cli;
mod latency;
mod lines;
mod parse;
mod payload;
mod plan;

fn main() {}
