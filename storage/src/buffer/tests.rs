//! The promises of the pool: aligned, never shared while mutable, given back, bounded.

use proptest::prelude::*;

use super::*;

const BLOCK: usize = 4096;

#[test]
fn memory_is_aligned_and_rounded_up_to_blocks_in_the_arena_and_beyond() {
    let pool = Pool::new(BLOCK, 4 * BLOCK, 64 * BLOCK);
    let inside = pool.alloc(1).expect("below the limit");
    let beyond = pool.alloc(5 * BLOCK - 7).expect("below the limit");
    for (buf, length) in [(&inside, BLOCK), (&beyond, 5 * BLOCK)] {
        assert_eq!(buf.len(), length);
        assert_eq!(buf.as_ptr().addr() % BLOCK, 0);
        assert!(buf.iter().all(|byte| *byte == 0));
    }
    assert!(inside.registered_in(&pool));
    assert!(!beyond.registered_in(&pool));
    assert_eq!(pool.allocations_beyond_arena(), 1);
    assert_eq!(pool.used_bytes(), 6 * BLOCK);
}

#[test]
fn at_the_limit_there_is_none_until_the_last_reference_goes() {
    let pool = Pool::new(BLOCK, 2 * BLOCK, 3 * BLOCK);
    let first = pool.alloc(2 * BLOCK).expect("below the limit").freeze();
    assert!(pool.alloc(2 * BLOCK).is_none());
    let part = first.slice(10..20);
    drop(first);
    assert!(pool.alloc(2 * BLOCK).is_none(), "a slice keeps its memory");
    drop(part);
    assert_eq!(pool.used_bytes(), 0);
    assert!(pool.alloc(2 * BLOCK).is_some());
    assert!(pool.alloc(usize::MAX).is_none());
}

#[test]
fn buffers_outlive_their_pool() {
    let pool = Pool::new(BLOCK, 2 * BLOCK, 8 * BLOCK);
    let mut buf = pool.alloc(BLOCK).expect("below the limit");
    drop(pool);
    buf.fill(7);
    let shared = buf.freeze();
    let part = shared.slice(1..3);
    drop(shared);
    assert_eq!(&*part, &[7, 7]);
}

#[test]
fn a_pool_without_an_arena_works_from_the_heap() {
    let pool = Pool::new(BLOCK, 0, 4 * BLOCK);
    let buf = pool.alloc(BLOCK).expect("below the limit");
    assert!(!buf.registered_in(&pool));
    assert!(pool.arena().is_none());
}

#[test]
fn plain_heap_memory_is_a_buffer_too() {
    let buf = Buf::from_vec(vec![1, 2, 3]);
    assert_eq!(&*buf.slice(1..3), &[2, 3]);
    assert!(buf.slice(3..3).is_empty());
    assert!(Buf::from_vec(Vec::new()).is_empty());
}

#[test]
#[should_panic(expected = "slice 1..4 of a buffer of 3 bytes")]
fn a_slice_outside_is_refused() {
    let _ = Buf::from_vec(vec![1, 2, 3]).slice(1..4);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 128 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Model: a list of (buffer, the byte it is filled with) and the sum of their lengths.
    #[test]
    fn content_is_kept_until_release_and_the_account_balances(
        arena_blocks in 0_usize..40,
        limit_blocks in 1_usize..64,
        steps in prop::collection::vec((0_u8..3, 1_usize..20 * BLOCK, any::<prop::sample::Index>()), 1..60),
    ) {
        let pool = Pool::new(BLOCK, arena_blocks * BLOCK, limit_blocks * BLOCK);
        let mut held: Vec<(Buf, u8)> = Vec::new();
        let mut used_bytes = 0;
        for (number, (action, bytes, which)) in steps.into_iter().enumerate() {
            if action > 0 || held.is_empty() {
                let rounded = bytes.next_multiple_of(BLOCK);
                match pool.alloc(bytes) {
                    Some(mut buf) => {
                        prop_assert_eq!(buf.len(), rounded);
                        let fill = number as u8;
                        buf.fill(fill);
                        used_bytes += rounded;
                        held.push((buf.freeze(), fill));
                    }
                    None => prop_assert!(used_bytes + rounded > limit_blocks * BLOCK),
                }
            } else {
                let (buf, fill) = held.swap_remove(which.index(held.len()));
                prop_assert!(buf.iter().all(|byte| *byte == fill));
                used_bytes -= buf.len();
            }
            prop_assert_eq!(pool.used_bytes(), used_bytes);
        }
        for (buf, fill) in &held {
            prop_assert!(buf.iter().all(|byte| byte == fill));
        }
        drop(held);
        prop_assert_eq!(pool.used_bytes(), 0);
    }
}
