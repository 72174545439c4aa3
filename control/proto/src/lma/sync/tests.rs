use std::net::Ipv6Addr;

use flow::{FidPriority, Interval, Selector};

use super::*;
use crate::lma::change::StatedPrefix;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn fid(n: u16) -> Fid {
    Fid::new(n).unwrap()
}

fn hnp(n: u16) -> Hnp {
    Hnp::new(Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 0), 64).unwrap()
}

/// A flow to a port, and the off-link prefixes it needs.
fn want(port: u16, hnps: &[u16]) -> Statement {
    let selector: Selector<Ipv6Addr> = Selector {
        destination_port: Some(Interval::single(port)),
        ..Selector::default()
    };
    let off_link = |n: &u16| StatedPrefix {
        hnp: hnp(*n),
        off_link: true,
    };
    Statement {
        priority: FidPriority::new(port).unwrap(),
        selector: selector.into(),
        hnps: hnps.iter().map(off_link).collect(),
    }
}

type Wanted = Statements;

/// The change to signal next.
fn next(sync: &Sync, wanted: &Wanted, now: Duration) -> Option<Change> {
    match sync.next(Dialect::Draft, wanted, now)? {
        Request::Change(change) => Some(change),
        Request::List { .. } => panic!("the draft knows no lists"),
    }
}

/// Begins what is next, if anything is, and says what.
fn begin(sync: &mut Sync, wanted: &Wanted, now: Duration) -> Option<Change> {
    let change = next(sync, wanted, now)?;
    sync.begin(Request::Change(change.clone()), 1, now);
    Some(change)
}

/// A MAG that holds all that is wanted.
fn holding(wanted: &Wanted, lifetime: Option<Duration>) -> Sync {
    let mut sync = Sync::default();
    while begin(&mut sync, wanted, s(0)).is_some() {
        sync.complete(Outcome::Accepted(lifetime), s(0));
    }
    sync
}

#[test]
fn changes_coalesce_while_one_is_outstanding() {
    let mut sync = Sync::default();
    let mut wanted = Wanted::from([(fid(1), want(1, &[1]))]);
    assert!(matches!(
        begin(&mut sync, &wanted, s(0)),
        Some(Change::Add(..))
    ));
    wanted.insert(fid(2), want(2, &[1]));
    wanted.remove(&fid(1));
    wanted.insert(fid(3), want(3, &[1]));
    wanted.remove(&fid(2));
    assert_eq!(next(&sync, &wanted, s(0)), None);
    sync.complete(Outcome::Accepted(None), s(0));
    // The second flow came and went without a word; additions come before deletions.
    assert_eq!(
        begin(&mut sync, &wanted, s(0)),
        Some(Change::Add(fid(3), want(3, &[1])))
    );
    sync.complete(Outcome::Accepted(None), s(0));
    assert_eq!(
        begin(&mut sync, &wanted, s(0)),
        Some(Change::Delete(fid(1), want(1, &[1])))
    );
    sync.complete(Outcome::UnknownFlow(132), s(0));
    assert_eq!(next(&sync, &wanted, s(0)), None);
}

#[test]
fn a_prefix_counts_as_granted_from_acknowledgement_to_acknowledgement() {
    let mut sync = Sync::default();
    let wanted = Wanted::from([(fid(1), want(1, &[1]))]);
    let serves = |sync: &Sync| sync.serves(fid(1), &want(1, &[]).selector, hnp(1));
    begin(&mut sync, &wanted, s(0));
    assert!(!serves(&sync) && sync.granted().is_empty() && sync.may_hold(hnp(1)));
    sync.complete(Outcome::Accepted(None), s(0));
    assert!(serves(&sync) && sync.granted().contains(&hnp(1)));
    begin(&mut sync, &Wanted::new(), s(0));
    assert!(
        !serves(&sync),
        "no packet is sent to a MAG that is told to forget"
    );
    assert!(
        sync.granted().contains(&hnp(1)),
        "but packets from there are still welcome"
    );
    sync.complete(Outcome::Accepted(None), s(0));
    assert!(sync.granted().is_empty() && !sync.may_hold(hnp(1)));
}

#[test]
fn a_reused_number_is_another_flow() {
    let mut sync = holding(&Wanted::from([(fid(1), want(1, &[1]))]), None);
    assert!(!sync.serves(fid(1), &want(2, &[]).selector, hnp(1)));
    let wanted = Wanted::from([(fid(1), want(2, &[1]))]);
    assert_eq!(
        begin(&mut sync, &wanted, s(0)),
        Some(Change::Delete(fid(1), want(1, &[1])))
    );
}

#[test]
fn to_the_mag_a_flow_is_its_selector() {
    let mut sync = holding(&Wanted::from([(fid(1), want(1, &[1]))]), None);
    let wanted = Wanted::from([(fid(2), want(1, &[2]))]);
    assert!(matches!(
        begin(&mut sync, &wanted, s(0)),
        Some(Change::Add(..))
    ));
    sync.complete(Outcome::Accepted(None), s(0));
    assert_eq!(
        next(&sync, &wanted, s(0)),
        None,
        "a deletion of the first would end the second"
    );
    assert_eq!(sync.granted(), BTreeSet::from([hnp(2)]));
}

#[test]
fn an_unanswered_addition_is_deleted_if_nobody_wants_it() {
    let mut sync = Sync::default();
    begin(&mut sync, &Wanted::from([(fid(1), want(1, &[1]))]), s(0));
    sync.complete(Outcome::NoAnswer, s(0));
    assert!(sync.granted().is_empty() && sync.may_hold(hnp(1)));
    assert!(matches!(
        begin(&mut sync, &Wanted::new(), s(0)),
        Some(Change::Delete(..))
    ));
    sync.complete(Outcome::NoAnswer, s(0));
    assert_eq!(next(&sync, &Wanted::new(), s(0)), None);
    assert!(sync.wants_retry() && sync.may_hold(hnp(1)));
    sync.retry();
    begin(&mut sync, &Wanted::new(), s(0));
    sync.complete(Outcome::Accepted(None), s(0));
    assert!(!sync.wants_retry() && !sync.may_hold(hnp(1)));
}

#[test]
fn a_failed_addition_rests() {
    let wanted = Wanted::from([(fid(1), want(1, &[1]))]);
    let mut sync = Sync::default();
    begin(&mut sync, &wanted, s(0));
    sync.complete(Outcome::Refused(128), s(0));
    sync.give_up(fid(1));
    assert_eq!(next(&sync, &wanted, s(0)), None);
    assert!(sync.wants_retry());
    sync.retry();
    assert!(next(&sync, &wanted, s(0)).is_some());
}

#[test]
fn an_update_without_answer_leaves_what_both_statements_have() {
    let mut sync = holding(&Wanted::from([(fid(1), want(1, &[1, 2]))]), None);
    let wanted = Wanted::from([(fid(1), want(1, &[2, 3]))]);
    begin(&mut sync, &wanted, s(0));
    sync.complete(Outcome::NoAnswer, s(0));
    assert_eq!(sync.granted(), BTreeSet::from([hnp(2)]));
    assert!([1, 2, 3].iter().all(|n| sync.may_hold(hnp(*n))));
    assert!(!sync.is_settled(fid(1), &want(1, &[2, 3])));
}

#[test]
fn state_with_an_end_is_refreshed_at_half_of_it() {
    let wanted = Wanted::from([(fid(1), want(1, &[1]))]);
    let mut sync = holding(&wanted, Some(s(20)));
    assert_eq!(sync.deadline(s(0)), Some(s(10)));
    assert_eq!(next(&sync, &wanted, s(9)), None);
    assert!(matches!(
        begin(&mut sync, &wanted, s(10)),
        Some(Change::Refresh(..))
    ));
    assert_eq!(sync.deadline(s(10)), Some(s(20)));
    sync.complete(Outcome::NoAnswer, s(0));
    sync.give_up(fid(1));
    sync.expire(s(19));
    assert!(sync.granted().contains(&hnp(1)), "until it is over");
    sync.expire(s(20));
    assert!(sync.granted().is_empty());
    sync.retry();
    assert!(matches!(next(&sync, &wanted, s(20)), Some(Change::Add(..))));
}

#[test]
fn a_mag_that_began_anew_has_nothing_but_what_is_on_its_way() {
    let wanted = Wanted::from([(fid(1), want(1, &[1]))]);
    let mut sync = holding(&wanted, None);
    let more = Wanted::from([(fid(1), want(1, &[1])), (fid(2), want(2, &[2]))]);
    begin(&mut sync, &more, s(0));
    assert_eq!(
        sync.reset(s(0)).map(|o| o.request.changes()[0].fid()),
        Some(fid(2))
    );
    assert!(sync.granted().is_empty());
    assert!(!sync.may_hold(hnp(1)) && sync.may_hold(hnp(2)));
    assert!(matches!(next(&sync, &Wanted::new(), s(0)), Some(Change::Delete(f, _)) if f == fid(2)));
    // 129 says the same: the mobile is not there.
    begin(&mut sync, &more, s(0));
    sync.complete(Outcome::NotAttached(129), s(0));
    assert!(
        !sync.may_hold(hnp(1)) && sync.may_hold(hnp(2)),
        "it may come yet"
    );
    assert!(sync.wants_retry());
    sync.retry();
    begin(&mut sync, &Wanted::new(), s(0));
    sync.complete(Outcome::NotAttached(129), s(61));
    assert!(!sync.may_hold(hnp(2)));
}

fn fids(changes: &[Change]) -> Vec<u16> {
    changes.iter().map(|c| c.fid().0.get()).collect()
}

/// Begins the list that is next, and says which flows it has and which it changes.
fn begin_list(sync: &mut Sync, wanted: &Wanted) -> Option<(Vec<u16>, Vec<u16>)> {
    let request = sync.next(Dialect::Rfc7864, wanted, s(0))?;
    let Request::List { statements, .. } = &request else {
        panic!("RFC 7864 knows lists only");
    };
    let listed = statements.keys().map(|fid| fid.0.get()).collect();
    let changed = fids(request.changes());
    sync.begin(request, 1, s(0));
    Some((listed, changed))
}

#[test]
fn a_list_says_everything_that_changed_at_once() {
    let mut wanted = Wanted::from([(fid(1), want(1, &[1])), (fid(2), want(2, &[2]))]);
    let mut sync = Sync::default();
    assert_eq!(
        begin_list(&mut sync, &wanted),
        Some((vec![1, 2], vec![1, 2]))
    );
    assert_eq!(begin_list(&mut sync, &wanted), None, "one at a time");
    sync.complete(Outcome::Accepted(None), s(0));
    assert_eq!(begin_list(&mut sync, &wanted), None);
    wanted.remove(&fid(1));
    wanted.insert(fid(3), want(3, &[3]));
    assert_eq!(
        begin_list(&mut sync, &wanted),
        Some((vec![2, 3], vec![3, 1]))
    );
    assert!(sync.is_settled(fid(2), &want(2, &[2])), "it stays");
    assert!(!sync.serves(fid(1), &want(1, &[]).selector, hnp(1)));
    sync.complete(Outcome::Accepted(None), s(0));
    assert_eq!(sync.granted(), BTreeSet::from([hnp(2), hnp(3)]));
}

#[test]
fn a_refused_list_changes_nothing() {
    let mut sync = Sync::default();
    begin_list(&mut sync, &Wanted::from([(fid(1), want(1, &[1]))]));
    sync.complete(Outcome::Accepted(None), s(0));
    let wanted = Wanted::from([(fid(1), want(1, &[1, 2])), (fid(2), want(2, &[2]))]);
    begin_list(&mut sync, &wanted);
    sync.complete(Outcome::Refused(131), s(0));
    assert_eq!(sync.granted(), BTreeSet::from([hnp(1)]));
    // What the MAG has of a flow that cannot be changed stays in the lists.
    sync.give_up(fid(1));
    assert_eq!(sync.list(&wanted).get(&fid(1)), Some(&want(1, &[1])));
    assert_eq!(begin_list(&mut sync, &wanted), Some((vec![1, 2], vec![2])));
}

#[test]
fn another_flow_under_the_same_number_ends_the_first() {
    let serves = |sync: &Sync| sync.serves(fid(1), &want(1, &[]).selector, hnp(1));
    let mut sync = Sync::default();
    begin_list(&mut sync, &Wanted::from([(fid(1), want(1, &[1]))]));
    sync.complete(Outcome::Accepted(None), s(0));
    assert!(serves(&sync));
    begin_list(&mut sync, &Wanted::from([(fid(1), want(2, &[1]))]));
    assert!(!serves(&sync));
}

#[test]
fn what_was_under_way_is_remembered_over_two_registrations() {
    let mut sync = Sync::default();
    begin_list(&mut sync, &Wanted::from([(fid(1), want(1, &[1]))]));
    sync.reset(s(0));
    sync.reset(s(0));
    assert!(sync.may_hold(hnp(1)));
    assert_eq!(
        begin_list(&mut sync, &Wanted::new()),
        Some((vec![], vec![1]))
    );
}

#[test]
fn what_a_pba_offers_is_held_only_when_an_fmi_says_so() {
    let wanted = Wanted::from([(fid(1), want(1, &[1]))]);
    let mut sync = Sync::default();
    sync.offer(&sync.list(&wanted), s(0));
    assert!(sync.granted().is_empty() && sync.may_hold(hnp(1)));
    assert_eq!(begin_list(&mut sync, &wanted), Some((vec![1], vec![1])));
    // The PBA may come after this answer, for a while.
    sync.complete(Outcome::NotAttached(132), s(0));
    assert!(sync.may_hold(hnp(1)) && sync.wants_retry());
    let nothing = Wanted::new();
    assert_eq!(begin_list(&mut sync, &nothing), None);
    sync.retry();
    assert_eq!(begin_list(&mut sync, &nothing), Some((vec![], vec![1])));
    sync.complete(Outcome::NotAttached(132), s(61));
    assert!(!sync.may_hold(hnp(1)) && !sync.wants_retry());
}

#[test]
fn nobody_is_told_only_to_leave_out_what_was_not_confirmed() {
    let wanted = Wanted::from([(fid(1), want(1, &[1]))]);
    let mut sync = Sync::default();
    begin_list(&mut sync, &wanted);
    sync.complete(Outcome::NoAnswer, s(0));
    sync.give_up(fid(1));
    assert_eq!(begin_list(&mut sync, &wanted), None);
    sync.retry();
    assert_eq!(begin_list(&mut sync, &wanted), Some((vec![1], vec![1])));
}
