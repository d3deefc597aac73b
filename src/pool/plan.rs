//! How many backends to open: one pure function, so that the limits can be proved without a socket.

/// What the connector sees of its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Backends that exist or are being opened.
    pub total: u32,
    /// Those being opened.
    pub opening: u32,
    /// Clients that wait.
    pub waiting: u32,
    /// `pool_size`; 0 is no limit.
    pub size: u32,
    /// `min_pool_size`.
    pub min: u32,
    /// `reserve_pool_size` where the first in the queue has waited for `reserve_pool_timeout`, else 0.
    pub reserve: u32,
    /// Most to open at the same time.
    pub parallel: u32,
}

/// How many to open now, and the limit on the pool's total that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// How many to start opening.
    pub open: u32,
    /// Limit of the pool's total; 0 is no limit.
    pub limit: u32,
    /// Whether a client waits for them; such a backend may cost a sibling pool an idle one.
    pub urgent: bool,
}

/// What to do.
pub(super) fn plan(view: &View) -> Plan {
    let limit = if view.size == 0 { 0 } else { view.size.saturating_add(view.reserve) };
    let room = if limit == 0 { u32::MAX } else { limit.saturating_sub(view.total) };
    let wanted = view.waiting.saturating_sub(view.opening);
    let missing = view.min.saturating_sub(view.total).min(if view.size == 0 { u32::MAX } else { view.size });
    let spare = view.parallel.saturating_sub(view.opening);
    Plan { open: wanted.max(missing).min(room).min(spare), limit, urgent: wanted > 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn opens_what_is_needed_and_no_more() {
        let base = View { size: 20, parallel: 8, ..View::default() };
        let open = |view: View| plan(&view).open;
        assert_eq!(open(base), 0);
        assert_eq!(open(View { waiting: 3, ..base }), 3);
        assert_eq!(open(View { waiting: 3, opening: 2, total: 2, ..base }), 1);
        assert_eq!(open(View { waiting: 100, ..base }), 8);
        assert_eq!(open(View { waiting: 100, total: 20, ..base }), 0);
        assert_eq!(open(View { waiting: 100, total: 20, reserve: 5, ..base }), 5);
        assert_eq!(open(View { min: 5, total: 2, ..base }), 3);
        assert_eq!(open(View { waiting: 4, size: 0, total: 1000, ..base }), 4);
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit(total in 0u32..60, opening in 0u32..20, waiting in 0u32..2000, size in 1u32..50,
                                     min in 0u32..60, reserve in 0u32..10, parallel in 1u32..16) {
            let view = View { total: total.max(opening), opening, waiting, size, min, reserve, parallel };
            let plan = plan(&view);
            if plan.open > 0 {
                prop_assert!(view.total + plan.open <= size + reserve);
                prop_assert!(view.opening + plan.open <= parallel);
            }
            prop_assert!(waiting > 0 || min > 0 || plan.open == 0);
            // Somebody who waits alone for a pool with room is served.
            if waiting > opening && view.total < size && opening < parallel {
                prop_assert!(plan.open > 0);
            }
        }
    }
}
