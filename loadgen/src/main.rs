//! Drives raet nodes on a schedule and reports throughput and latency that can be trusted.

mod check;
mod cli;
mod control;
mod environment;
mod hgrm;
mod latency;
mod lines;
mod parse;
mod payload;
mod plan;
mod plot;
mod progress;
mod promise;
mod report;

fn main() {}
