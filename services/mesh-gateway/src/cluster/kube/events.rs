//! The events of a watch: one JSON document a line, for as long as the connection lives.

use futures::{StreamExt as _, stream};
use http_body_util::{BodyDataStream, BodyExt as _};
use kube::client::Body;
use meshward_chassis::problem::chain;
use serde_json::Value;

use super::super::{Change, Changes, ClusterError};

/// More than any object: etcd takes 1.5 MB.
const LONGEST_LINE: usize = 8 * 1024 * 1024;

/// What has arrived and was not handed on yet.
struct Lines {
    body: BodyDataStream<Body>,
    waiting: Vec<u8>,
    /// Up to here there is no end of a line.
    searched: usize,
}

/// The changes that a body tells; the last item is the error that ended it, if one did.
pub(super) fn read(body: Body) -> Changes {
    let lines = Lines { body: body.into_data_stream(), waiting: Vec::new(), searched: 0 };
    let changes = stream::unfold(Some(lines), |lines| async {
        let mut lines = lines?;
        match lines.next().await? {
            Ok(line) => match change(&line) {
                Ok(change) => Some((Ok(change), Some(lines))),
                Err(error) => Some((Err(error), None)),
            },
            Err(error) => Some((Err(error), None)),
        }
    });
    changes.boxed()
}

impl Lines {
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

fn change(line: &[u8]) -> Result<Change, ClusterError> {
    let no_event = || ClusterError::Unreachable("a line of a watch is no event".to_owned());
    let mut event: Value = serde_json::from_slice(line).map_err(|_| no_event())?;
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

    async fn told(text: &str) -> Result<Vec<Change>, ClusterError> {
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
        assert_eq!(told(&format!("{lines}{cut_off}")).await.unwrap(), expected);
        let error = |code| format!("{lines}{{\"type\":\"ERROR\",\"object\":{{\"code\":{code},\"message\":\"m\"}}}}\n");
        assert_eq!(told(&error(410)).await, Err(ClusterError::Expired("m".into())));
        assert_eq!(told(&error(500)).await, Err(ClusterError::Unreachable("m".into())));
        assert!(told("no JSON\n").await.is_err());
    }
}
