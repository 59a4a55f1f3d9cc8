//! What the samples say: is what should be flat flat? Arithmetic only.

/// What a series may grow by, from the median of the second quarter of the run to that of the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// Times as much.
    pub factor: f64,
    /// And this much more, in the series' unit.
    pub more: f64,
}

/// A series, judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub what: String,
    pub unit: &'static str,
    /// Median of the second quarter; the first one is for warming up.
    pub early: f64,
    /// Median of the last quarter.
    pub late: f64,
    /// The most that `late` may be.
    pub allowed: f64,
    /// Of the straight line nearest to all samples from the first quarter's end, in an hour.
    pub slope: f64,
    /// Samples in the smaller of the two quarters.
    pub samples: usize,
}

/// Fewer in a quarter prove nothing.
pub const LEAST_SAMPLES: usize = 5;

impl Row {
    /// Whether it is flat, and there is enough to say so.
    pub fn is_flat(&self) -> bool {
        self.word() == "ok"
    }

    /// What to say of it.
    pub fn word(&self) -> &'static str {
        match self.samples {
            0..LEAST_SAMPLES => "NOT proven: too few samples",
            _ if self.late <= self.allowed => "ok",
            _ => "NOT ok",
        }
    }
}

/// Judges samples, `(second, value)` in the order of time, of a run of `seconds`.
pub fn judge(
    what: &str,
    unit: &'static str,
    samples: &[(f64, f64)],
    seconds: f64,
    allowance: Allowance,
) -> Row {
    let quarter = |from: f64, to: f64| -> Vec<f64> {
        samples
            .iter()
            .filter(|(at, value)| (from * seconds..to * seconds).contains(at) && value.is_finite())
            .map(|&(_, value)| value)
            .collect()
    };
    let (early, late) = (quarter(0.25, 0.5), quarter(0.75, f64::INFINITY));
    let counted = early.len().min(late.len());
    let (early, late) = (median(early), median(late));
    let settled: Vec<(f64, f64)> = samples
        .iter()
        .copied()
        .filter(|(at, value)| *at >= 0.25 * seconds && value.is_finite())
        .collect();
    Row {
        what: what.to_owned(),
        unit,
        early,
        late,
        allowed: early * allowance.factor + allowance.more,
        slope: slope(&settled) * 3600.0,
        samples: counted,
    }
}

/// The value in the middle; of an even number, the mean of both. NaN of none.
pub fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which a part of the values (0 to 1) is, straight between neighbours. NaN of none.
pub fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = part * last as f64;
    let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// Of the least-squares line, for each unit of the first coordinate; 0 where there is no line.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let (mut over, mut under) = (0.0, 0.0);
    for point in points {
        over += (point.0 - x) * (point.1 - y);
        under += (point.0 - x).powi(2);
    }
    if under > 0.0 { over / under } else { 0.0 }
}
