//! What RunAnalysis would have said after each tick of a time that is over, from what Prometheus recorded: a line of
//! JSON for each, in the form of [`bench::replies`](crate::bench::replies).
//!
//! It is RunAnalysis that is asked, once for each tick, with the ends of the ticks as "now". The whole time is fetched
//! once, and every analysis is given the part of it that had been recorded by its end ([`Recorded`]), so what is judged
//! is what was known. The one difference: a scrape that came in late is there.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::Timestamp;
use meshward_chassis::server::parse_duration;
use meshward_model::{JudgeOptions, Mechanism, Mesh, MetricsTarget, Verdict, Weight, WeightPeriod};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    SourceArgs,
    app::{AnalysisRequest, Collector},
    source::{Answer, MetricsSource, SourceError, clusters::Sources, meters::Meter},
    window::{Grid, Series},
};

/// What is replayed, and from where.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where it is recorded.
    #[command(flatten)]
    pub source: SourceArgs,

    /// Mesh: istio or linkerd.
    #[arg(long, default_value = "istio", value_parser = named::<Mesh>)]
    pub mesh: Mesh,

    /// How the canary got its traffic: request, weight, subset, header or instance.
    #[arg(long, default_value = "request", value_parser = named::<Mechanism>)]
    pub mechanism: Mechanism,

    /// Cluster, if there are several Prometheus.
    #[arg(long, default_value = "")]
    pub cluster: String,

    /// Fully qualified host; can be repeated.
    #[arg(long, required = true)]
    pub host: Vec<String>,

    /// Name that the canary's series carry.
    #[arg(long, default_value = "canary")]
    pub canary: String,

    /// Name that the control's series carry.
    #[arg(long, default_value = "stable")]
    pub control: String,

    /// Key of the pods' label whose values these names are, if it is one.
    #[arg(long, default_value = "")]
    pub cohort_label: String,

    /// When the canary got its first traffic: RFC 3339, or seconds since the epoch.
    #[arg(long, value_parser = moment)]
    pub start: Timestamp,

    /// Up to when.
    #[arg(long, value_parser = moment)]
    pub end: Timestamp,

    /// Length of a tick.
    #[arg(long, default_value = "15s", value_parser = parse_duration)]
    pub tick: Duration,

    /// How long before the start the judge learns from.
    #[arg(long, default_value = "15m", value_parser = parse_duration)]
    pub history: Duration,

    /// From when on the canary had which weight in basis points, TIME=BP; can be repeated, ascending. A number alone is
    /// the weight from the start.
    #[arg(long, required = true, value_parser = period)]
    pub weight: Vec<Period>,
}

/// One `--weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    start: Option<Timestamp>,
    weight: Weight,
}

/// A word of the vocabulary, as templates have it.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|error| error.to_string())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse() {
        return Timestamp::from_second(seconds).map_err(|error| error.to_string());
    }
    text.parse().map_err(|_| "write it as 2026-01-02T03:04:05Z, or in seconds since the epoch".to_owned())
}

fn period(text: &str) -> Result<Period, String> {
    let (start, weight) = match text.split_once('=') {
        Some((start, weight)) => (Some(moment(start)?), weight),
        None => (None, text),
    };
    let weight = weight.parse().ok().and_then(|weight| Weight::from_basis_points(weight).ok());
    Ok(Period { start, weight: weight.ok_or("a weight is 0 to 10000 basis points")? })
}

#[derive(Serialize)]
struct Line {
    t: f64,
    verdict: Verdict,
    evidence: f64,
    bound: f64,
    reason: String,
    required_requests: u64,
    canary: Counted,
    control: Counted,
}

#[derive(Serialize)]
struct Counted {
    requests: u64,
    errors: u64,
}

/// Replays, and writes a line for each tick.
///
/// # Errors
/// If nothing can be asked for, the source fails, or a line cannot be written.
pub async fn run(args: &Args, options: JudgeOptions, mut output: impl Write) -> io::Result<()> {
    let request = request(args, options)?;
    let recorded = Arc::new(Recorded::new(source(&args.source, &args.cluster)?));
    let catalog = crate::catalog(&args.source).map_err(io::Error::other)?;
    let collector = Collector::new(Sources::single(recorded.clone()), catalog, args.source.query_timeout)
        .scraped_every(args.source.scrape_interval)
        .discovering_within(args.source.discovery_delay);
    // The longest question first: the others are parts of it.
    collector.analyse(&request, request.end).await.map_err(io::Error::other)?;
    if let Some(error) = recorded.failure() {
        return Err(io::Error::other(error));
    }
    let mut end = request.start + args.tick;
    while end <= request.end {
        let known = request.periods.partition_point(|period| period.start < end).max(1);
        let periods = request.periods[..known].to_vec();
        let asked = AnalysisRequest { end, periods, ..request.clone() };
        let explanation = collector.analyse(&asked, end).await.map_err(io::Error::other)?;
        let analysis = explanation.analysis;
        let counted = |requests, errors| Counted { requests, errors };
        let (canary, control) = explanation.ticks.last().map_or(((0, 0), (0, 0)), |tick| {
            let sample = &tick.sample;
            ((sample.canary_requests, sample.canary_errors), (sample.control_requests, sample.control_errors))
        });
        let line = Line {
            t: end.as_millisecond() as f64 / 1000.0,
            verdict: analysis.verdict,
            evidence: analysis.evidence,
            bound: analysis.evidence_bound,
            reason: analysis.explanation,
            required_requests: analysis.required_requests,
            canary: counted(canary.0, canary.1),
            control: counted(control.0, control.1),
        };
        serde_json::to_writer(&mut output, &line)?;
        output.write_all(b"\n")?;
        output.flush()?;
        end += args.tick;
    }
    Ok(())
}

fn request(args: &Args, options: JudgeOptions) -> io::Result<AnalysisRequest> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    if args.end <= args.start {
        return Err(wrong("--end is not after --start"));
    }
    if args.tick < Duration::from_secs(1) {
        return Err(wrong("--tick is a second or more"));
    }
    let period = |period: &Period| WeightPeriod { start: period.start.unwrap_or(args.start), weight: period.weight };
    let periods: Vec<WeightPeriod> = args.weight.iter().map(period).collect();
    if !periods.is_sorted_by(|a, b| a.start < b.start) {
        return Err(wrong("--weight: each time must be after the one before"));
    }
    Ok(AnalysisRequest {
        target: MetricsTarget {
            hosts: args.host.clone(),
            canary_series: args.canary.clone(),
            control_series: args.control.clone(),
            cohort_label: args.cohort_label.clone(),
            ..MetricsTarget::uncounted(args.mesh, args.mechanism, &args.cluster)
        },
        start: args.start,
        end: args.end,
        tick: args.tick,
        periods,
        options,
        history: args.history,
        deployment_id: String::new(),
        step: 0,
    })
}

/// The Prometheus of a cluster, without cache and breaker: it is asked three times.
fn source(args: &SourceArgs, cluster: &str) -> io::Result<Arc<dyn MetricsSource>> {
    let mut sources = Sources::default();
    for address in &args.prometheus {
        let prometheus = crate::prometheus(args, address, Meter::default()).map_err(io::Error::other)?;
        sources.add(address.cluster.as_deref(), Arc::new(prometheus)).map_err(io::Error::other)?;
    }
    sources.of(cluster).cloned().map_err(io::Error::other)
}

/// A source that remembers the longest answer to each query, and answers shorter questions with parts of it.
struct Recorded {
    inner: Arc<dyn MetricsSource>,
    answers: Mutex<HashMap<String, (Grid, Answer)>>,
    failure: Mutex<Option<SourceError>>,
}

impl Recorded {
    fn new(inner: Arc<dyn MetricsSource>) -> Self {
        Self { inner, answers: Mutex::default(), failure: Mutex::default() }
    }

    /// The first failure of the source.
    fn failure(&self) -> Option<SourceError> {
        self.failure.lock().expect("no holder panics").clone()
    }

    fn part(&self, query: &str, grid: &Grid) -> Option<Answer> {
        let answers = self.answers.lock().expect("no holder panics");
        let (whole, answer) = answers.get(query)?;
        let is_part = (whole.start_ms, whole.step_ms) == (grid.start_ms, grid.step_ms) && grid.ticks <= whole.ticks;
        let end_ms = grid.end_ms() + grid.step_ms / 2;
        let known = |one: &Series| {
            let points: Vec<(i64, f64)> = one.points.iter().copied().filter(|(time, _)| *time < end_ms).collect();
            (!points.is_empty()).then(|| Series { labels: one.labels.clone(), points })
        };
        is_part.then(|| Arc::new(answer.iter().filter_map(known).collect()))
    }
}

#[async_trait]
impl MetricsSource for Recorded {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn range(&self, query: &str, grid: &Grid, deadline: Instant) -> Result<Answer, SourceError> {
        if let Some(part) = self.part(query, grid) {
            return Ok(part);
        }
        match self.inner.range(query, grid, deadline).await {
            Ok(answer) => {
                let mut answers = self.answers.lock().expect("no holder panics");
                answers.insert(query.to_owned(), (*grid, answer.clone()));
                Ok(answer)
            }
            Err(error) => {
                self.failure.lock().expect("no holder panics").get_or_insert_with(|| error.clone());
                Err(error)
            }
        }
    }
}
