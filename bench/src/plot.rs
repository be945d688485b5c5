//! Ratios as a picture: an SVG written by hand.

use std::fmt::Write as _;

use crate::runs::Spread;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 330.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 84.0;
const ROW: f64 = 34.0;

/// A bar.
#[derive(Clone, PartialEq, Debug)]
pub struct Bar {
    /// What it is of.
    pub name: String,
    /// How long, and how uncertain.
    pub ratio: Spread,
}

/// Bars from zero to beyond one, each with its median and a line from the smallest to the largest.
pub fn bars(title: &str, subtitle: &str, bars: &[Bar]) -> String {
    let height = TOP + ROW * bars.len() as f64 + 40.0;
    let most = bars.iter().map(|bar| bar.ratio.most).fold(1.0, f64::max) * 1.05;
    let place = |ratio: f64| LEFT + (WIDTH - LEFT - RIGHT) * (ratio / most).clamp(0.0, 1.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, (24.0, 34.0), "start", 20, title);
    text(&mut svg, (24.0, 58.0), "start", 12, subtitle);
    for (index, Bar { name, ratio }) in bars.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        let (middle, end) = (y + ROW / 2.0 - 4.0, place(ratio.median));
        text(&mut svg, (LEFT - 10.0, middle + 4.0), "end", 13, name);
        line(
            &mut svg,
            format_args!(
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#8fbce6\"/>",
                end - LEFT,
                ROW - 8.0
            ),
        );
        let (x1, x2) = (place(ratio.least), place(ratio.most));
        line(
            &mut svg,
            format_args!(
                "<line x1=\"{x1:.1}\" x2=\"{x2:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" \
                 stroke=\"#0b4f8a\" stroke-width=\"2\"/>"
            ),
        );
        let at = (WIDTH - RIGHT + 8.0, middle + 4.0);
        text(&mut svg, at, "start", 13, &ratio.to_string());
    }
    let (one, bottom) = (place(1.0), height - 36.0);
    line(
        &mut svg,
        format_args!(
            "<line x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\" stroke=\"#57606a\" \
             stroke-dasharray=\"4 3\"/>"
        ),
    );
    text(&mut svg, (one, height - 18.0), "middle", 13, "1");
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, size: u32, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    line(
        svg,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{text}</text>"
        ),
    );
}

fn line(svg: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(svg, "{arguments}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_drawn_inside_the_picture_with_its_name() {
        let bar = |name: &str, ratio| Bar { name: name.to_owned(), ratio: Spread::of(ratio) };
        let all = [bar("a < b", [0.5, 0.6, 0.7]), bar("beyond", [1.5, 1.6, 3.0])];
        let svg = bars("title", "subtitle", &all);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt; b") && svg.contains("beyond") && !svg.contains("NaN"));
        let widths = svg.split("width=\"").skip(1).filter_map(|rest| rest.split('"').next());
        assert!(widths.filter_map(|width| width.parse::<f64>().ok()).all(|width| width <= WIDTH));
    }
}
