//! Families of metrics, written one after the other as Prometheus wants them: all samples of a name together.

use crate::model::Histogram;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt::Error;

/// Durations are counted in nanoseconds and shown in seconds.
pub const NANOSECONDS: f64 = 1e9;
/// Sizes are shown as they are counted.
pub const BYTES: f64 = 1.0;

/// Writes to an encoder.
pub struct Families<'a>(pub DescriptorEncoder<'a>);

impl Families<'_> {
    /// Numbers that go up and down.
    pub fn gauge<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) -> Result<(), Error> {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Numbers that only grow; the name gets `_total`.
    pub fn counter<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> Result<(), Error> {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            let mut sample = family.encode_family(&labels)?;
            sample.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
        }
        Ok(())
    }

    /// A number that only grows and is no integer; nothing if it is not known.
    pub fn counter_f64(&mut self, name: &str, help: &str, value: Option<f64>) -> Result<(), Error> {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        match value {
            Some(value) => family.encode_counter::<NoLabelSet, f64, f64>(&value, None),
            None => Ok(()),
        }
    }

    /// Distributions; `scale` is how many of the counted units are one of the shown ones.
    pub fn histogram<'h, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        scale: f64,
        samples: impl IntoIterator<Item = (L, &'h Histogram)>,
    ) -> Result<(), Error> {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in samples {
            let (sum, counts) = histogram.read();
            let buckets: Vec<(f64, u64)> = counts
                .into_iter()
                .map(|(bound, count)| (bound.map_or(f64::INFINITY, |b| b as f64 / scale), count))
                .collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum as f64 / scale, count, &buckets, None)?;
        }
        Ok(())
    }
}
