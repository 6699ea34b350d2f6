//! The events of a watch: one JSON document a line, for as long as the connection lives.

use futures::{StreamExt as _, stream};
use http_body_util::{BodyDataStream, BodyExt as _};
use kube::client::Body;
use meshward_chassis::problem::chain;
use serde_json::Value;

use super::super::{Change, Changes, ClusterError};

/// More than any object: etcd takes 1.5 MB.
const LONGEST_LINE: usize = 8 * 1024 * 1024;

/// What a bookmark carries that comes after all that there was at the beginning.
const END_OF_FIRST: &str = "k8s.io/initial-events-end";

/// What has arrived and was not handed on yet.
struct Lines {
    body: BodyDataStream<Body>,
    waiting: Vec<u8>,
    /// Up to here there is no end of a line.
    searched: usize,
}

/// The changes that a body tells; the last item is the error that ended it, if one did.
pub(super) fn read(body: Body) -> Changes {
    let changes = stream::unfold(Some(Lines::of(body)), |lines| async {
        let mut lines = lines?;
        match lines.next().await? {
            Ok(line) => match event(&line).and_then(told) {
                Ok(change) => Some((Ok(change), Some(lines))),
                Err(error) => Some((Err(error), None)),
            },
            Err(error) => Some((Err(error), None)),
        }
    });
    changes.boxed()
}

/// The objects that a body tells before it says that these are all.
pub(super) async fn first(body: Body) -> Result<Vec<Value>, ClusterError> {
    let (mut lines, mut objects) = (Lines::of(body), Vec::new());
    while let Some(line) = lines.next().await {
        let event = event(&line?)?;
        let is_last = event["object"]["metadata"]["annotations"][END_OF_FIRST] == "true";
        match told(event)? {
            Change::Stored(object) => objects.push(object),
            Change::Bookmark(_) if is_last => return Ok(objects),
            Change::Deleted(_) | Change::Bookmark(_) => {}
        }
    }
    Err(ClusterError::Unreachable("a watch ended before it had told what there is".to_owned()))
}

impl Lines {
    fn of(body: Body) -> Self {
        Self { body: body.into_data_stream(), waiting: Vec::new(), searched: 0 }
    }

    async fn next(&mut self) -> Option<Result<Vec<u8>, ClusterError>> {
        loop {
            if let Some(end) = self.waiting[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.waiting.split_off(self.searched + end + 1);
                let line = std::mem::replace(&mut self.waiting, rest);
                self.searched = 0;
                return Some(Ok(line));
            }
            self.searched = self.waiting.len();
            if self.searched > LONGEST_LINE {
                return Some(Err(ClusterError::Unreachable("an event of a watch is too long".to_owned())));
            }
            match self.body.next().await? {
                Ok(bytes) => self.waiting.extend_from_slice(&bytes),
                Err(error) => return Some(Err(ClusterError::Unreachable(chain(&error)))),
            }
        }
    }
}

fn no_event() -> ClusterError {
    ClusterError::Unreachable("a line of a watch is no event".to_owned())
}

fn event(line: &[u8]) -> Result<Value, ClusterError> {
    serde_json::from_slice(line).map_err(|_| no_event())
}

fn told(mut event: Value) -> Result<Change, ClusterError> {
    let object = event["object"].take();
    match event["type"].as_str() {
        Some("ADDED" | "MODIFIED") => Ok(Change::Stored(object)),
        Some("DELETED") => Ok(Change::Deleted(object)),
        Some("BOOKMARK") => Ok(Change::Bookmark(crate::object::resource_version(&object).to_owned())),
        Some("ERROR") => {
            let message = object["message"].as_str().unwrap_or_default().to_owned();
            Err(if object["code"] == 410 { ClusterError::Expired(message) } else { ClusterError::Unreachable(message) })
        }
        _ => Err(no_event()),
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    async fn all(text: &str) -> Result<Vec<Change>, ClusterError> {
        read(Body::from(text.as_bytes().to_vec())).try_collect().await
    }

    #[tokio::test]
    async fn each_line_is_a_change_and_an_error_is_the_end() {
        let object = |version: &str| serde_json::json!({"metadata": {"resourceVersion": version}});
        let line = |kind: &str, version: &str| format!("{{\"type\":\"{kind}\",\"object\":{}}}\n", object(version));
        let lines = [line("ADDED", "1"), line("MODIFIED", "2"), line("BOOKMARK", "9"), line("DELETED", "10")].concat();
        let cut_off = "{\"type\":\"ADD";
        let expected = [
            Change::Stored(object("1")),
            Change::Stored(object("2")),
            Change::Bookmark("9".into()),
            Change::Deleted(object("10")),
        ];
        assert_eq!(all(&format!("{lines}{cut_off}")).await.unwrap(), expected);
        let error = |code| format!("{lines}{{\"type\":\"ERROR\",\"object\":{{\"code\":{code},\"message\":\"m\"}}}}\n");
        assert_eq!(all(&error(410)).await, Err(ClusterError::Expired("m".into())));
        assert_eq!(all(&error(500)).await, Err(ClusterError::Unreachable("m".into())));
        assert!(all("no JSON\n").await.is_err());
    }

    #[tokio::test]
    async fn what_there_is_ends_with_a_bookmark_that_says_so() {
        let line = |kind: &str, name: &str, notes: Value| {
            let object = serde_json::json!({"metadata": {"name": name, "annotations": notes}});
            format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
        };
        let end = serde_json::json!({END_OF_FIRST: "true"});
        let lines =
            [line("ADDED", "a", Value::Null), line("BOOKMARK", "", Value::Null), line("ADDED", "b", Value::Null)];
        let first_of = |text: String| async move {
            let objects = first(Body::from(text.into_bytes())).await?;
            let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            Ok::<_, ClusterError>(objects.iter().map(name).collect::<String>())
        };
        let more = line("ADDED", "late", Value::Null);
        let whole = [&*lines.concat(), &line("BOOKMARK", "", end.clone()), &more].concat();
        assert_eq!(first_of(whole).await.unwrap(), "ab");
        assert_eq!(first_of(line("BOOKMARK", "", end)).await.unwrap(), "", "there is nothing");
        assert!(first_of(lines.concat()).await.is_err(), "it is not known to be all");
    }
}
