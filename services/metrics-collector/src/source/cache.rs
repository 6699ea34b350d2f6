//! Asks the same question once: whoever asks it while it is out waits for the one answer, and whoever asks within a
//! moment after gets it, too. Failures are not kept.
//!
//! An analysis asks for whole ticks since the start of its deployment, so all who ask for it within the same tick ask
//! the same question. An answer may then be as old as the cache keeps it, on top of the scrape interval.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use moka::future::Cache;

use super::{Answer, MetricsSource, SourceError, meters::Meter};
use crate::window::{Grid, Series};

/// Bytes of answers that are kept at most, give or take.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Left to the source for saying itself that it was too late.
const SLACK: Duration = Duration::from_millis(100);

type Question = (String, Grid);

/// A source behind a cache.
pub struct Cached<S> {
    inner: S,
    meter: Meter,
    answers: Cache<Question, Answer>,
}

impl<S> Cached<S> {
    /// Keeps answers for `keep`, and counts where they come from.
    pub fn new(inner: S, keep: Duration, meter: Meter) -> Self {
        let answers = Cache::builder().max_capacity(MAX_BYTES).weigher(weight).time_to_live(keep).build();
        Self { inner, meter, answers }
    }
}

fn weight((query, _): &Question, answer: &Answer) -> u32 {
    let labels = |one: &Series| one.labels.iter().map(|(name, value)| name.len() + value.len() + 48).sum::<usize>();
    let bytes = answer.iter().map(|one| labels(one) + 16 * one.points.len()).sum::<usize>() + query.len();
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Somebody who waits for an answer; counted as one who did not ask when the wait is over, however it ends.
struct Waiting<'a>(Option<&'a Meter>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(meter) = self.0 {
            meter.coalesced.inc();
        }
    }
}

#[async_trait]
impl<S: MetricsSource> MetricsSource for Cached<S> {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn range(&self, query: &str, grid: &Grid, deadline: Instant) -> Result<Answer, SourceError> {
        let question = (query.to_owned(), *grid);
        if let Some(answer) = self.answers.get(&question).await {
            self.meter.hits.inc();
            return Ok(answer);
        }
        let waited = deadline.saturating_duration_since(Instant::now());
        let mut counted = Waiting(Some(&self.meter));
        let ask = async {
            // Only one of those who wait for the same question comes here.
            if let Some(meter) = counted.0.take() {
                meter.misses.inc();
            }
            self.inner.range(query, grid, deadline).await
        };
        let answer = self.answers.try_get_with(question, ask);
        match tokio::time::timeout(waited + SLACK, answer).await {
            Ok(answer) => answer.map_err(Arc::unwrap_or_clone),
            Err(_) => Err(SourceError::TimedOut { address: self.address().to_owned(), waited }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    const GRID: Grid = Grid { start_ms: 0, step_ms: 1000, ticks: 3 };

    /// Answers when it may, and fails first if it shall.
    struct Slow {
        asked: AtomicUsize,
        failures: usize,
        may_answer: Semaphore,
    }

    impl Slow {
        fn new(failures: usize, answers: usize) -> Self {
            Self { asked: AtomicUsize::new(0), failures, may_answer: Semaphore::new(answers) }
        }
    }

    #[async_trait]
    impl MetricsSource for Arc<Slow> {
        fn address(&self) -> &str {
            "it"
        }

        async fn range(&self, query: &str, _: &Grid, _: Instant) -> Result<Answer, SourceError> {
            let turn = self.asked.fetch_add(1, Ordering::SeqCst);
            self.may_answer.acquire().await.expect("never closed").forget();
            if turn < self.failures {
                return Err(SourceError::Malformed { address: "it".to_owned(), reason: query.to_owned() });
            }
            Ok(Answer::default())
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[tokio::test]
    async fn the_same_question_is_asked_once() {
        let slow = Arc::new(Slow::new(0, 0));
        let cached = Cached::new(slow.clone(), Duration::from_secs(60), Meter::default());
        let other = Grid { ticks: 4, ..GRID };
        let all = futures::future::join_all((0..100).map(|_| cached.range("a", &GRID, soon())));
        let others = futures::future::join(cached.range("b", &GRID, soon()), cached.range("a", &other, soon()));
        let release = async { slow.may_answer.add_permits(3) };
        let (all, others, ()) = tokio::join!(all, others, release);
        assert!(all.iter().all(Result::is_ok) && others.0.is_ok() && others.1.is_ok());
        assert_eq!(slow.asked.load(Ordering::SeqCst), 3);
        assert!(cached.range("a", &GRID, soon()).await.is_ok(), "no permit is left: it is kept");
        let Meter { hits, misses, coalesced, .. } = &cached.meter;
        assert_eq!((misses.get(), coalesced.get(), hits.get()), (3, 99, 1));
    }

    #[tokio::test]
    async fn a_failure_is_shared_and_not_kept() {
        let slow = Arc::new(Slow::new(1, 0));
        let cached = Cached::new(slow.clone(), Duration::from_secs(60), Meter::default());
        let asked = futures::future::join(cached.range("a", &GRID, soon()), cached.range("a", &GRID, soon()));
        let release = async { slow.may_answer.add_permits(2) };
        let ((first, second), ()) = tokio::join!(asked, release);
        assert!(first.is_err() && first == second);
        assert!(cached.range("a", &GRID, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_past_the_deadline_for_somebody_elses_question() {
        let slow = Arc::new(Slow::new(0, 0));
        let cached = Cached::new(slow.clone(), Duration::from_secs(60), Meter::default());
        let patient = cached.range("a", &GRID, soon());
        tokio::pin!(patient);
        let hasty = cached.range("a", &GRID, Instant::now());
        tokio::select! {
            biased;
            _ = &mut patient => panic!("nobody may answer yet"),
            answer = hasty => assert!(matches!(answer, Err(SourceError::TimedOut { .. })), "{answer:?}"),
        }
        slow.may_answer.add_permits(1);
        assert!(patient.await.is_ok());
    }
}
