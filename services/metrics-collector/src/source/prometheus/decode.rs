//! The answers of the HTTP API.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;

use crate::window::Series;

/// A matrix, and what Prometheus remarked.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub series: Vec<Series>,
    pub warnings: Vec<String>,
}

/// Why there is no matrix.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Prometheus said why.
    Refused(String),
    /// It is not what Prometheus says.
    Malformed(String),
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Reply {
    Success {
        data: Data,
        #[serde(default)]
        warnings: Vec<String>,
    },
    Error {
        #[serde(rename = "errorType")]
        kind: String,
        error: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Row {
    metric: BTreeMap<String, String>,
    /// Absent for a series of native histograms only.
    #[serde(default)]
    values: Vec<Point>,
}

/// Seconds, and the value as text, because JSON knows neither NaN nor infinity.
#[derive(Deserialize)]
struct Point(f64, Text);

type Text = Cow<'static, str>;

/// Reads the reply to a range query, whatever its HTTP status was.
pub(super) fn matrix(body: &[u8]) -> Result<Answer, Unreadable> {
    let malformed = |reason: String| Unreadable::Malformed(reason);
    let reply = serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
    let (data, warnings) = match reply {
        Reply::Success { data, warnings } => (data, warnings),
        Reply::Error { kind, error } => return Err(Unreadable::Refused(format!("{kind}: {error}"))),
    };
    if data.result_type != "matrix" {
        return Err(malformed(format!("a matrix was asked for, not a {}", data.result_type)));
    }
    let rows: Vec<Row> = serde_json::from_value(data.result).map_err(|error| malformed(error.to_string()))?;
    let series = rows.into_iter().map(series).collect::<Result<_, _>>().map_err(malformed)?;
    Ok(Answer { series, warnings })
}

fn series(row: Row) -> Result<Series, String> {
    let point = |Point(time, value): Point| match value.parse() {
        Ok(number) => Ok(((time * 1000.0).round() as i64, number)),
        Err(_) => Err(format!("{value:?} is no number")),
    };
    Ok(Series { labels: row.metric, points: row.values.into_iter().map(point).collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn success(result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":{result}}}}}"#)
    }

    #[test]
    fn a_matrix_with_the_values_that_json_does_not_know() {
        let body = success(
            r#"[{"metric":{"__name__":"a","le":"+Inf"},
                 "values":[[1.0015,"12"],[2,"NaN"],[3,"+Inf"],[4,"-Inf"],[5,"1.5e3"]]},
                {"metric":{},"histograms":[]}]"#,
        );
        let answer = matrix(body.as_bytes()).expect("a matrix");
        assert_eq!(answer.series[0].label("le"), "+Inf");
        let points = &answer.series[0].points;
        assert_eq!((points[0], points[2], points[4]), ((1002, 12.0), (3000, f64::INFINITY), (5000, 1500.0)));
        assert!(points[1].1.is_nan() && points[3].1 == f64::NEG_INFINITY);
        assert!(answer.series[1].points.is_empty() && answer.warnings.is_empty());
        assert_eq!(matrix(success("[]").as_bytes()), Ok(Answer::default()));
    }

    #[test]
    fn warnings_and_errors_are_kept() {
        let warned = r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["store down"]}"#;
        assert_eq!(matrix(warned.as_bytes()).expect("a matrix").warnings, ["store down"]);
        let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
        assert_eq!(matrix(refused.as_bytes()), Err(Unreadable::Refused("bad_data: parse error".to_owned())));
    }

    #[test]
    fn anything_else_is_malformed() {
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        for body in [
            "",
            "<html>",
            "{}",
            vector,
            &success("{}"),
            &success(r#"[{"metric":{},"values":[[1,"many"]]}]"#),
            &success(r#"[{"metric":{},"values":[[1,2]]}]"#),
        ] {
            assert!(matches!(matrix(body.as_bytes()), Err(Unreadable::Malformed(_))), "{body}");
        }
    }
}
