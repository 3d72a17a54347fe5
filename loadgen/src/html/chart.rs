//! Plots as SVG, drawn by `plotters` without fonts of the system: the browser has them.

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (880, 300);

/// Up to so many points a line shows each of them.
const SHOWN_POINTS: usize = 40;

const GRID: RGBColor = RGBColor(228, 231, 235);
const TEXT: RGBColor = RGBColor(82, 96, 109);

/// Told apart also by people who do not see colours (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is, for the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// Figures that were taken one after the other, numbered from 1.
    #[must_use]
    pub fn numbered(name: impl Into<String>, figures: &[f64]) -> Series {
        Series {
            name: name.into(),
            points: (1_u32..)
                .map(f64::from)
                .zip(figures.iter().copied())
                .collect(),
        }
    }

    /// The same figure from one end to the other.
    #[must_use]
    pub fn level(name: impl Into<String>, until: f64, figure: f64) -> Series {
        Series {
            name: name.into(),
            points: vec![(0.0, figure), (until, figure)],
        }
    }
}

/// What is plotted.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What lies along the bottom.
    pub x: &'static str,
    /// What lies along the side.
    pub y: &'static str,
    /// Whether ten times as much is as far everywhere.
    pub logarithmic: bool,
    /// Names for the places 1, 2, 3 … along the bottom, instead of numbers.
    pub places: Vec<String>,
    /// The lines.
    pub series: Vec<Series>,
}

impl Chart {
    /// The plot.
    pub fn svg(&self) -> anyhow::Result<String> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            let (least, most) = self.span();
            // A little room above, so that a line does not run along the edge.
            if self.logarithmic {
                let range = (least / 1.3)..(most * 1.3);
                let ticks = ticks(range.start, range.end);
                self.draw(&area, range.log_scale().with_key_points(ticks))?;
            } else {
                self.draw(&area, 0.0..most * 1.08)?;
            }
            area.present()
                .map_err(|error| anyhow!("drawing a plot: {error}"))?;
        }
        Ok(svg)
    }

    /// The colour of a line, as CSS writes it.
    #[must_use]
    pub fn css_colour(place: usize) -> String {
        let RGBColor(red, green, blue) = colour(place);
        format!("rgb({red},{green},{blue})")
    }

    fn draw<Y>(&self, area: &DrawingArea<SVGBackend<'_>, Shift>, range: Y) -> anyhow::Result<()>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let fault = |error: &dyn std::fmt::Display| anyhow!("drawing a plot: {error}");
        let places = || {
            let points = self.series.iter().flat_map(|series| &series.points);
            points.map(|(x, _)| *x)
        };
        let left = places().fold(f64::INFINITY, f64::min);
        let right = places().fold(f64::NEG_INFINITY, f64::max);
        // One place, or none, makes no axis.
        let across = if left < right {
            left..right
        } else {
            0.0..right.max(1.0)
        };
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(24)
            .x_label_area_size(44)
            .y_label_area_size(74)
            .build_cartesian_2d(across, range)
            .map_err(|error| fault(&error))?;
        let x_label = |x: &f64| self.x_label(*x);
        let mut mesh = chart.configure_mesh();
        mesh.disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(("sans-serif", 13, &TEXT))
            .axis_desc_style(("sans-serif", 13, &TEXT))
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&x_label)
            .y_label_formatter(&|y| number(*y))
            .y_labels(6);
        if !self.places.is_empty() {
            mesh.x_labels(self.places.len());
        }
        mesh.draw().map_err(|error| fault(&error))?;
        for (place, series) in self.series.iter().enumerate() {
            let colour = colour(place);
            let points = series.points.iter().copied();
            // Nothing is infinitely far down on a logarithmic axis.
            let points = points.filter(|(_, y)| !self.logarithmic || *y > 0.0);
            let line = LineSeries::new(points.clone(), colour.stroke_width(2));
            chart.draw_series(line).map_err(|error| fault(&error))?;
            if series.points.len() <= SHOWN_POINTS {
                let dots = points.map(|point| Circle::new(point, 3, colour.filled()));
                chart.draw_series(dots).map_err(|error| fault(&error))?;
            }
        }
        Ok(())
    }

    /// The least and the largest figure above zero; something to draw an axis by if there is none.
    fn span(&self) -> (f64, f64) {
        let values = || {
            let points = self.series.iter().flat_map(|series| &series.points);
            points.map(|(_, y)| *y).filter(|y| *y > 0.0)
        };
        let least = values().fold(f64::INFINITY, f64::min);
        if least.is_finite() {
            (least, values().fold(least, f64::max))
        } else {
            (1.0, 1.0)
        }
    }

    fn x_label(&self, x: f64) -> String {
        if self.places.is_empty() {
            return number(x);
        }
        // Labels stand on whole numbers, or close by.
        let place = x.round();
        if (x - place).abs() > 1e-6 || place < 1.0 {
            return String::new();
        }
        self.places
            .get(place as usize - 1)
            .cloned()
            .unwrap_or_default()
    }
}

/// Where a logarithmic axis is marked: at 1, 2 and 5 of each power of ten, or at the powers alone
/// where there are many.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let (first, last) = (least.log10().floor(), most.log10().ceil());
    let steps: &[f64] = if last - first <= 3.0 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    // Powers of ten that a measurement has: a few dozen at most.
    let powers = (0..=(last - first) as u32).map(|nth| 10_f64.powf(first + f64::from(nth)));
    powers
        .flat_map(|power| steps.iter().map(move |step| power * step))
        .filter(|tick| (least..=most).contains(tick))
        .collect()
}

fn colour(place: usize) -> RGBColor {
    COLOURS[place % COLOURS.len()]
}

/// A figure with as many digits as say something.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        format!("{:.2} M", value / 1e6)
    } else if size >= 1e4 {
        // Below a million: a thousand thousands at most.
        let whole = value.round() as i64;
        format!("{},{:03}", whole / 1_000, (whole % 1_000).abs())
    } else if size >= 100.0 || (value - value.round()).abs() < 1e-9 {
        format!("{value:.0}")
    } else if size >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(logarithmic: bool, series: Vec<Series>) -> Chart {
        Chart {
            x: "seconds",
            y: "µs",
            logarithmic,
            places: Vec::new(),
            series,
        }
    }

    #[test]
    fn every_line_is_drawn_in_its_colour_with_both_axes_named() {
        let series = vec![
            Series::numbered("load", &[100.0, 900.0, 400.0]),
            Series::numbered("device", &[50.0, 60.0, 70.0]),
        ];
        for logarithmic in [false, true] {
            let svg = chart(logarithmic, series.clone()).svg().unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(svg.contains("seconds") && svg.contains("µs"));
            assert!(svg.matches("<polyline").count() >= 2, "a line is missing");
            for colour in ["#0072B2", "#D55E00"] {
                assert!(svg.contains(colour), "{colour} is missing");
            }
        }
    }

    #[test]
    fn nothing_and_a_single_point_can_be_drawn() {
        for figures in [&[][..], &[5.0], &[0.0, 0.0]] {
            for logarithmic in [false, true] {
                let series = vec![Series::numbered("load", figures)];
                assert!(chart(logarithmic, series).svg().is_ok(), "{figures:?}");
            }
        }
    }

    #[test]
    fn figures_have_the_digits_that_say_something() {
        let texts = [15_800_000.0, 845_697.4, 474.3, 12.34, 0.41234, 7.0].map(number);
        assert_eq!(texts, ["15.80 M", "845,697", "474", "12.3", "0.412", "7"]);
    }

    #[test]
    fn a_logarithmic_axis_is_marked_at_round_figures_within_it() {
        assert_eq!(ticks(70.0, 1_300.0), [100.0, 200.0, 500.0, 1_000.0]);
        let wide = ticks(5.0, 2e6);
        assert_eq!(wide.len(), 6);
        assert!(wide.iter().all(|tick| (5.0..=2e6).contains(tick)));
    }
}
