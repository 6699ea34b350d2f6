//! Another try after an overload, a failure of the server or a lost connection, within one deadline for all tries.
//!
//! A write whose answer was lost may have been done. Repeating it is safe because every write is fenced: the second one
//! is a conflict, and the caller reads again.

use std::{
    error::Error,
    future::Future,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;

use super::super::ClusterError;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const TRIES: u32 = 6;

/// Why one try failed.
#[derive(Debug)]
pub(super) struct Failed {
    /// `Ok` = for good, with the error; `Err` = for now, with the words for people.
    kind: Result<ClusterError, String>,
    after: Option<Duration>,
}

impl Failed {
    /// Another try would fail as well.
    pub(super) fn for_good(error: ClusterError) -> Self {
        Self { kind: Ok(error), after: None }
    }

    /// Another try may succeed; not before `after`, if the server said so.
    pub(super) fn for_now(why: String, after: Option<Duration>) -> Self {
        Self { kind: Err(why), after }
    }

    /// The connection failed. Says only what went wrong, never what was sent.
    pub(super) fn connection(error: &(dyn Error + 'static)) -> Self {
        Self::for_now(meshward_chassis::problem::chain(error), None)
    }

    #[cfg(test)]
    pub(super) fn kind(self) -> Result<ClusterError, String> {
        self.kind
    }
}

/// Tries until it succeeds, fails for good, or the time or the number of tries is used up.
pub(super) async fn within<T, F, Fut>(limit: Duration, mut attempt: F) -> Result<T, ClusterError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Failed>>,
{
    let deadline = Instant::now() + limit;
    let mut why = format!("no answer within {limit:?}");
    for number in 0..TRIES {
        let Ok(result) = tokio::time::timeout_at(deadline, attempt()).await else { break };
        let failed = match result {
            Ok(value) => return Ok(value),
            Err(failed) => failed,
        };
        why = match failed.kind {
            Ok(error) => return Err(error),
            Err(why) => why,
        };
        // A server that says "at once" is not asked without a pause either.
        let pause = failed.after.unwrap_or_default().max(jittered(pause(number)));
        if Instant::now() + pause >= deadline {
            break;
        }
        tracing::debug!(why, number, "the API server is asked again");
        tokio::time::sleep(pause).await;
    }
    Err(ClusterError::Unreachable(why))
}

fn pause(number: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << number.min(10)).min(LONGEST_PAUSE)
}

/// Between half of it and all of it, so that many callers do not come back at the same moment. Chance is taken from the
/// seed of a hash map: nothing depends on it but the moment of a retry.
fn jittered(pause: Duration) -> Duration {
    let chance = u32::try_from(RandomState::new().build_hasher().finish() % 1000).unwrap_or(0);
    pause / 2 + pause.mul_f64(f64::from(chance) / 2000.0)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_may_succeed_is_tried_again_and_what_cannot_is_not() {
        let tries = Cell::new(0);
        let answer = within(Duration::from_secs(30), || {
            tries.set(tries.get() + 1);
            let number = tries.get();
            async move { if number < 3 { Err(Failed::for_now("busy".into(), None)) } else { Ok(number) } }
        });
        assert_eq!(answer.await, Ok(3));

        tries.set(0);
        let answer = within(Duration::from_secs(30), || {
            tries.set(tries.get() + 1);
            async { Err::<(), _>(Failed::for_good(ClusterError::Conflict("c".into()))) }
        });
        assert_eq!(answer.await, Err(ClusterError::Conflict("c".into())));
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test]
    async fn the_time_bounds_a_try_that_hangs() {
        let answer = within(Duration::from_millis(20), std::future::pending::<Result<(), Failed>>);
        assert!(matches!(answer.await, Err(ClusterError::Unreachable(_))));
    }
}
