//! A plot: a panel a workload, a bar a peer from zero to its median, a line from its smallest to
//! its largest figure.

use std::fmt::Write;

use crate::report::{Row, main_figure, median};
use crate::workload::Workload;

const WIDTH: f64 = 860.0;
const NAME_WIDTH: f64 = 150.0;
const FIGURE_WIDTH: f64 = 90.0;
const BAR_HEIGHT: f64 = 18.0;
const TITLE_HEIGHT: f64 = 40.0;

/// The plot as SVG.
pub(crate) fn plot(tables: &[(Workload, Vec<Row<'_>>)]) -> String {
    let mut body = String::new();
    let mut top = 0.0;
    for (workload, rows) in tables {
        top = panel(&mut body, top, *workload, rows);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Draws one workload below `top`; says where it ends.
fn panel(body: &mut String, mut top: f64, workload: Workload, rows: &[Row<'_>]) -> f64 {
    let (figure, title, is_less_better) = main_figure(workload);
    let sign = if is_less_better { "less" } else { "more" };
    let bars: Vec<_> =
        rows.iter().filter_map(|row| Some((row.entry, median(row.values(figure))?))).collect();
    let largest = bars.iter().map(|(_, (.., last))| *last).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - NAME_WIDTH - FIGURE_WIDTH) / largest;
    let baseline = top + TITLE_HEIGHT - 12.0;
    let write = &mut |line: String| writeln!(body, "{line}").expect("text takes what it gets");
    write(format!(
        "<text x=\"8\" y=\"{baseline}\" font-weight=\"bold\">{workload}: {title} ({sign} is better)</text>"
    ));
    top += TITLE_HEIGHT;
    for (entry, (median, first, last)) in bars {
        let colour = match (entry.name.starts_with("raet"), entry.is_encrypted) {
            (true, _) => "#d95f02",
            (false, true) => "#7570b3",
            (false, false) => "#aaaaaa",
        };
        let (middle, text) = (top + BAR_HEIGHT / 2.0, top + BAR_HEIGHT - 5.0);
        let [width, low, high] = [median, first, last].map(|value| value * scale);
        let bar = BAR_HEIGHT - 4.0;
        write(format!("<text x=\"8\" y=\"{text}\">{}</text>", entry.name));
        write(format!(
            "<rect x=\"{NAME_WIDTH}\" y=\"{}\" width=\"{width:.1}\" height=\"{bar}\" fill=\"{colour}\"/>",
            top + 2.0
        ));
        write(format!(
            "<line x1=\"{:.1}\" y1=\"{middle}\" x2=\"{:.1}\" y2=\"{middle}\" stroke=\"black\"/>",
            NAME_WIDTH + low,
            NAME_WIDTH + high
        ));
        write(format!(
            "<text x=\"{:.1}\" y=\"{text}\">{}</text>",
            NAME_WIDTH + high + 6.0,
            short(median)
        ));
        top += BAR_HEIGHT;
    }
    top
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value * 1e-6),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}
