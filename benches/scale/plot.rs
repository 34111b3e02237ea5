//! The rates as a picture: a bar for each number of resources, by how often it reaches its gate.

use std::fmt::Write;

use super::figures::{Figures, thousands};

const HEIGHT: f64 = 260.0;
const TOP: f64 = 50.0;
const LEFT: f64 = 50.0;
const GROUP: f64 = 136.0;
const COLOURS: [&str; 4] = ["#9ec5e8", "#2f6fa8", "#173a5e", "#888888"];

/// An SVG.
pub fn svg(runs: &[Figures]) -> String {
    let Some(first) = runs.first() else { return String::new() };
    let rates: Vec<Vec<_>> = runs.iter().map(|run| run.rates().collect()).collect();
    let reached = |rate: f64, least: Option<f64>| rate / least.unwrap_or(1.0);
    let all = rates.iter().flatten().map(|(gate, rate)| reached(*rate, gate.least));
    let highest = all.fold(1.0, f64::max) * 1.1;
    let y = |reached: f64| TOP + HEIGHT * (1.0 - reached / highest);
    let width = LEFT + GROUP * rates[0].len() as f64 + 70.0;
    let bar = (GROUP - 24.0) / runs.len() as f64;
    let out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        TOP + HEIGHT + 60.0
    );
    let text = |x: f64, y: f64, anchor: &str, text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
    };
    let mut marks = String::new();
    for (number, run) in runs.iter().enumerate() {
        let (x, colour) = (LEFT + 160.0 * number as f64, COLOURS[number % COLOURS.len()]);
        let _ = writeln!(marks, "<rect x=\"{x}\" y=\"12\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        marks += &text(x + 18.0, 22.0, "start", &format!("{} resources", thousands(run.count)));
    }
    for (place, (gate, _)) in first.rates().enumerate() {
        let middle = LEFT + GROUP * (place as f64 + 0.5);
        for (number, rates) in rates.iter().enumerate() {
            let Some((_, rate)) = rates.get(place) else { continue };
            let (top, x) = (y(reached(*rate, gate.least)), middle - GROUP / 2.0 + 12.0 + bar * number as f64);
            let colour = COLOURS[number % COLOURS.len()];
            let _ = writeln!(
                marks,
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                bar - 4.0,
                TOP + HEIGHT - top
            );
            marks += &text(x + (bar - 4.0) / 2.0, top - 4.0, "middle", &format!("{rate:.2}"));
        }
        let (operation, _) = gate.what.split_once(", beside").unwrap_or((gate.what, ""));
        let (one, two) = operation.split_once(", ").unwrap_or((operation, ""));
        let below = TOP + HEIGHT;
        let least = gate.least.unwrap_or(1.0);
        marks += &text(middle, below + 16.0, "middle", &format!("{} ≥ {least}", gate.name));
        marks += &text(middle, below + 32.0, "middle", one);
        marks += &text(middle, below + 47.0, "middle", two);
    }
    let (line, end) = (y(1.0), width - 60.0);
    let _ = writeln!(marks, "<path d=\"M{LEFT} {line:.1}H{end}\" stroke=\"#c0392b\" stroke-dasharray=\"6 4\"/>");
    marks += &text(end + 6.0, line + 4.0, "start", "gate");
    let _ = writeln!(marks, "<path d=\"M{LEFT} {:.1}H{end}\" stroke=\"#333\"/>", TOP + HEIGHT);
    out + &marks + "</svg>\n"
}
