//! Quantiles from histogram buckets, for people. The judge never uses them.
//!
//! As PromQL's `histogram_quantile`: find the first bucket that reaches the rank and interpolate linearly between its
//! edges, the lowest edge being 0; a rank in the last bucket, which has no upper edge, gives the highest finite edge.

/// Cumulative bucket counts: upper edge (the last is infinite) and what was counted at or below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    buckets: Vec<(f64, f64)>,
}

impl Histogram {
    /// From upper edges and cumulative counts, in any order. Counts that fall from one bucket to the next, as
    /// counters read at slightly different moments give them, are lifted to the one before.
    #[must_use]
    pub fn new(mut buckets: Vec<(f64, f64)>) -> Self {
        buckets.retain(|(edge, _)| !edge.is_nan());
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut most = 0.0_f64;
        for (_, count) in &mut buckets {
            most = most.max(*count);
            *count = most;
        }
        Self { buckets }
    }

    /// The value below which the share `q` (0 to 1) lies, in the unit of the edges. `None` without counts or without
    /// the infinite bucket.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let (last_edge, total) = *self.buckets.last()?;
        if last_edge != f64::INFINITY || total <= 0.0 || self.buckets.len() < 2 {
            return None;
        }
        let rank = q * total;
        let index = self.buckets.partition_point(|(_, count)| *count < rank).min(self.buckets.len() - 1);
        if index == self.buckets.len() - 1 {
            return Some(self.buckets[index - 1].0);
        }
        let (edge, count) = self.buckets[index];
        let (low_edge, low_count) = if index == 0 { (0.0, 0.0) } else { self.buckets[index - 1] };
        if count <= low_count || edge <= 0.0 {
            return Some(edge);
        }
        Some(low_edge + (edge - low_edge) * (rank - low_count) / (count - low_count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_as_promql_interpolates_them() {
        let inf = f64::INFINITY;
        let even = vec![(10.0, 50.0), (20.0, 100.0), (inf, 100.0)];
        let tail = vec![(inf, 100.0), (10.0, 90.0), (20.0, 95.0)];
        let cases = [
            ("middle of the first bucket", &even, 0.25, Some(5.0)),
            ("edge of the first bucket", &even, 0.5, Some(10.0)),
            ("within the second", &even, 0.95, Some(19.0)),
            ("beyond the last edge", &tail, 0.99, Some(20.0)),
            ("no counts", &vec![(10.0, 0.0), (inf, 0.0)], 0.5, None),
            ("no infinite bucket", &vec![(10.0, 5.0), (20.0, 8.0)], 0.5, None),
            ("only the infinite bucket", &vec![(inf, 5.0)], 0.5, None),
            ("nothing", &vec![], 0.5, None),
            ("a count that falls", &vec![(10.0, 50.0), (20.0, 49.0), (inf, 50.0)], 1.0, Some(10.0)),
        ];
        for (name, buckets, q, expected) in cases {
            assert_eq!(Histogram::new(buckets.clone()).quantile(q), expected, "{name}");
        }
    }
}
