//! The stream of WatchTrafficMetrics. A source that fails is told in a message and does not end it: who watches through
//! an outage wants to see its end, too.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream, stream::BoxStream};
use meshward_chassis::{clock::Clock, problem::Problem};
use meshward_proto::{metrics::v1 as proto, timestamp};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::convert::WatchRequest;
use crate::{app::Collector, error::Error};

pub(super) type TrafficStream = BoxStream<'static, Result<proto::WatchTrafficMetricsResponse, Status>>;

/// One watcher.
pub(super) struct Watcher {
    collector: Collector,
    clock: Arc<dyn Clock>,
    wanted: WatchRequest,
    shutdown: CancellationToken,
}

impl Watcher {
    pub(super) fn new(
        collector: Collector,
        clock: Arc<dyn Clock>,
        wanted: WatchRequest,
        shutdown: CancellationToken,
    ) -> Self {
        Self { collector, clock, wanted, shutdown }
    }

    /// The first message comes at once. An answer that takes longer than the interval puts the next one off; nothing
    /// piles up. Ends without an error when the server shuts down.
    pub(super) fn into_stream(self) -> TrafficStream {
        let ticks = every(self.wanted.interval);
        stream::try_unfold((self, ticks), |(watcher, mut ticks)| async move {
            let next = async {
                ticks.tick().await;
                watcher.look().await
            };
            let message = tokio::select! {
                () = watcher.shutdown.cancelled() => return Ok(None),
                message = next => message.map_err(Problem::from)?,
            };
            Ok(Some((message, (watcher, ticks))))
        })
        .boxed()
    }

    async fn look(&self) -> Result<proto::WatchTrafficMetricsResponse, Error> {
        let end = self.clock.now();
        let empty = proto::WatchTrafficMetricsResponse {
            observed_share: f64::NAN,
            end_time: Some(timestamp(end)),
            ..proto::WatchTrafficMetricsResponse::default()
        };
        match self.collector.traffic(&self.wanted.target, end, self.wanted.window).await {
            Ok(report) => Ok(proto::WatchTrafficMetricsResponse {
                canary: Some(report.canary.into()),
                control: Some(report.control.into()),
                observed_share: report.observed_share.unwrap_or(f64::NAN),
                ..empty
            }),
            Err(Error::Source(error)) => Ok(proto::WatchTrafficMetricsResponse { problem: error.to_string(), ..empty }),
            Err(error) => Err(error),
        }
    }
}

fn every(length: Duration) -> Interval {
    let mut ticks = interval(length);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
