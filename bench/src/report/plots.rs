//! Draws panels as SVG. What is drawn is decided in [`super::charts`].

use std::path::Path;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;

const PANEL: (u32, u32) = (520, 330);
const FONT: &str = "sans-serif";
/// Room for the legend above the lines.
const LEGEND: f64 = 0.25;
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(228, 228, 228);
/// Told apart also by those who do not see red and green.
const COLOURS: [RGBColor; 2] = [RGBColor(213, 94, 0), RGBColor(0, 114, 178)];

/// One coordinate system.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Panel {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Axis {
    pub title: String,
    pub logarithmic: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// While something happened, as x from and to.
    pub band: Option<(f64, f64)>,
    pub dots: bool,
}

impl Axis {
    /// Where on the axis a number is.
    fn place(&self, number: f64) -> f64 {
        if self.logarithmic {
            number.max(1e-9).log10()
        } else {
            number
        }
    }

    /// What all numbers fit in, with some room above them: a part of the whole, or of a decade.
    fn range(&self, numbers: impl Iterator<Item = f64>, room: f64) -> std::ops::Range<f64> {
        let places: Vec<f64> = numbers.map(|number| self.place(number)).collect();
        let low = places.iter().copied().fold(f64::INFINITY, f64::min);
        let high = places.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !low.is_finite() {
            return 0.0..1.0;
        }
        if self.logarithmic {
            // Whole decades, so that each axis has at least two labels.
            let (low, high) = ((low + 1e-9).floor(), (high + room - 1e-9).ceil());
            low..high.max(low + 1.0)
        } else {
            0.0..(high * (1.05 + room)).max(1e-9)
        }
    }

    fn label(&self, place: f64) -> String {
        if !self.logarithmic {
            return short(place);
        }
        // Only decades are labelled.
        let decade = place.round();
        if (place - decade).abs() > 1e-6 {
            return String::new();
        }
        short(10_f64.powf(decade))
    }
}

/// 12k rather than 12000.
fn short(number: f64) -> String {
    let with = |number: f64, unit: &str| {
        let text = format!("{number:.2}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        format!("{text}{unit}")
    };
    match number.abs() {
        size if size >= 999_999.5 => with(number / 1e6, "M"),
        size if size >= 999.5 => with(number / 1e3, "k"),
        _ => with(number, ""),
    }
}

/// Draws panels, two in a row.
pub fn draw(path: &Path, title: &str, panels: &[Panel]) -> anyhow::Result<()> {
    let columns = panels.len().min(2);
    let rows = panels.len().div_ceil(2);
    let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32 + 44);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let below = root
        .titled(title, (FONT, 20).into_font().color(&INK))
        .map_err(failed)?;
    for (panel, area) in panels.iter().zip(below.split_evenly((rows, columns))) {
        draw_panel(panel, &area)?;
    }
    root.present().map_err(failed)
}

fn draw_panel(panel: &Panel, area: &DrawingArea<SVGBackend<'_>, Shift>) -> anyhow::Result<()> {
    let points = || panel.lines.iter().flat_map(|line| line.points.iter());
    let x = panel.x.range(points().map(|point| point.0), 0.0);
    let y = panel.y.range(points().map(|point| point.1), LEGEND);
    let decades = |axis: &Axis, range: &std::ops::Range<f64>| {
        if axis.logarithmic {
            (range.end - range.start) as usize + 1
        } else {
            6
        }
    };
    let (x_labels, y_labels) = (decades(&panel.x, &x), decades(&panel.y, &y));
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 15).into_font().color(&INK))
        .margin(10)
        .margin_right(22)
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(x, y.clone())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc(&panel.x.title)
        .y_desc(&panel.y.title)
        .x_labels(x_labels)
        .y_labels(y_labels)
        .x_label_formatter(&|place| panel.x.label(*place))
        .y_label_formatter(&|place| panel.y.label(*place))
        .label_style((FONT, 12).into_font().color(&INK))
        .axis_desc_style((FONT, 13).into_font().color(&INK))
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(failed)?;
    for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        if let Some((from, to)) = line.band {
            let corners = [(panel.x.place(from), y.start), (panel.x.place(to), y.end)];
            let band = Rectangle::new(corners, colour.mix(0.15).filled());
            chart.draw_series([band]).map_err(failed)?;
        }
    }
    for (line, colour) in panel.lines.iter().zip(COLOURS) {
        let points = line
            .points
            .iter()
            .map(|(x, y)| (panel.x.place(*x), panel.y.place(*y)));
        let points: Vec<(f64, f64)> = points.collect();
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))
            .map_err(failed)?
            .label(line.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
        if line.dots {
            let dots = points
                .into_iter()
                .map(|point| Circle::new(point, 3, colour.filled()));
            chart.draw_series(dots).map_err(failed)?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FONT, 13).into_font().color(&INK))
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .draw()
        .map_err(failed)?;
    Ok(())
}

/// The library's errors hold what cannot be sent on.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let texts: Vec<String> = [0.25, 12.0, 1500.0, 20_000.0, 1e6, 1e7]
            .into_iter()
            .map(short)
            .collect();
        assert_eq!(texts, ["0.25", "12", "1.5k", "20k", "1M", "10M"]);
    }

    #[test]
    fn a_logarithmic_axis_begins_and_ends_at_a_decade() {
        let axis = Axis {
            logarithmic: true,
            ..Axis::default()
        };
        assert_eq!(axis.range([3.0, 450.0].into_iter(), 0.0), 0.0..3.0);
        assert_eq!(axis.range([1.0, 1000.0].into_iter(), 0.0), 0.0..3.0);
        assert_eq!(
            (axis.label(2.0), axis.label(1.5)),
            ("100".to_owned(), String::new())
        );
    }

    #[test]
    fn a_drawing_names_its_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        let line = |name: &str| Line {
            name: name.to_owned(),
            points: vec![(1.0, 2.0), (10.0, 3.0)],
            band: Some((2.0, 3.0)),
            dots: true,
        };
        let panel = Panel {
            title: "a panel".to_owned(),
            lines: vec![line("etcd"), line("kvd")],
            ..Panel::default()
        };
        draw(&path, "a title", &[panel.clone(), panel]).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        for word in ["a title", "a panel", "etcd", "kvd"] {
            assert!(text.contains(word), "{word}");
        }
    }
}
