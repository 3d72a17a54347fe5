//! Asks the cores that own what a request names.

use std::future::Future;

use ringlog_types::CoreId;
use tokio::task::JoinSet;

use crate::kafka::limits::STEP_PARTITIONS;
use crate::kafka::topic_ref::TopicRef;
use crate::node::core::CoreHandle;
use crate::node::errand::Unanswered;

/// Has something done on a core: here, if it is this one.
///
/// Cancellation: the work ends at its next wait; what it has logged stays.
///
/// # Errors
/// When that core stops.
pub async fn at<R, F, Fut>(core: &CoreHandle, owner: CoreId, work: F) -> Result<R, Unanswered>
where
    F: FnOnce(CoreHandle) -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    if owner == core.id() {
        return Ok(work(core.clone()).await);
    }
    core.door(owner).ask_in_turn(work).await
}

/// The same on several cores at a time; answers in the order of the work.
///
/// # Errors
/// When one of the cores stops.
pub async fn at_each<R, F, Fut>(
    core: &CoreHandle,
    work: Vec<(CoreId, F)>,
) -> Result<Vec<R>, Unanswered>
where
    F: FnOnce(CoreHandle) -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    let mut answers: Vec<Option<R>> = Vec::new();
    answers.resize_with(work.len(), || None);
    let mut asked = JoinSet::new();
    for (place, (owner, work)) in work.into_iter().enumerate() {
        let core = core.clone();
        asked.spawn_local(async move { (place, at(&core, owner, work).await) });
    }
    while let Some(ended) = asked.join_next().await {
        let (place, answer) = ended.map_err(|_| Unanswered::Gone)?;
        answers[place] = Some(answer?);
    }
    Ok(answers.into_iter().flatten().collect())
}

/// The owner of each partition that a request names, in its order. Who asks for a partition that
/// nobody owns is told so by this core.
pub async fn owners<'a>(
    core: &CoreHandle,
    named: impl Iterator<Item = (&'a TopicRef, i32)>,
) -> Vec<CoreId> {
    let mut named = named.peekable();
    let mut owners = Vec::new();
    while named.peek().is_some() {
        if !owners.is_empty() {
            tokio::task::yield_now().await;
        }
        core.with(|state| {
            for (topic, index) in named.by_ref().take(STEP_PARTITIONS) {
                let log = topic.find(&state.topics).and_then(|topic| {
                    let index = usize::try_from(index).ok()?;
                    topic.partitions.get(index).copied()
                });
                owners.push(log.map_or(core.id(), |log| core.topology().log_owner(log)));
            }
        });
    }
    owners
}

/// Each owner once, in the order in which they come.
#[must_use]
pub fn distinct(owners: &[CoreId]) -> Vec<CoreId> {
    let mut distinct = Vec::new();
    for owner in owners {
        if !distinct.contains(owner) {
            distinct.push(*owner);
        }
    }
    distinct
}

/// Puts answers of several owners in the order of what was asked: `owners` of each, and of each of
/// `distinct` its answers in their order. Ends early where an owner answered too little.
pub fn in_order<T>(owners: &[CoreId], distinct: &[CoreId], answers: Vec<Vec<T>>) -> Vec<T> {
    let mut answers: Vec<_> = answers.into_iter().map(Vec::into_iter).collect();
    let next = owners.iter().map_while(|owner| {
        let place = distinct.iter().position(|known| known == owner)?;
        answers.get_mut(place)?.next()
    });
    next.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_several_owners_are_put_in_the_order_of_the_request() {
        let owners = [2, 0, 2, 1, 0].map(CoreId);
        let distinct = distinct(&owners);
        assert_eq!(distinct, [2, 0, 1].map(CoreId));
        let answers = vec![vec!["a", "c"], vec!["b", "e"], vec!["d"]];
        assert_eq!(
            in_order(&owners, &distinct, answers),
            ["a", "b", "c", "d", "e"]
        );
        assert_eq!(in_order(&owners, &distinct, vec![vec!["a"]]), ["a"]);
    }
}
