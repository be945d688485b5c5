//! The latency percentiles as a picture: an SVG written by hand, so that it needs nothing else.
//!
//! The horizontal axis gives every nine the same room (50 %, 90 %, 99 %, …): what matters about
//! latency happens in the last percent, and a linear axis would hide it in one pixel. The
//! vertical axis is logarithmic when the values span more than a decade and a half.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::table::short_time;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 540.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 58.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 72.0;
/// Points of the curve for each nine.
const TICKS_PER_HALF_DISTANCE: u32 = 20;
/// Nines beyond which the curve is cut off at its end: ten million messages tell seven apart.
const NINES_MAX: f64 = 7.0;
/// Nines up to which there is room for a label at 0 % beside that at 50 %.
const NINES_ROOMY: f64 = 5.0;
/// Ratio of largest to smallest value from which the vertical axis is logarithmic.
const LOGARITHMIC_FROM: f64 = 30.0;

/// The picture of a histogram of nanoseconds.
pub(crate) fn render(histogram: &Histogram<u64>, title: &str, subtitle: &str) -> String {
    let mut svg = Svg::new(title, subtitle);
    if histogram.is_empty() {
        svg.text(WIDTH / 2.0, HEIGHT / 2.0, "middle", "label", "no latency was measured");
        return svg.finish();
    }
    let across = Across::new(histogram.len());
    let upward = Upward::new(histogram);
    for (quantile, label) in across.ticks() {
        let x = across.place(quantile);
        svg.line(x, TOP, x, HEIGHT - BOTTOM, "grid");
        svg.text(x, HEIGHT - BOTTOM + 22.0, "middle", "label", &label);
    }
    for value in upward.ticks() {
        let y = upward.place(value);
        svg.line(LEFT, y, WIDTH - RIGHT, y, "grid");
        svg.text(LEFT - 10.0, y + 4.5, "end", "label", &axis_time(value));
    }
    svg.text(
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 20.0,
        "middle",
        "axis",
        "percentile of messages",
    );
    let points = histogram
        .iter_quantiles(TICKS_PER_HALF_DISTANCE)
        .map(|step| (step.quantile_iterated_to(), step.value_iterated_to().min(histogram.max())));
    svg.curve(points.map(|(quantile, value)| (across.place(quantile), upward.place(value as f64))));
    let marks = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999];
    for quantile in marks.into_iter().filter(|&quantile| across.shows(quantile)) {
        let value = histogram.value_at_quantile(quantile).min(histogram.max());
        svg.mark(across.place(quantile), upward.place(value as f64), &short_time(value));
    }
    let most = histogram.max();
    svg.mark(across.place(1.0), upward.place(most as f64), &format!("max {}", short_time(most)));
    svg.finish()
}

/// The horizontal axis.
struct Across {
    /// Nines to the right edge.
    nines: f64,
}

impl Across {
    /// As many nines as `count` values can tell apart, at least two.
    fn new(count: u64) -> Self {
        Self { nines: (count as f64).log10().ceil().clamp(2.0, NINES_MAX) }
    }

    fn place(&self, quantile: f64) -> f64 {
        let nines = if quantile >= 1.0 { self.nines } else { -(1.0 - quantile).log10() };
        LEFT + (WIDTH - LEFT - RIGHT) * nines.clamp(0.0, self.nines) / self.nines
    }

    fn shows(&self, quantile: f64) -> bool {
        -(1.0 - quantile).log10() < self.nines - 0.01
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let first = if self.nines <= NINES_ROOMY { "0 %" } else { "" };
        let mut ticks = vec![(0.0, first.to_owned()), (0.5, "50 %".to_owned())];
        let mut nine = 1;
        while f64::from(nine) <= self.nines {
            let quantile = 1.0 - 10_f64.powi(-nine);
            let label = match nine {
                1 => "90 %".to_owned(),
                2 => "99 %".to_owned(),
                _ => {
                    let decimals = usize::try_from(nine - 2).unwrap_or(0);
                    format!("{:.decimals$} %", quantile * 100.0)
                }
            };
            ticks.push((quantile, label));
            nine += 1;
        }
        ticks
    }
}

/// The vertical axis.
struct Upward {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Upward {
    fn new(histogram: &Histogram<u64>) -> Self {
        let low = (histogram.min().max(1)) as f64;
        let high = (histogram.max().max(1)) as f64;
        if high / low >= LOGARITHMIC_FROM {
            Self { low: step_below(low), high: step_above(high), logarithmic: true }
        } else {
            Self { low: 0.0, high: step_above(high * 1.05), logarithmic: false }
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            value / self.high
        };
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        if !self.logarithmic {
            return (0..=5).map(|part| self.high * f64::from(part) / 5.0).collect();
        }
        let all: Vec<_> = steps().filter(|step| (self.low..=self.high).contains(step)).collect();
        // Whole decades alone, when the steps between them would crowd.
        if all.len() <= 12 {
            return all;
        }
        all.into_iter().filter(|step| (step.log10() - step.log10().round()).abs() < 1e-9).collect()
    }
}

/// 1, 2, 5, 10, 20, … nanoseconds up to 10 000 s.
fn steps() -> impl Iterator<Item = f64> {
    (0..13).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
}

fn step_below(value: f64) -> f64 {
    steps().take_while(|&step| step <= value).last().unwrap_or(1.0)
}

fn step_above(value: f64) -> f64 {
    steps().find(|&step| step >= value).unwrap_or(value)
}

/// A time at an axis, without decimals that are zero.
fn axis_time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        1e9.. => (nanos / 1e9, "s"),
        1e6.. => (nanos / 1e6, "ms"),
        1e3.. => (nanos / 1e3, "us"),
        _ => (nanos, "ns"),
    };
    let text = format!("{value:.2}");
    format!("{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The document under construction.
struct Svg(String);

impl Svg {
    fn new(title: &str, subtitle: &str) -> Self {
        let mut svg = Self(String::new());
        svg.write(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\">\n<style>\
             .title{{font-size:20px;font-weight:bold;fill:#1b1f24}}\
             .sub{{font-size:13px;fill:#57606a}}\
             .label{{font-size:13px;fill:#57606a}}\
             .axis{{font-size:14px;fill:#1b1f24}}\
             .mark{{font-size:13px;fill:#0b4f8a}}\
             .grid{{stroke:#d8dee4;stroke-width:1}}\
             .curve{{fill:none;stroke:#0b6bcb;stroke-width:2.5;stroke-linejoin:round}}\
             .dot{{fill:#0b6bcb}}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        ));
        svg.text(LEFT, 34.0, "start", "title", title);
        svg.text(LEFT, 58.0, "start", "sub", subtitle);
        svg
    }

    fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, class: &str) {
        self.write(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n"
        ));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.write(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n"
        ));
    }

    fn curve(&mut self, points: impl Iterator<Item = (f64, f64)>) {
        self.write(format_args!("<polyline class=\"curve\" points=\""));
        for (x, y) in points {
            self.write(format_args!("{x:.1},{y:.1} "));
        }
        self.write(format_args!("\"/>\n"));
    }

    fn mark(&mut self, x: f64, y: f64, text: &str) {
        self.write(format_args!("<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>\n"));
        // Left of the point and above it: the curve only climbs to the right.
        let (at, anchor) = if x < LEFT + 90.0 { (x, "start") } else { (x - 8.0, "end") };
        self.text(at, (y - 9.0).max(TOP - 8.0), anchor, "mark", text);
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.0.write_fmt(arguments).expect("a String takes everything");
    }

    fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl Iterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000_000, 3).unwrap();
        values.for_each(|value| histogram.saturating_record(value));
        histogram
    }

    /// Coordinates of the curve.
    fn curve(svg: &str) -> Vec<(f64, f64)> {
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        points
            .split_whitespace()
            .map(|point| {
                let (x, y) = point.split_once(',').unwrap();
                (x.parse().unwrap(), y.parse().unwrap())
            })
            .collect()
    }

    #[test]
    fn the_curve_runs_right_and_up_inside_its_frame() {
        for values in [1_000..1_100_u64, 1..1_000_000] {
            let svg = render(&histogram(values), "title", "subtitle");
            let points = curve(&svg);
            assert!(points.len() > 2);
            assert!(points.is_sorted_by(|one, next| one.0 <= next.0 && one.1 >= next.1));
            for (x, y) in points {
                assert!((LEFT..=WIDTH - RIGHT).contains(&x), "{x}");
                assert!((TOP..=HEIGHT - BOTTOM).contains(&y), "{y}");
            }
        }
    }

    #[test]
    fn every_nine_has_the_same_room() {
        let across = Across::new(1_000_000);
        let room = across.place(0.99) - across.place(0.9);
        assert!((across.place(0.9999) - across.place(0.999) - room).abs() < 1e-6);
        let labels: Vec<_> = across.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(
            labels,
            ["", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"]
        );
    }

    #[test]
    fn degenerate_histograms_are_drawn_too() {
        for values in [vec![], vec![0], vec![5], vec![0, u64::MAX]] {
            let svg = render(&histogram(values.into_iter()), "a < b & c", "");
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
            assert!(svg.contains("a &lt; b &amp; c"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn axis_times_are_short() {
        assert_eq!(axis_time(500.0), "500 ns");
        assert_eq!(axis_time(20_000.0), "20 us");
        assert_eq!(axis_time(2.5e6), "2.5 ms");
        assert_eq!(axis_time(0.0), "0 ns");
    }
}
