//! From counters that were read at the ends of ticks to what was counted in each tick.
//!
//! The reader's rules, the same for every counter:
//!
//! - a counter that is lower than before was started anew: all that it shows is new;
//! - a series that appears in the middle of the window was born at zero, so its first value is new; one that is there
//!   at the window's start has a past, and only what comes on top counts;
//! - a missing point is no decrease and no increase: the next point that is there brings what was missed;
//! - NaN, infinite and negative values are no counter values, so they are missing points;
//! - a series that is told twice counts once;
//! - where births do not count (the time before the change), the first value of a series is its past, whenever it
//!   appears: Prometheus may have begun to look only then;
//! - a pod that is given a label goes on counting where it was, as series with other labels. Those that differ in nothing
//!   but the label that tells the cohorts are one counter, whichever cohort has it. Where no such label is known, a series
//!   that appears in one arm where one of the other arm has just ended, with the same labels but for one, and that does
//!   not begin lower, goes on from there ([`counters`]). Prometheus shows the older series for up to two scrapes more, at
//!   its last value, which counts nothing.
//!
//! What a counter counted between its last reading and its restart is lost; nobody knows it.

use std::collections::BTreeMap;

/// The ends of equal ticks: `start`, `start + step`, ... `start + ticks * step`; milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Start of the first tick.
    pub start_ms: i64,
    /// Length of a tick, at least 1.
    pub step_ms: i64,
    /// Number of ticks.
    pub ticks: usize,
}

impl Grid {
    /// The ticks of `step_ms` that fit between two moments. The same start gives the same ticks whenever it is asked.
    #[must_use]
    pub fn between(start_ms: i64, end_ms: i64, step_ms: i64) -> Self {
        let step_ms = step_ms.max(1);
        let whole = end_ms.saturating_sub(start_ms).max(0) / step_ms;
        Self { start_ms, step_ms, ticks: usize::try_from(whole).unwrap_or(usize::MAX) }
    }

    /// The `index`th boundary; 0 is the start of the first tick.
    #[must_use]
    pub fn boundary_ms(&self, index: usize) -> i64 {
        self.start_ms.saturating_add(self.step_ms.saturating_mul(i64::try_from(index).unwrap_or(i64::MAX)))
    }

    /// End of the last tick.
    #[must_use]
    pub fn end_ms(&self) -> i64 {
        self.boundary_ms(self.ticks)
    }

    /// Length of all ticks.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.end_ms().saturating_sub(self.start_ms) as f64 / 1000.0
    }

    /// The boundary that a point belongs to: points come back with the times that were asked for, give or take
    /// rounding.
    fn index_of(&self, time_ms: i64) -> Option<usize> {
        let offset = time_ms.checked_sub(self.start_ms)?.checked_add(self.step_ms / 2)?;
        let index = usize::try_from(offset.div_euclid(self.step_ms)).ok()?;
        (index <= self.ticks).then_some(index)
    }
}

/// One time series as it came from the source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Its labels, with its name as `__name__`.
    pub labels: BTreeMap<String, String>,
    /// Time in milliseconds since the epoch, and value.
    pub points: Vec<(i64, f64)>,
}

impl Series {
    /// A label's value; empty if it has none, as in PromQL.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// The metric's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.label("__name__")
    }
}

/// What several counters together counted in each tick: one number per tick, none negative. In the first `quiet` ticks
/// births do not count.
#[must_use]
pub fn increases<'c, 'a: 'c>(
    counters: impl IntoIterator<Item = &'c Counter<'a>>,
    grid: &Grid,
    quiet: usize,
) -> Vec<f64> {
    let distinct: BTreeMap<_, _> = counters.into_iter().map(|one| (&one.series.labels, one)).collect();
    let mut sums = vec![0.0; grid.ticks];
    for one in distinct.into_values() {
        add_increases(one, grid, quiet, &mut sums);
    }
    sums
}

/// A series, with those that are the same counter under other labels.
#[derive(Clone, Debug)]
pub struct Counter<'a> {
    /// What was read.
    pub series: &'a Series,
    /// What was read of it at other times.
    pub others: Vec<&'a Series>,
}

impl<'a> From<&'a Series> for Counter<'a> {
    fn from(series: &'a Series) -> Self {
        Self { series, others: Vec::new() }
    }
}

fn is_count(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// What a series shows at the boundaries of a grid.
fn readings(series: &Series, grid: &Grid) -> Vec<Option<f64>> {
    let mut values = vec![None; grid.ticks + 1];
    for (time, value) in &series.points {
        if let Some(index) = grid.index_of(*time).filter(|_| is_count(*value)) {
            values[index] = Some(*value);
        }
    }
    values
}

fn add_increases(counter: &Counter<'_>, grid: &Grid, quiet: usize, sums: &mut [f64]) {
    let values = readings(counter.series, grid);
    let others: Vec<_> = counter.others.iter().map(|other| readings(other, grid)).collect();
    let mut before = values[0];
    for (tick, sum) in sums.iter_mut().enumerate() {
        let index = tick + 1;
        if values[tick].is_none() {
            before = others.iter().filter_map(|other| elsewhere(other, index)).fold(before, later);
        }
        let Some(value) = values[index] else { continue };
        *sum += match before {
            Some(before) if value >= before => value - before,
            None if tick < quiet => 0.0,
            _ => value,
        };
        before = Some(value);
    }
}

/// Where the counter stands under other labels at a boundary, if that is read there or was read one before; it does not
/// begin there.
fn elsewhere(other: &[Option<f64>], index: usize) -> Option<f64> {
    other[index - 1].map(|past| other[index].unwrap_or(past))
}

/// A counter goes up, unless it began anew.
fn later(before: Option<f64>, elsewhere: f64) -> Option<f64> {
    Some(before.map_or(elsewhere, |before| before.max(elsewhere)))
}

/// Each series with those that are the same counter. `arm` names the label that tells the arms apart, and `cohort` the one
/// of the pods that does, if it is one.
#[must_use]
pub fn counters<'a>(series: &'a [Series], arm: &str, cohort: Option<&str>, grid: &Grid) -> Vec<Counter<'a>> {
    match cohort {
        Some(cohort) => relabelled(series, &[arm, cohort]),
        None => continued(series, arm, grid),
    }
}

/// Those with the same labels but for some are one counter.
fn relabelled<'a>(series: &'a [Series], but_for: &[&str]) -> Vec<Counter<'a>> {
    let identity = |one: &'a Series| -> Vec<(&'a String, &'a String)> {
        one.labels.iter().filter(|(name, _)| !but_for.contains(&name.as_str())).collect()
    };
    let mut same: BTreeMap<_, Vec<&'a Series>> = BTreeMap::new();
    for one in series {
        same.entry(identity(one)).or_default().push(one);
    }
    let others = |one: &'a Series| same[&identity(one)].iter().copied().filter(|other| other.labels != one.labels);
    series.iter().map(|one| Counter { series: one, others: others(one).collect() }).collect()
}

/// Those of one arm that appear where one of the other arm ended. Without the label of the arm, no series goes on from
/// another.
fn continued<'a>(series: &'a [Series], arm: &str, grid: &Grid) -> Vec<Counter<'a>> {
    let bounds = |one: &Series| {
        let mut counts = one.points.iter().filter(|(_, value)| is_count(*value));
        let first = *counts.next()?;
        Some((first, *counts.next_back().unwrap_or(&first)))
    };
    let ended: Vec<(&Series, (i64, f64))> = series
        .iter()
        .filter_map(|one| bounds(one).map(|(_, last)| (one, last)))
        .filter(|(_, (time, _))| *time <= grid.end_ms() - grid.step_ms / 2)
        .collect();
    let past = |one: &Series| {
        let ((time, value), _) = bounds(one)?;
        if one.label(arm).is_empty() || time <= grid.start_ms + grid.step_ms / 2 {
            return None;
        }
        let has_just_ended = |end: i64| end < time && time - end <= 2 * grid.step_ms;
        let goes_on = |(other, (end, last)): &&(&Series, (i64, f64))| {
            has_just_ended(*end) && *last <= value && differ_in_one(&one.labels, &other.labels, arm)
        };
        ended.iter().find(goes_on).map(|(other, _)| *other)
    };
    series.iter().map(|one| Counter { series: one, others: past(one).into_iter().collect() }).collect()
}

/// Of two arms, and equal but for one more label.
fn differ_in_one(one: &BTreeMap<String, String>, two: &BTreeMap<String, String>, arm: &str) -> bool {
    let value = |labels: &BTreeMap<String, String>, name: &str| labels.get(name).cloned().unwrap_or_default();
    let names: std::collections::BTreeSet<&String> = one.keys().chain(two.keys()).collect();
    let differing = names.into_iter().filter(|name| *name != arm && value(one, name) != value(two, name)).count();
    value(one, arm) != value(two, arm) && differing == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { start_ms: 1000, step_ms: 500, ticks: 4 };
    const GAP: f64 = f64::NEG_INFINITY;

    /// Points at the boundaries; GAP = no point.
    fn series(name: &str, values: &[f64]) -> Series {
        let points = values.iter().enumerate().map(|(index, value)| (GRID.boundary_ms(index), *value));
        Series {
            labels: BTreeMap::from([("__name__".to_owned(), name.to_owned())]),
            points: points.filter(|(_, value)| *value != GAP).collect(),
        }
    }

    fn of(series: &[Series], quiet: usize) -> Vec<f64> {
        let counters: Vec<_> = series.iter().map(Counter::from).collect();
        increases(&counters, &GRID, quiet)
    }

    #[test]
    fn increases_by_tick() {
        let nan = f64::NAN;
        let cases: &[(&str, &[f64], [f64; 4])] = &[
            ("steady", &[100.0, 110.0, 110.0, 125.0, 126.0], [10.0, 0.0, 15.0, 1.0]),
            ("no past before the window counts", &[1e6, 1e6, 1e6, 1e6, 1e6], [0.0; 4]),
            ("restarted", &[100.0, 110.0, 4.0, 9.0, 9.0], [10.0, 4.0, 5.0, 0.0]),
            ("restarted twice", &[100.0, 5.0, 3.0, 3.0, 0.0], [5.0, 3.0, 0.0, 0.0]),
            ("born in the second tick", &[GAP, GAP, 7.0, 9.0, 9.0], [0.0, 7.0, 2.0, 0.0]),
            ("born in the first tick", &[GAP, 3.0, 7.0, 9.0, 9.0], [3.0, 4.0, 2.0, 0.0]),
            ("a gap is made up for", &[10.0, GAP, GAP, 25.0, 26.0], [0.0, 0.0, 15.0, 1.0]),
            ("ended", &[10.0, 12.0, GAP, GAP, GAP], [2.0, 0.0, 0.0, 0.0]),
            ("gone, and back from zero", &[10.0, 12.0, GAP, 3.0, 4.0], [2.0, 0.0, 3.0, 1.0]),
            ("no counts are gaps", &[10.0, nan, f64::INFINITY, -1.0, 12.0], [0.0, 0.0, 0.0, 2.0]),
            ("never there", &[], [0.0; 4]),
        ];
        for (name, values, expected) in cases {
            assert_eq!(of(&[series("a", values)], 0), expected, "{name}");
        }
    }

    #[test]
    fn series_are_summed_and_repeated_ones_counted_once() {
        let (a, b) = (series("a", &[0.0, 1.0, 2.0, 3.0, 4.0]), series("b", &[50.0, 60.0, 5.0, 5.0, 5.0]));
        assert_eq!(of(&[a.clone(), b, a], 0), [11.0, 6.0, 1.0, 1.0]);
        assert_eq!(of(&[], 0), [0.0; 4]);
    }

    #[test]
    fn births_in_quiet_ticks_are_no_increase() {
        let born = series("a", &[GAP, 500.0, 507.0, 509.0, 3.0]);
        assert_eq!(of(std::slice::from_ref(&born), 0), [500.0, 7.0, 2.0, 3.0]);
        assert_eq!(of(&[born], 2), [0.0, 7.0, 2.0, 3.0]);
        let later = series("a", &[GAP, GAP, GAP, 9.0, 9.0]);
        assert_eq!(of(&[later], 2), [0.0, 0.0, 9.0, 0.0]);
    }

    #[test]
    fn a_pod_that_changes_its_arm_goes_on_counting() {
        let labelled = |labels: &[(&str, &str)], values: &[f64]| {
            let mut one = series("a", values);
            one.labels.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            one
        };
        let control = labelled(&[("arm", "control"), ("pod", "x")], &[1000.0, 1010.0, GAP, GAP, GAP]);
        let moved: &[(&str, &str)] = &[("arm", "canary"), ("pod", "x"), ("cohort", "canary")];
        type Labels<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(&str, Labels<'_>, &[f64], [f64; 4])] = &[
            ("relabelled", moved, &[GAP, GAP, 1025.0, 1030.0, 1030.0], [0.0, 15.0, 5.0, 0.0]),
            ("relabelled and seen late", moved, &[GAP, GAP, GAP, 1030.0, 1031.0], [0.0, 0.0, 20.0, 1.0]),
            ("began lower, so it restarted", moved, &[GAP, GAP, 7.0, 9.0, 9.0], [0.0, 7.0, 2.0, 0.0]),
            (
                "another pod",
                &[("arm", "canary"), ("pod", "y"), ("cohort", "canary")],
                &[GAP, GAP, 1025.0, 1030.0, 1030.0],
                [0.0, 1025.0, 5.0, 0.0],
            ),
            (
                "of the same arm",
                &[("arm", "control"), ("pod", "x"), ("cohort", "canary")],
                &[GAP, GAP, 1025.0, 1030.0, 1030.0],
                [0.0, 1025.0, 5.0, 0.0],
            ),
            ("there before the other ended", moved, &[GAP, 1025.0, 1025.0, 1030.0, 1030.0], [1025.0, 0.0, 5.0, 0.0]),
        ];
        for (name, labels, values, expected) in cases {
            let all = [control.clone(), labelled(labels, values)];
            let counters = counters(&all, "arm", None, &GRID);
            assert_eq!(increases(&counters[1..], &GRID, 0), *expected, "{name}");
            assert_eq!(increases(&counters[..1], &GRID, 0), [10.0, 0.0, 0.0, 0.0], "{name}: the other arm");
        }
    }

    /// A pod of the control becomes a canary, or is given a label that says what it was: each with what the older series and
    /// the newer one count. Prometheus shows the older one for a moment more.
    #[test]
    fn a_pod_that_is_labelled_goes_on_counting() {
        let pod = |pod: &str, cohort: &str, values: &[f64]| {
            let arm = if cohort == "canary" { cohort } else { "control" };
            let mut one = series("a", values);
            one.labels.extend([("arm", arm), ("pod", pod)].map(|(name, value)| (name.to_owned(), value.to_owned())));
            one.labels.extend((!cohort.is_empty()).then(|| ("cohort".to_owned(), cohort.to_owned())));
            one
        };
        let until = [1000.0, 1010.0, GAP, GAP, GAP];
        let longer = [1000.0, 1010.0, 1010.0, 1010.0, GAP];
        type Case<'a> = (&'a str, [Series; 2], [[f64; 4]; 2]);
        let cases: &[Case<'_>] = &[
            (
                "a canary",
                [pod("x", "stable", &until), pod("x", "canary", &[GAP, GAP, 1025.0, 1030.0, 1030.0])],
                [[10.0, 0.0, 0.0, 0.0], [0.0, 15.0, 5.0, 0.0]],
            ),
            (
                "still the control",
                [pod("x", "", &until), pod("x", "stable", &[GAP, GAP, 1025.0, 1030.0, 1030.0])],
                [[10.0, 0.0, 0.0, 0.0], [0.0, 15.0, 5.0, 0.0]],
            ),
            (
                "the older one is shown for a moment more",
                [pod("x", "", &longer), pod("x", "canary", &[GAP, GAP, 1025.0, 1030.0, 1030.0])],
                [[10.0, 0.0, 0.0, 0.0], [0.0, 15.0, 5.0, 0.0]],
            ),
            (
                "and is shown now",
                [
                    pod("x", "", &[1000.0, 1010.0, 1012.0, 1012.0, 1012.0]),
                    pod("x", "canary", &[GAP, GAP, 1012.0, GAP, 1031.0]),
                ],
                [[10.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 19.0]],
            ),
            (
                "nobody looked for long",
                [pod("x", "", &[1000.0, GAP, GAP, GAP, GAP]), pod("x", "canary", &[GAP, GAP, GAP, GAP, 1031.0])],
                [[0.0; 4], [0.0, 0.0, 0.0, 31.0]],
            ),
            (
                "and back",
                [
                    pod("x", "stable", &[1000.0, 1010.0, GAP, GAP, 1040.0]),
                    pod("x", "canary", &[GAP, GAP, 1025.0, 1030.0, GAP]),
                ],
                [[10.0, 0.0, 0.0, 10.0], [0.0, 15.0, 5.0, 0.0]],
            ),
            (
                "restarted with it",
                [pod("x", "stable", &until), pod("x", "canary", &[GAP, GAP, 7.0, 9.0, 9.0])],
                [[10.0, 0.0, 0.0, 0.0], [0.0, 7.0, 2.0, 0.0]],
            ),
            (
                "another pod",
                [pod("x", "stable", &until), pod("y", "canary", &[GAP, GAP, 1025.0, 1030.0, 1030.0])],
                [[10.0, 0.0, 0.0, 0.0], [0.0, 1025.0, 5.0, 0.0]],
            ),
        ];
        for (name, both, expected) in cases {
            let counters = counters(both, "arm", Some("cohort"), &GRID);
            let found = [0, 1].map(|at| increases(&counters[at..=at], &GRID, 0));
            assert_eq!(found.each_ref().map(Vec::as_slice), expected.each_ref().map(<[f64; 4]>::as_slice), "{name}");
        }
    }

    #[test]
    fn points_off_the_grid_are_left_out_and_rounded_ones_taken() {
        let mut a = series("a", &[0.0, 1.0, 2.0, 3.0, 4.0]);
        a.points.iter_mut().for_each(|point| point.0 += 1);
        a.points.extend([(0, 99.0), (9000, 99.0), (i64::MAX, 99.0), (i64::MIN, 99.0)]);
        a.points.push((GRID.boundary_ms(4), 4.0));
        assert_eq!(of(&[a], 0), [1.0; 4]);
    }

    #[test]
    fn a_grid_holds_whole_ticks() {
        assert_eq!(Grid::between(1000, 3499, 500).ticks, 4);
        assert_eq!(Grid::between(1000, 3500, 500).ticks, 5);
        assert_eq!(Grid::between(1000, 900, 500).ticks, 0);
        assert_eq!(Grid::between(1000, 3499, 500).end_ms(), 3000);
    }
}
