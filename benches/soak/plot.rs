//! The plot: one panel above the other, all over the same time.

use crate::series::Series;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

type Failed = Box<dyn std::error::Error>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 230;
/// Points of a line: more are not seen, and an SVG of hours would be megabytes.
const POINTS: usize = 400;

struct Panel {
    title: &'static str,
    lines: &'static [(&'static str, &'static str)],
    logarithmic: bool,
}

const PANELS: [Panel; 7] = [
    Panel {
        title: "steady: memory (RSS), MiB",
        lines: &[
            ("steady.primary.memory_mib", "primary"),
            ("steady.replica.memory_mib", "replica"),
            ("harness.memory_mib", "harness"),
        ],
        logarithmic: false,
    },
    Panel {
        title: "steady: descriptors and threads",
        lines: &[
            ("steady.primary.descriptors", "primary, descriptors"),
            ("steady.replica.descriptors", "replica, descriptors"),
            ("steady.primary.threads", "primary, threads"),
            ("steady.replica.threads", "replica, threads"),
        ],
        logarithmic: false,
    },
    Panel {
        title: "steady: disk of the primary, MiB",
        lines: &[
            ("steady.primary.database_mib", "database"),
            ("steady.primary.wal_mib", "its -wal"),
            ("steady.primary.shadow_mib", "shadow WAL"),
        ],
        logarithmic: false,
    },
    Panel {
        title: "steady: disk of the replica, MiB",
        lines: &[
            ("steady.replica.database_mib", "copy"),
            ("steady.replica.wal_mib", "its -wal"),
            ("steady.replica.walcast_mib", "walcast's files"),
        ],
        logarithmic: false,
    },
    Panel {
        title: "lag while no fault is at work, ms (logarithmic)",
        lines: &[("steady.lag_ms", "steady"), ("storm.lag_ms", "storm")],
        logarithmic: true,
    },
    Panel {
        title: "storm: memory (RSS), MiB",
        lines: &[
            ("storm.primary.memory_mib", "primary"),
            ("storm.replica.memory_mib", "replica"),
        ],
        logarithmic: false,
    },
    Panel {
        title: "storm: disk, MiB",
        lines: &[
            ("storm.primary.shadow_mib", "shadow WAL"),
            ("storm.replica.wal_mib", "copy's -wal"),
            ("storm.replica.walcast_mib", "walcast's files of the copy"),
        ],
        logarithmic: false,
    },
];

/// Draws all panels.
pub fn draw(path: &Path, series: &Series) -> Result<(), Failed> {
    let count = PANELS.len();
    let root = SVGBackend::new(path, (WIDTH, HEIGHT * count as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((count, 1)).iter().zip(&PANELS) {
        panel.draw(area, series)?;
    }
    root.present()?;
    Ok(())
}

impl Panel {
    fn draw(&self, area: &Area<'_>, series: &Series) -> Result<(), Failed> {
        let lines: Vec<(&str, Vec<(f64, f64)>)> = self
            .lines
            .iter()
            .map(|(column, label)| (*label, thinned(measured(series.of(column)))))
            .collect();
        let points = || lines.iter().flat_map(|(_, points)| points.iter());
        let end = points().map(|p| p.0).fold(0.1, f64::max);
        let most = points().map(|p| p.1).fold(1.0, f64::max);
        let mut builder = ChartBuilder::on(area);
        builder
            .caption(self.title, ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(52);
        // Two types of coordinates: the same is drawn by the same words.
        macro_rules! draw_in {
            ($values:expr) => {{
                let mut chart = builder.build_cartesian_2d(0.0..end, $values)?;
                chart
                    .configure_mesh()
                    .x_desc("minutes")
                    .light_line_style(WHITE)
                    .draw()?;
                for (number, (label, points)) in lines.iter().enumerate() {
                    let color = Palette99::pick(number).to_rgba();
                    let line = LineSeries::new(points.iter().copied(), color.stroke_width(1));
                    chart
                        .draw_series(line)?
                        .label(*label)
                        .legend(move |(x, y)| {
                            PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2))
                        });
                }
                chart
                    .configure_series_labels()
                    .position(SeriesLabelPosition::LowerRight)
                    .background_style(WHITE.mix(0.8))
                    .border_style(BLACK.mix(0.2))
                    .draw()?;
            }};
        }
        if self.logarithmic {
            draw_in!((0.05..most * 2.0).log_scale());
        } else {
            draw_in!(0.0..most * 1.15);
        }
        Ok(())
    }
}

/// In minutes, without what was not measured.
fn measured(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let finite = points.into_iter().filter(|(_, value)| value.is_finite());
    finite.map(|(at, value)| (at / 60.0, value)).collect()
}

/// Of each stretch its least and its most: peaks stay.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points;
    }
    let stretch = points.len().div_ceil(POINTS / 2);
    let ends = points.chunks(stretch).flat_map(|stretch| {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let least = stretch.iter().min_by(by_value).copied();
        let most = stretch.iter().max_by(by_value).copied();
        let mut both = [least, most].map(|end| end.unwrap_or_default());
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        both
    });
    ends.collect()
}
