//! The percentile log of HdrHistogram (`.hgrm`), as its plotters read it.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Steps in each halving of the distance to 100 %, as the original writes it.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
/// Nanoseconds in the log's unit, the microsecond.
const UNIT: f64 = 1_000.0;

/// The log of a histogram of nanoseconds, in microseconds.
pub(crate) fn render(histogram: &Histogram<u64>) -> String {
    let mut log = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut write = |line: std::fmt::Arguments<'_>| {
        log.write_fmt(line).expect("a String takes everything");
    };
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / UNIT;
        let quantile = step.quantile_iterated_to();
        if quantile < 1.0 {
            let distance = 1.0 / (1.0 - quantile);
            write(format_args!("{value:12.3} {quantile:1.12} {count:10} {distance:14.2}\n"));
        } else {
            write(format_args!("{value:12.3} {quantile:1.12} {count:10}\n"));
        }
    }
    let (mean, deviation) = (histogram.mean() / UNIT, histogram.stdev() / UNIT);
    let (max, total) = (histogram.max() as f64 / UNIT, histogram.len());
    let sub_buckets = 2 * 10_u32.pow(u32::from(histogram.sigfig()));
    write(format_args!("#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n"));
    write(format_args!("#[Max     = {max:12.3}, Total count    = {total:12}]\n"));
    write(format_args!(
        "#[Buckets = {:12}, SubBuckets     = {:12}]\n",
        histogram.buckets(),
        sub_buckets.next_power_of_two()
    ));
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_climbs_to_the_last_value_and_ends_with_its_summary() {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        for value in 1..=1_000_u64 {
            histogram.record(value * 1_000).unwrap();
        }
        let log = render(&histogram);
        let rows: Vec<Vec<f64>> = log
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(rows.is_sorted_by(|one, next| one[0] <= next[0] && one[1] <= next[1]));
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), (1.0, 1_000.0));
        assert!((last[0] - 1_000.0).abs() < 1.0);
        assert!(log.contains("Total count    =         1000]"), "{log}");
        assert!(log.contains("SubBuckets     =         2048]"), "{log}");
    }

    #[test]
    fn an_empty_histogram_has_a_log_too() {
        let histogram = Histogram::new_with_bounds(1, 1_000, 3).unwrap();
        assert!(render(&histogram).contains("Total count    =            0]"));
    }
}
