//! A simulated world, as a data file describes it.
//!
//! Times are seconds since the canary got its first weight; before it lie 15 minutes of history. Error rates are
//! fractions of requests.

use std::{fs, io, path::Path};

use serde::Deserialize;

/// The worlds that come with the program: file name and text.
const OWN: [(&str, &str); 2] = [
    ("healthy.yaml", include_str!("../../bench/worlds/healthy.yaml")),
    ("bad.yaml", include_str!("../../bench/worlds/bad.yaml")),
];

/// One world.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// What it is, for the table.
    pub title: String,
    /// Whether the change should be rolled back.
    pub change: Change,
    /// Mean arrivals of both arms together.
    pub requests_per_second: f64,
    /// Relative standard deviation of the arrivals from tick to tick, beside Poisson's.
    #[serde(default)]
    pub swing: f64,
    /// The control's error rate.
    pub error_rate: f64,
    /// Errors that come together.
    #[serde(default)]
    pub cluster: Cluster,
    /// How many times as often the canary's group fails, before the change and after it.
    #[serde(default = "one")]
    pub canary_ratio: f64,
    /// The ratio between the arms wanders.
    pub drift: Option<Drift>,
    /// Latencies; without them nothing is timed.
    pub latency: Option<Latency>,
    /// What happens, whatever the change does.
    #[serde(default)]
    pub events: Vec<Event>,
    /// What the change does to the canary. The last that applies counts.
    #[serde(default)]
    pub effects: Vec<Effect>,
}

fn one() -> f64 {
    1.0
}

/// What the change is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Nothing is worse: a rollback is false.
    Healthy,
    /// A rollback is right.
    Bad,
}

/// Errors come in clusters of this mean size; 1 is independence.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Mean size.
    pub size: f64,
    /// Geometric sizes; else all are alike.
    #[serde(default)]
    pub geometric: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { size: 1.0, geometric: false }
    }
}

/// The logarithm of the canary's error rate over the control's follows an Ornstein-Uhlenbeck process.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Its standard deviation.
    pub spread: f64,
    /// Time after which it has forgotten all but a third.
    pub minutes: f64,
}

/// Lognormal latencies.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Median in milliseconds.
    pub median_ms: f64,
    /// Standard deviation of the logarithm.
    pub spread: f64,
}

/// Something that happens for a while.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What.
    pub what: Happening,
    /// When it begins; at a random moment of the first 20 minutes if it is not said.
    pub from_s: Option<f64>,
    /// How long it lasts.
    pub seconds: f64,
    /// Error rate meanwhile, if that is what happens.
    #[serde(default)]
    pub error_rate: f64,
}

/// What may happen.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// Both arms fail this often.
    SharedErrors,
    /// Only the canary does, not because of the change.
    CanaryErrors,
    /// Only the control does.
    ControlErrors,
    /// Prometheus does not answer; afterwards its counters bring what was missed.
    Outage,
}

/// What the change does to the canary.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// From when on.
    #[serde(default)]
    pub from_s: f64,
    /// Only at this weight or more, basis points.
    #[serde(default)]
    pub from_weight: u16,
    /// The canary's error rate; the world's if it is not said.
    pub error_rate: Option<f64>,
    /// All latencies times this.
    #[serde(default = "one")]
    pub latency_factor: f64,
    /// This share of requests takes `slow_ms` longer.
    #[serde(default)]
    pub slow_share: f64,
    /// See `slow_share`.
    #[serde(default)]
    pub slow_ms: f64,
}

/// The worlds that come with the program.
///
/// # Errors
/// If one is not as it should be.
pub fn own() -> io::Result<Vec<World>> {
    let mut worlds = Vec::new();
    for (name, text) in OWN {
        worlds.extend(parse(name, text)?);
    }
    Ok(worlds)
}

/// All worlds of the `.yaml`, `.yml` and `.json` files of a folder, in the order of their names. A file holds a list.
///
/// # Errors
/// If the folder cannot be read, or a file is no list of worlds.
pub fn read(folder: &Path) -> io::Result<Vec<World>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_data = |ending: &std::ffi::OsStr| ["yaml", "yml", "json"].iter().any(|known| ending == *known);
        if path.extension().is_some_and(is_data) {
            paths.push(path);
        }
    }
    paths.sort();
    let mut worlds = Vec::new();
    for path in paths {
        worlds.extend(parse(&path.display().to_string(), &fs::read_to_string(&path)?)?);
    }
    Ok(worlds)
}

/// A list of worlds; JSON is YAML.
///
/// # Errors
/// If it is none, or a number is out of its range.
pub fn parse(name: &str, text: &str) -> io::Result<Vec<World>> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{name}: {why}"));
    let worlds: Vec<World> = serde_yaml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    for world in &worlds {
        world.check().map_err(|why| wrong(format!("{:?}: {why}", world.title)))?;
    }
    Ok(worlds)
}

impl World {
    fn check(&self) -> Result<(), String> {
        let rates = self.effects.iter().filter_map(|effect| effect.error_rate);
        let rates = rates.chain(self.events.iter().map(|event| event.error_rate)).chain([self.error_rate, self.swing]);
        let shares = rates.chain(self.effects.iter().map(|effect| effect.slow_share));
        if let Some(wrong) = shares.into_iter().find(|share| !(0.0..=1.0).contains(share)) {
            return Err(format!("{wrong} is not between 0 and 1"));
        }
        let mut sizes = vec![self.requests_per_second, self.cluster.size, self.canary_ratio];
        sizes.extend(self.latency.iter().flat_map(|law| [law.median_ms, law.spread]));
        sizes.extend(self.drift.iter().flat_map(|drift| [drift.spread, drift.minutes]));
        sizes.extend(self.effects.iter().map(|effect| effect.latency_factor));
        match sizes.into_iter().find(|size| !(*size > 0.0 && *size <= 1e6)) {
            Some(wrong) => Err(format!("{wrong} is not between 0 and a million")),
            None if self.cluster.size < 1.0 => Err("a cluster has at least one error".to_owned()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worlds_that_come_with_the_program_are_worlds() {
        let worlds = own().expect("the own worlds");
        let count = |change| worlds.iter().filter(|world| world.change == change).count();
        assert!(count(Change::Healthy) >= 12, "{}", count(Change::Healthy));
        assert!(count(Change::Bad) >= 13, "{}", count(Change::Bad));
        assert!(worlds.iter().all(|world| (world.change == Change::Bad) != world.effects.is_empty()));
    }

    #[test]
    fn a_wrong_world_is_refused_with_its_place() {
        let base = "- {title: a, change: healthy, requests_per_second: 10, error_rate: 0.1";
        for (more, expected) in [
            (", eror: 1}", "unknown field"),
            (", swing: 2}", "2 is not between 0 and 1"),
            (", canary_ratio: 0}", "0 is not between 0 and a million"),
            (", cluster: {size: 0.5}}", "at least one error"),
        ] {
            let error = parse("some.yaml", &format!("{base}{more}")).expect_err(more).to_string();
            assert!(error.starts_with("some.yaml: ") && error.contains(expected), "{error}");
        }
        assert_eq!(parse("some.yaml", &format!("{base}}}")).expect("a world").len(), 1);
    }
}
