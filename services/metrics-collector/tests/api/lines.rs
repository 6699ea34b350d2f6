//! The command that judges lines of JSON, run as a program, beside the RPC that judges the same ticks.

use std::process::Stdio;

use meshward_proto::metrics::v1 as proto;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{
    history::{START, TICK, at},
    world::{Source, World},
};
use crate::PATIENCE;

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshward-judge-bench"));
    command.arg("judge").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// The program, asked line by line.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    fn begin() -> Self {
        let mut child = command().spawn().expect("it starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, input, output }
    }

    /// The answer to a line; nothing is written before it is there.
    async fn ask(&mut self, line: &str) -> Value {
        self.input.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
        let answer = timeout(PATIENCE, self.output.next_line()).await.expect("it answers before it reads on");
        serde_json::from_str(&answer.expect("text").expect("a line")).expect("JSON")
    }

    /// Ends the input, and expects no more output.
    async fn end(mut self) {
        drop(self.input);
        assert_eq!(timeout(PATIENCE, self.output.next_line()).await.expect("it ends").expect("text"), None);
        assert!(timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("a status").success());
    }
}

#[tokio::test]
async fn whoever_waits_for_an_answer_before_the_next_line_gets_it() {
    let tick = |t: u32, errors: u32| {
        let arm = |requests: u32, errors: u32| {
            let latencies = json!({"50": requests - 10, "250.5": 9, "+Inf": 1});
            json!({"requests": requests, "errors": errors, "latency_ms": latencies})
        };
        json!({"t": t, "weight": 1000, "canary": arm(200, errors), "control": arm(1800, 2)}).to_string()
    };
    let mut talk = Talk::begin();
    let good = talk.ask(&tick(15, 0)).await;
    let keys: Vec<&str> = good.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["bound", "evidence", "reason", "required_requests", "t", "verdict"]);
    assert_eq!((&good["t"], &good["bound"]), (&json!(15.0), &json!(100.0)));
    for (line, verdict) in [
        (tick(30, 0), "HEALTHY"),
        (
            json!({"t": 45, "weight": 1000, "canary": null, "control": {"requests": 9, "errors": 0}}).to_string(),
            "NO_DATA",
        ),
        (json!({"t": 60, "weight": 1000, "provider_error": true}).to_string(), "PROVIDER_ERROR"),
        (tick(75, 50), "WATCHING"),
        (tick(90, 50), "REGRESSION"),
    ] {
        let answer = talk.ask(&line).await;
        assert_eq!(answer["verdict"], verdict, "{line}: {answer}");
    }
    let wrong = talk.ask("{\"t\": 105, \"weight\": 1000, \"canary\": 7}").await;
    assert_eq!(wrong["line"], 7, "{wrong}");
    assert!(wrong["error"].as_str().is_some_and(|error| error.contains("invalid type: integer `7`")), "{wrong}");
    assert_eq!(talk.ask(&tick(105, 0)).await["verdict"], "REGRESSION", "it goes on after a line that it cannot use");
    talk.end().await;
}

#[tokio::test]
async fn a_file_is_answered_as_the_same_lines_are() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("ticks.jsonl");
    let lines: Vec<String> = (0..22).map(|index| line(index, Worse::Errors)).collect();
    std::fs::write(&file, lines.join("\n")).expect("written");
    let output = timeout(PATIENCE, command().arg(&file).output()).await.expect("it ends").expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let of_file: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(of_file, answers(Worse::Errors).await);
    let missing = timeout(PATIENCE, command().arg("none.jsonl").output()).await.expect("it ends").expect("it runs");
    assert!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("none.jsonl: No such file"));
}

/// In what the canary is worse.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Worse {
    Nothing,
    Errors,
    Latencies,
    Denials,
}

/// Ticks before the change.
const BEFORE: i64 = 10;

/// One arm in one tick.
struct Arm {
    errors: i64,
    /// Up to 100 ms, up to 500 ms, longer.
    buckets: [i64; 3],
    denials: i64,
}

fn arms(index: i64, worse: Worse) -> (Arm, Arm) {
    let is = |what| index >= BEFORE && worse == what;
    let slow = if is(Worse::Latencies) { 90 } else { 10 };
    let canary = Arm {
        errors: if is(Worse::Errors) { 20 } else { index % 2 },
        buckets: [200 - slow, slow, 1],
        denials: if is(Worse::Denials) { 30 } else { 0 },
    };
    let control = Arm { errors: 3 + index % 3, buckets: [1700 + index % 5, 100 + index % 4, 9], denials: index % 2 };
    (canary, control)
}

fn weight(index: i64) -> i32 {
    if index < BEFORE { 0 } else { 1000 }
}

fn line(index: i64, worse: Worse) -> String {
    let (canary, control) = arms(index, worse);
    let arm = |arm: Arm| {
        let [fast, slow, slower] = arm.buckets;
        json!({"requests": fast + slow + slower, "errors": arm.errors, "denials": arm.denials,
               "latency_ms": {"100": fast, "500": slow, "+Inf": slower}})
    };
    let t = START + (index + 1) * TICK;
    json!({"t": t, "weight": weight(index), "canary": arm(canary), "control": arm(control)}).to_string()
}

async fn answers(worse: Worse) -> Vec<Value> {
    let mut talk = Talk::begin();
    let mut answers = Vec::new();
    for index in 0..22 {
        answers.push(talk.ask(&line(index, worse)).await);
    }
    talk.end().await;
    answers
}

fn recorded(worse: Worse) -> proto::ReplayAnalysisRequest {
    let mut request = proto::ReplayAnalysisRequest {
        periods: vec![
            proto::WeightPeriod { start_time: Some(at(0)), weight_bp: 0 },
            proto::WeightPeriod { start_time: Some(at(BEFORE)), weight_bp: 1000 },
        ],
        ..Default::default()
    };
    for index in 0..22 {
        let (canary, control) = arms(index, worse);
        request.samples.push(proto::TickSample {
            end_time: Some(at(index + 1)),
            canary_requests: canary.buckets.iter().sum(),
            canary_errors: canary.errors,
            control_requests: control.buckets.iter().sum(),
            control_errors: control.errors,
        });
        let counts = |arm: &Arm| proto::FailureCounts { denials: Some(arm.denials), ..Default::default() };
        let bucket = |(at, upper_edge_ms): (usize, f64)| proto::LatencyBucket {
            upper_edge_ms,
            canary: canary.buckets[at],
            control: control.buckets[at],
        };
        request.details.push(proto::TickDetails {
            latencies: [100.0, 500.0, f64::INFINITY].into_iter().enumerate().map(bucket).collect(),
            canary: Some(counts(&canary)),
            control: Some(counts(&control)),
        });
    }
    request
}

#[tokio::test]
async fn the_rpc_and_the_command_are_one_judge() {
    let world = World::with(Source::Address("http://127.0.0.1:1".to_owned())).await;
    for (worse, verdict, reason) in [
        (Worse::Nothing, "HEALTHY", " errors in "),
        (Worse::Errors, "REGRESSION", " errors in "),
        (Worse::Latencies, "REGRESSION", "took longer than 100 ms"),
        (Worse::Denials, "REGRESSION", " denied requests in "),
    ] {
        let request = world.request(recorded(worse));
        let analyses = world.client().replay_analysis(request).await.expect("a replay").into_inner().analyses;
        let answers = answers(worse).await;
        assert_eq!(analyses.len(), answers.len());
        for (index, (analysis, answer)) in analyses.iter().zip(&answers).enumerate() {
            let said = answer["verdict"].as_str().expect("a verdict");
            assert_eq!(analysis.verdict().as_str_name(), format!("VERDICT_{said}"), "{worse:?}, tick {index}");
            assert_eq!(answer["reason"], analysis.explanation, "{worse:?}, tick {index}");
            assert_eq!(answer["evidence"], analysis.evidence, "{worse:?}, tick {index}");
            assert_eq!(answer["required_requests"], analysis.required_requests, "{worse:?}, tick {index}");
        }
        let last = answers.last().expect("twenty-two");
        assert_eq!(last["verdict"], verdict, "{worse:?}: {last}");
        assert!(last["reason"].as_str().is_some_and(|text| text.contains(reason)), "{worse:?}: {last}");
    }
}
