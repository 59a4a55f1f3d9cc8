//! The lags as a picture: for each rate and system a bar from p50 to p99, on a logarithmic scale.

use crate::figures::Figures;
use crate::number::number;
use crate::scenario::{LAG_100, LAG_1000, LAG_FLOOD, LagNames};
use crate::system::Kind;
use anyhow::anyhow;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const SIZE: (u32, u32) = (1000, 480);
/// What is left of its width for the legend.
const LEGEND: i32 = 160;
const RATES: [(&str, LagNames); 3] = [
    ("100 commits/s", LAG_100),
    ("1,000 commits/s", LAG_1000),
    ("unthrottled", LAG_FLOOD),
];

/// One bar.
struct Bar {
    x: f64,
    p50: f64,
    p99: f64,
}

/// Colours that remain apart for people who see few of them (Okabe and Ito).
fn colour(system: Kind) -> RGBColor {
    match system {
        Kind::Walcast => RGBColor(0, 114, 178),
        Kind::LitestreamFollow => RGBColor(213, 94, 0),
        Kind::LitestreamVfs => RGBColor(230, 159, 0),
        Kind::Backup => RGBColor(110, 110, 110),
        Kind::Postgres => RGBColor(0, 158, 115),
        Kind::PostgresAsync => RGBColor(204, 121, 167),
    }
}

/// Writes an SVG; nothing if no lags were measured.
pub fn draw(figures: &Figures, path: &Path) -> anyhow::Result<()> {
    let systems = figures.systems();
    let step = systems.len() as f64 + 1.0;
    let mut series: Vec<(Kind, Vec<Bar>)> = Vec::new();
    for (i, system) in systems.into_iter().enumerate() {
        let bars = RATES
            .iter()
            .enumerate()
            .filter_map(|(group, (_, [p50, p99]))| {
                Some(Bar {
                    x: group as f64 * step + i as f64 + 1.0,
                    // What was seen before the clock was read has no logarithm.
                    p50: figures.median(p50, system)?.max(0.01),
                    p99: figures.median(p99, system)?.max(0.01),
                })
            });
        series.push((system, bars.collect()));
    }
    let all = || series.iter().flat_map(|(_, bars)| bars);
    if all().next().is_none() {
        return Ok(());
    }
    let lowest = all().map(|bar| bar.p50).fold(f64::MAX, f64::min);
    let highest = all().map(|bar| bar.p99).fold(0.0, f64::max);
    let power = |value: f64| 10f64.powf(value);
    let range = power((lowest / 1.5).log10().floor())..power((highest * 2.0).log10().ceil());
    paint(path, &series, step, range).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn paint(
    path: &Path,
    series: &[(Kind, Vec<Bar>)],
    step: f64,
    range: std::ops::Range<f64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(SIZE.0.cast_signed() - LEGEND);
    let (top, width) = (range.end, step * RATES.len() as f64);
    let mut chart = ChartBuilder::on(&left)
        .margin(12)
        .caption(
            "From commit to visible on the copy: p50 (dot) to p99 (bar), ms",
            ("sans-serif", 18),
        )
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..width, range.log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .bold_line_style(BLACK.mix(0.25))
        .light_line_style(BLACK.mix(0.06))
        .y_label_formatter(&|value| number(*value))
        .label_style(("sans-serif", 13))
        .draw()?;
    let centred = |size: u32, vertical| {
        let style = ("sans-serif", size).into_text_style(&root);
        style.pos(Pos::new(HPos::Center, vertical))
    };
    for (group, (rate, _)) in RATES.iter().enumerate() {
        let middle = (group as f64 + 0.5) * step;
        let place = (middle, top);
        chart.draw_series([Text::new(*rate, place, centred(15, VPos::Top))])?;
    }
    for (i, (system, bars)) in series.iter().enumerate() {
        let colour = colour(*system);
        chart.draw_series(bars.iter().flat_map(|bar| {
            let ends = vec![(bar.x, bar.p50), (bar.x, bar.p99)];
            let cap = vec![(bar.x - 0.2, bar.p99), (bar.x + 0.2, bar.p99)];
            [ends, cap].map(|line| PathElement::new(line, colour.stroke_width(3)))
        }))?;
        let dots = bars.iter().map(|bar| (bar.x, bar.p50));
        chart.draw_series(dots.map(|dot| Circle::new(dot, 5, colour.filled())))?;
        let below = |bar: &Bar| (number(bar.p50), (bar.x, bar.p50 / 1.2), VPos::Top);
        let above = |bar: &Bar| (number(bar.p99), (bar.x, bar.p99 * 1.1), VPos::Bottom);
        let labels = bars.iter().flat_map(|bar| [below(bar), above(bar)]);
        chart
            .draw_series(labels.map(|(text, place, at)| Text::new(text, place, centred(12, at))))?;
        let y = 60 + 24 * i32::try_from(i)?;
        right.draw(&Circle::new((8, y), 5, colour.filled()))?;
        let beside = ("sans-serif", 14).into_text_style(&root);
        let beside = beside.pos(Pos::new(HPos::Left, VPos::Center));
        right.draw(&Text::new(system.title().replace('`', ""), (20, y), beside))?;
    }
    root.present()?;
    Ok(())
}
