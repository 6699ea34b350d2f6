//! The judge on anybody's numbers: a JSON object a line in, a JSON object a line out.
//!
//! A line is one tick: `{"t": seconds, "weight": basis points, "canary": {"requests": n, "errors": k, "latency_ms":
//! {"<upper edge>": count, ..., "+Inf": count}}, "control": {...}}`, with increases, not totals. `t` is the tick's end;
//! a tick begins where the one before ended (the first is 15 s long). An arm that is `null` or left out is missing
//! data; `"provider_error": true` stands in place of the arms. Lines at weight 0 that come first are the time before
//! the change. Bucket counts may be cumulative, as Prometheus has them, or not. An arm may also count
//! `connection_failures`, `circuit_breaker_trips` and `denials`; the kinds that the first tick with data names are judged
//! in all ticks, where they are left out with 0.
//!
//! Each line is answered, and the answer flushed, before the next is read. A line that cannot be used is answered with
//! an error and its place, and leaves the judge as it was.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Read, Write},
};

use jiff::Timestamp;
use meshward_model::{JudgeOptions, TickSample, Verdict, Weight};
use serde::{Deserialize, Serialize};

use crate::judge::{
    Judge, MAX_EVIDENCE, Tick,
    counts::{Count, Kind},
    latency::SlowTick,
};

/// Longest line that is read, bytes.
const LONGEST_LINE: u64 = 1 << 20;
/// Length of the first tick, seconds.
const FIRST_TICK_S: f64 = 15.0;
/// Largest number that is a time, seconds; and that is a count.
const LATEST_S: f64 = 1e11;
const LARGEST_COUNT: f64 = 1e15;

#[derive(Debug, Deserialize)]
struct Line {
    t: f64,
    weight: Weight,
    #[serde(default)]
    canary: Option<Arm>,
    #[serde(default)]
    control: Option<Arm>,
    #[serde(default)]
    provider_error: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "RawArm")]
struct Arm {
    requests: u64,
    errors: u64,
    /// Upper edges of the finite buckets and requests beyond them, ascending.
    slow: Vec<(f64, u64)>,
    timed: u64,
    failures: Vec<(Kind, u64)>,
}

impl Arm {
    fn failures(&self, kind: Kind) -> Option<u64> {
        self.failures.iter().find(|(counted, _)| *counted == kind).map(|(_, count)| *count)
    }
}

#[derive(Deserialize)]
struct RawArm {
    requests: f64,
    errors: f64,
    latency_ms: Option<BTreeMap<String, f64>>,
    connection_failures: Option<f64>,
    circuit_breaker_trips: Option<f64>,
    denials: Option<f64>,
}

impl TryFrom<RawArm> for Arm {
    type Error = String;

    fn try_from(raw: RawArm) -> Result<Self, String> {
        let (requests, errors) = (count("requests", raw.requests)?, count("errors", raw.errors)?);
        if errors > requests {
            return Err(format!("{errors} errors in {requests} requests"));
        }
        let mut arm = Self { requests, errors, ..Self::default() };
        for (kind, name, value) in [
            (Kind::ConnectionFailures, "connection_failures", raw.connection_failures),
            (Kind::CircuitBreakerTrips, "circuit_breaker_trips", raw.circuit_breaker_trips),
            (Kind::Denials, "denials", raw.denials),
        ] {
            if let Some(value) = value {
                arm.failures.push((kind, count(name, value)?));
            }
        }
        if let Some(buckets) = raw.latency_ms.filter(|buckets| !buckets.is_empty()) {
            (arm.timed, arm.slow) = histogram(&buckets)?;
        }
        Ok(arm)
    }
}

fn count(name: &str, value: f64) -> Result<u64, String> {
    let is_count = (0.0..=LARGEST_COUNT).contains(&value);
    if is_count { Ok(value.round() as u64) } else { Err(format!("{name} is an increase of 0 or more, not {value}")) }
}

/// All that were timed, and how many took longer than each finite edge.
fn histogram(buckets: &BTreeMap<String, f64>) -> Result<(u64, Vec<(f64, u64)>), String> {
    let mut counts = Vec::new();
    for (edge, value) in buckets {
        let parsed = if edge == "+Inf" { Some(f64::INFINITY) } else { edge.parse().ok() };
        let parsed = parsed.filter(|edge: &f64| *edge >= 0.0);
        let upper = parsed.ok_or_else(|| format!("{edge:?} is not an edge in milliseconds or \"+Inf\""))?;
        counts.push((upper, count(edge, *value)?));
    }
    counts.sort_by(|a, b| a.0.total_cmp(&b.0));
    if counts.last().is_none_or(|(edge, _)| *edge != f64::INFINITY) {
        return Err("latency_ms has no bucket \"+Inf\"".to_owned());
    }
    // Cumulative counts never fall; counts of their own that never fall either would be a strange histogram.
    let is_cumulative = counts.is_sorted_by_key(|(_, count)| *count);
    let all = if is_cumulative { counts.last().map_or(0, |last| last.1) } else { counts.iter().map(|one| one.1).sum() };
    let mut below = 0;
    let mut beyond = |(edge, count): &(f64, u64)| {
        below = if is_cumulative { *count } else { below + count };
        (*edge, all - below)
    };
    Ok((all, counts.iter().filter(|(edge, _)| edge.is_finite()).map(&mut beyond).collect()))
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Verdict { t: f64, verdict: &'static str, evidence: f64, bound: f64, reason: String, required_requests: u64 },
    Error { line: u64, column: usize, error: String },
}

/// Where a line cannot be used, and why.
type Wrong = (usize, String);

/// Reads until the end of the input, and answers each line.
///
/// # Errors
/// If the input cannot be read, or an answer cannot be written.
pub fn answer_all(mut input: impl BufRead, mut output: impl Write, options: JudgeOptions) -> io::Result<()> {
    let mut session = Session { judge: Judge::new(options, true), options, weight: None, last: None, kinds: None };
    for line in 1_u64.. {
        let Some(text) = next_line(&mut input)? else { break };
        let answer = match text.map_err(|why| (1, why)).and_then(|text| session.answer(&text)) {
            Ok(answer) => answer,
            Err((column, error)) => Answer::Error { line, column, error },
        };
        serde_json::to_writer(&mut output, &answer)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

/// The next line; `Err` within if it is too long (the rest of it is skipped).
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Result<Vec<u8>, String>>> {
    let mut text = Vec::new();
    if input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text)? == 0 {
        return Ok(None);
    }
    let mut is_whole = text.ends_with(b"\n") || (text.len() as u64) < LONGEST_LINE;
    if is_whole {
        return Ok(Some(Ok(text)));
    }
    while !is_whole {
        let mut rest = Vec::new();
        let read = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut rest)?;
        is_whole = read == 0 || rest.ends_with(b"\n");
    }
    Ok(Some(Err(format!("a line has at most {LONGEST_LINE} bytes"))))
}

/// One deployment.
struct Session {
    judge: Judge,
    options: JudgeOptions,
    weight: Option<Weight>,
    /// End of the last tick.
    last: Option<f64>,
    /// Failures that are judged; `None` before the first tick with data.
    kinds: Option<Vec<Kind>>,
}

impl Session {
    fn answer(&mut self, text: &[u8]) -> Result<Answer, Wrong> {
        let line: Line = serde_json::from_slice(text).map_err(|error| {
            let why = error.to_string();
            let why = why.split_once(" at line ").map_or(why.as_str(), |(why, _)| why).to_owned();
            (error.column().max(1), why)
        })?;
        let start = self.last.unwrap_or(line.t - FIRST_TICK_S);
        let (Some(begin), Some(end)) = (moment(start), moment(line.t)) else {
            return Err((column_of(text, "t"), format!("t is no time in seconds: {}", line.t)));
        };
        if end <= begin {
            return Err((column_of(text, "t"), format!("t must grow: {} after {start}", line.t)));
        }
        self.last = Some(line.t);
        if self.weight != Some(line.weight) {
            self.judge.begin_step(line.weight);
            self.weight = Some(line.weight);
        }
        let missing = if line.provider_error { None } else { missing(&line) };
        if !line.provider_error && missing.is_none() {
            self.observe(begin, end, line.canary.unwrap_or_default(), line.control.unwrap_or_default());
        }
        Ok(self.verdict(line.t, line.provider_error, missing))
    }

    fn observe(&mut self, start: Timestamp, end: Timestamp, canary: Arm, control: Arm) {
        let sample = TickSample {
            end,
            canary_requests: canary.requests,
            canary_errors: canary.errors,
            control_requests: control.requests,
            control_errors: control.errors,
        };
        let slow = slow_tick(sample, &canary, &control);
        let is_counted = |kind: &Kind| canary.failures(*kind).or(control.failures(*kind)).is_some();
        let kinds = self.kinds.get_or_insert_with(|| Kind::ALL.into_iter().filter(is_counted).collect());
        let of = |arm: &Arm, kind| arm.failures(kind).unwrap_or_default();
        let count = |kind: &Kind| Count { kind: *kind, canary: of(&canary, *kind), control: of(&control, *kind) };
        let counts: Vec<Count> = kinds.iter().map(count).collect();
        self.judge.observe_all(&Tick { start, sample }, slow.as_ref(), &counts);
    }

    /// A regression stays one, whatever is missing now.
    fn verdict(&self, t: f64, provider_error: bool, missing: Option<String>) -> Answer {
        let judgement = self.judge.judgement();
        let (verdict, reason) = match missing {
            _ if self.judge.is_regression() => (judgement.verdict, judgement.explanation.clone()),
            _ if provider_error => (Verdict::ProviderError, "the provider of the metrics failed".to_owned()),
            Some(missing) => (Verdict::NoData, missing),
            None => (judgement.verdict, judgement.explanation.clone()),
        };
        Answer::Verdict {
            t,
            verdict: verdict.name(),
            evidence: judgement.evidence().min(MAX_EVIDENCE),
            bound: self.options.alpha.recip(),
            reason,
            required_requests: judgement.required_requests,
        }
    }
}

/// Which arm has no data although it should. At weight 0 no canary is needed, at 100 % no control.
fn missing(line: &Line) -> Option<String> {
    let canary = line.canary.is_none() && line.weight != Weight::ZERO;
    let control = line.control.is_none() && line.weight != Weight::FULL;
    match (canary, control) {
        (false, false) => None,
        (true, false) => Some("there is no data of the canary in this tick".to_owned()),
        (false, true) => Some("there is no data of the control in this tick".to_owned()),
        (true, true) => Some("there is no data in this tick, neither of the canary nor of the control".to_owned()),
    }
}

/// The edges that both arms have.
fn slow_tick(sample: TickSample, canary: &Arm, control: &Arm) -> Option<SlowTick> {
    let requests = TickSample { canary_requests: canary.timed, control_requests: control.timed, ..sample };
    let mut slow = SlowTick { requests, edges_ms: Vec::new(), canary: Vec::new(), control: Vec::new() };
    for (edge, beyond) in &control.slow {
        // An arm without a request in the tick may send an empty histogram.
        let of_canary = canary.slow.iter().find(|(other, _)| other == edge).map(|(_, beyond)| *beyond);
        let Some(of_canary) = of_canary.or((canary.timed == 0).then_some(0)) else { continue };
        slow.edges_ms.push(*edge);
        slow.canary.push(of_canary);
        slow.control.push(*beyond);
    }
    (!slow.edges_ms.is_empty()).then_some(slow)
}

fn moment(seconds: f64) -> Option<Timestamp> {
    let milliseconds = (seconds.abs() <= LATEST_S).then(|| (seconds * 1000.0).round() as i64)?;
    Timestamp::from_millisecond(milliseconds).ok()
}

/// Where a field's name begins, counted from 1.
fn column_of(text: &[u8], field: &str) -> usize {
    let name = format!("\"{field}\"");
    text.windows(name.len()).position(|window| window == name.as_bytes()).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests;
