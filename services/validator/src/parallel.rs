//! Independent work spread over the processors.
//!
//! Objects are judged alone in any order, and among each other without changing the world, so a batch of thousands is cut
//! into shares. The threads live as long as the call, and are never more than the processors or [`MOST`].

use std::{
    num::NonZero,
    sync::{LazyLock, Mutex, PoisonError},
    thread,
};

/// Most threads of one call, the caller's own included: the service judges several texts at a time already.
const MOST: usize = 4;

static PROCESSORS: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));

/// What `work` makes of each item, in their order. Each thread takes the next item as soon as it is done with one.
pub(crate) fn map<I, T, R>(items: I, work: impl Fn(T) -> R + Sync) -> Vec<R>
where
    I: IntoIterator<Item = T, IntoIter: ExactSizeIterator + Send>,
    R: Send,
{
    spread(items, (*PROCESSORS).min(MOST), work)
}

fn spread<I, T, R>(items: I, threads: usize, work: impl Fn(T) -> R + Sync) -> Vec<R>
where
    I: IntoIterator<Item = T, IntoIter: ExactSizeIterator + Send>,
    R: Send,
{
    let items = items.into_iter();
    let threads = threads.min(items.len());
    if threads < 2 {
        return items.map(work).collect();
    }
    let waiting = Mutex::new(items.enumerate());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let take = || std::iter::from_fn(&next).map(|(index, item)| (index, work(item))).collect::<Vec<_>>();
    let mut done = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        let mut done = take();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Barrier};

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..1_000).collect();
        let doubled: Vec<usize> = items.iter().map(|item| item * 2).collect();
        for threads in [0, 1, 2, 7] {
            assert_eq!(spread(&items, threads, |item| item * 2), doubled);
        }
        assert!(map(&[] as &[u8], |item| *item).is_empty());
    }

    #[test]
    fn items_are_worked_on_at_the_same_time() {
        // No item is done before another one has begun.
        let both = Barrier::new(2);
        let threads = spread([1, 2], 2, |_| {
            both.wait();
            thread::current().id()
        });
        assert_eq!(threads.into_iter().collect::<HashSet<_>>().len(), 2);
    }

    #[test]
    #[should_panic(expected = "item 3")]
    fn a_panic_is_the_callers() {
        spread([1, 2, 3], 2, |item| assert!(item < 3, "item {item}"));
    }
}
