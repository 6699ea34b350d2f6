use std::cell::RefCell;

use super::*;

fn answers(input: &str) -> Vec<serde_json::Value> {
    let mut output = Vec::new();
    answer_all(input.as_bytes(), &mut output, JudgeOptions::default()).expect("memory can be written");
    let text = String::from_utf8(output).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("an answer is JSON")).collect()
}

fn tick(t: u32, weight: u32, canary: (u32, u32), control: (u32, u32)) -> String {
    format!(
        "{{\"t\": {t}, \"weight\": {weight}, \"canary\": {{\"requests\": {}, \"errors\": {}}}, \
         \"control\": {{\"requests\": {}, \"errors\": {}}}}}\n",
        canary.0, canary.1, control.0, control.1
    )
}

#[test]
fn each_line_has_its_verdict() {
    let mut input =
        String::from("{\"t\": 15, \"weight\": 0, \"canary\": null, \"control\": {\"requests\": 900, \"errors\": 1}}\n");
    input += &tick(30, 1000, (150, 0), (1350, 1));
    input += &tick(45, 1000, (150, 0), (1350, 1));
    input += "{\"t\": 60, \"weight\": 1000, \"provider_error\": true}\n";
    input += "{\"t\": 75, \"weight\": 1000, \"canary\": null, \"control\": {\"requests\": 900, \"errors\": 1}}\n";
    input += &tick(90, 1000, (150, 0), (1350, 1));
    input += &tick(105, 1000, (150, 40), (1350, 1));
    input += &tick(120, 1000, (150, 40), (1350, 1));
    input += "{\"t\": 135, \"weight\": 1000, \"provider_error\": true}\n";
    let answers = answers(&input);
    let verdicts: Vec<&str> = answers.iter().map(|answer| answer["verdict"].as_str().expect("a verdict")).collect();
    assert_eq!(
        verdicts,
        [
            "NO_TRAFFIC",
            "WATCHING",
            "HEALTHY",
            "PROVIDER_ERROR",
            "NO_DATA",
            "HEALTHY",
            "WATCHING",
            "REGRESSION",
            "REGRESSION"
        ]
    );
    assert_eq!(answers[4]["reason"], "there is no data of the canary in this tick");
    let last = &answers[7];
    assert_eq!((last["t"].as_f64(), last["bound"].as_f64()), (Some(120.0), Some(100.0)));
    assert!(last["evidence"].as_f64().is_some_and(|evidence| evidence > 100.0), "{last}");
    assert!(
        last["reason"]
            .as_str()
            .is_some_and(|reason| reason.starts_with("80 errors in 750 canary requests, 5 in 6,750")),
        "{last}"
    );
}

#[test]
fn a_bad_line_is_answered_with_its_place_and_changes_nothing() {
    let good = tick(15, 1000, (400, 0), (3600, 3));
    let long = "x".repeat(LONGEST_LINE as usize + 5);
    let cases: &[(&str, u64, &str)] = &[
        ("", 1, "EOF while parsing a value"),
        ("{\"t\": 30, \"weight\": 1000,, }", 26, "key must be a string"),
        ("{\"t\": 30}", 9, "missing field `weight`"),
        ("{\"t\": 30, \"weight\": 10001}", 26, "a weight is 0 to 10000 basis points, not 10001"),
        ("{\"weight\": 1000, \"t\": 15}", 18, "t must grow: 15 after 15"),
        ("{\"t\": 1e300, \"weight\": 1000}", 2, "t is no time in seconds"),
        (
            "{\"t\": 30, \"weight\": 1000, \"canary\": {\"requests\": 3, \"errors\": 4}, \"control\": null}",
            64,
            "4 errors in 3 requests",
        ),
        (
            "{\"t\": 30, \"weight\": 1000, \"canary\": {\"requests\": -3, \"errors\": 0}}",
            66,
            "requests is an increase of 0 or more, not -3",
        ),
        (&long, 1, "a line has at most 1048576 bytes"),
    ];
    for (line, column, error) in cases {
        let answers = answers(&format!("{good}{line}\n{}", tick(30, 1000, (10, 0), (90, 0))));
        assert_eq!(answers.len(), 3, "{error}");
        assert_eq!(answers[1]["line"], 2, "{error}: {}", answers[1]);
        assert_eq!(answers[1]["column"], *column, "{error}: {}", answers[1]);
        assert!(answers[1]["error"].as_str().is_some_and(|text| text.starts_with(error)), "{error}: {}", answers[1]);
        assert_eq!(answers[2]["verdict"], "HEALTHY", "{error}: the line after it is judged: {}", answers[2]);
    }
}

#[test]
fn latencies_are_judged_whether_buckets_are_cumulative_or_not() {
    let buckets = |cumulative: bool, [fast, slow, slower]: [u32; 3]| {
        let counts = if cumulative { [fast, fast + slow, fast + slow + slower] } else { [fast, slow, slower] };
        format!("{{\"100\": {}, \"500.0\": {}, \"+Inf\": {}}}", counts[0], counts[1], counts[2])
    };
    let arm = |cumulative: bool, counts: [u32; 3]| {
        let requests: u32 = counts.iter().sum();
        format!("{{\"requests\": {requests}, \"errors\": 0, \"latency_ms\": {}}}", buckets(cumulative, counts))
    };
    for cumulative in [true, false] {
        let mut input = String::new();
        for index in 1..30 {
            let (weight, slow) = if index < 20 { (0, 10) } else { (1000, 60) };
            let canary = arm(cumulative, [190 - slow, slow, 1]);
            let control = arm(cumulative, [1700 + index % 3 * 20, 100 + index % 3, 9]);
            input += &format!(
                "{{\"t\": {}, \"weight\": {weight}, \"canary\": {canary}, \"control\": {control}}}\n",
                index * 15
            );
        }
        let last = answers(&input).pop().expect("an answer");
        assert_eq!(last["verdict"], "REGRESSION", "{last}");
        assert!(last["reason"].as_str().is_some_and(|reason| reason.contains("took longer than 100 ms")), "{last}");
    }
}

/// Gives one line at a time, and notes how many were answered when the next was asked for.
struct Slow<'a> {
    input: &'a [u8],
    written: &'a RefCell<Vec<u8>>,
    answered: Vec<usize>,
}

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let answered = self.written.borrow().iter().filter(|byte| **byte == b'\n').count();
        self.answered.push(answered);
        let Some(end) = self.input.iter().position(|byte| *byte == b'\n') else { return Ok(0) };
        let (line, rest) = self.input.split_at(end + 1);
        into[..line.len()].copy_from_slice(line);
        self.input = rest;
        Ok(line.len())
    }
}

struct Shared<'a>(&'a RefCell<Vec<u8>>);

impl Write for Shared<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_line_is_answered_before_the_next_is_read() {
    let input: String = (1..=3).map(|index| tick(index * 15, 1000, (150, 0), (1350, 1))).collect();
    let written = RefCell::new(Vec::new());
    let mut slow = Slow { input: input.as_bytes(), written: &written, answered: Vec::new() };
    answer_all(io::BufReader::new(&mut slow), Shared(&written), JudgeOptions::default()).expect("no error");
    assert_eq!(slow.answered, [0, 1, 2, 3], "how many answers there were at each reading");
}
