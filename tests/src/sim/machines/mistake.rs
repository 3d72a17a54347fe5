//! Mistakes that the node of the simulator can be told to make, one level above those of the log.

/// A mistake. See where it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The sequences of producers are not in checkpoints.
    ForgetProducers,
    /// Where leader epochs began is not in checkpoints.
    ForgetEpochs,
    /// Topics are not in checkpoints.
    ForgetTopics,
    /// The producer ids handed out are not in checkpoints.
    ForgetProducerIds,
    /// What groups committed is not in checkpoints.
    ForgetGroups,
    /// A producer id is told before the block of ids that it is of is durable.
    TellIdsEarly,
    /// The repeat of a batch is answered although the first copy is not durable.
    AnswerRepeatsEarly,
    /// A batch is acknowledged as written, whatever its topic promises.
    IgnoreDurability,
    /// The records of a commit go into the log one by one.
    SplitCommits,
    /// A member is told its part of an assignment before that is durable.
    TellPartsEarly,
    /// A start does not go on with the members of its groups.
    ForgetMembers,
}

impl Mistake {
    /// All of them, by name.
    pub const ALL: [(&'static str, Mistake); 11] = [
        ("forget-producers", Mistake::ForgetProducers),
        ("forget-epochs", Mistake::ForgetEpochs),
        ("forget-topics", Mistake::ForgetTopics),
        ("forget-producer-ids", Mistake::ForgetProducerIds),
        ("forget-groups", Mistake::ForgetGroups),
        ("tell-ids-early", Mistake::TellIdsEarly),
        ("answer-repeats-early", Mistake::AnswerRepeatsEarly),
        ("ignore-durability", Mistake::IgnoreDurability),
        ("split-commits", Mistake::SplitCommits),
        ("tell-parts-early", Mistake::TellPartsEarly),
        ("forget-members", Mistake::ForgetMembers),
    ];
}
