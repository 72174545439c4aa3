//! The cases of RFC 5213 §5.4.1 and RFC 7864 §3.2.1, one line each.

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{Lmaa, MacAddr, MnId};

use super::*;
use crate::lma::binding_cache::BindingCache;
use crate::lma::sync::Sync;

const NEW: HandoffIndicator = HandoffIndicator::NEW_INTERFACE;
const INTERFACES: HandoffIndicator = HandoffIndicator::BETWEEN_INTERFACES;
const MAGS: HandoffIndicator = HandoffIndicator::BETWEEN_MAGS;
const UNKNOWN: HandoffIndicator = HandoffIndicator::UNKNOWN;
const SAME: HandoffIndicator = HandoffIndicator::NO_CHANGE;
const SHARING: HandoffIndicator = HandoffIndicator::SHARING_PREFIXES;

const STRICT: Policy = Policy {
    sharing: false,
    wait: true,
};

fn hnp(n: u16) -> Hnp {
    Hnp::new(Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 0), 64).unwrap()
}

fn coa(n: u16) -> ProxyCoa {
    ProxyCoa(Ipv6Addr::new(0x2001, 0xdb8, 0xa, n, 0, 0, 0, 1))
}

fn ll(n: u8) -> Option<MnLinkLayerId> {
    (n > 0).then(|| MacAddr([2, 0, 0, 0, 0, n]).into())
}

fn bid(n: u16) -> Bid {
    Bid::new(n).unwrap()
}

/// A session: BID, MAG, access technology, link-layer identifier (0 for none), prefixes.
fn session(number: u16, mag: u16, access: u8, ll_id: u8, hnps: &[u16]) -> Bce {
    Bce {
        bid: bid(number),
        bid_priority: 64,
        ll_id: ll(ll_id),
        access: AccessTechnology(access),
        handoff: NEW,
        hnps: hnps.iter().map(|n| hnp(*n)).collect(),
        link_local: Ipv6Addr::UNSPECIFIED,
        lmaa: Lmaa(Ipv6Addr::LOCALHOST),
        proxy_coa: coa(mag),
        registrar: coa(mag),
        state: BceState::Active,
        expires: Duration::MAX,
        updated: Duration::from_secs(number.into()),
        timestamp: None,
        sequence: 0,
        sync: Sync::default(),
    }
}

fn mobile(sessions: Vec<Bce>) -> Mobile {
    let mut cache = BindingCache::default();
    let id = cache.create(MnId::new("mn1@example.net").unwrap()).unwrap();
    let mut mobile = *cache.take(id).unwrap();
    for session in sessions {
        mobile.insert(session);
    }
    mobile
}

/// A request: MAG, access technology, link-layer identifier, handoff indicator, prefixes.
fn ask(mag: u16, access: u8, ll_id: u8, handoff: HandoffIndicator, hnps: &[u16]) -> Request {
    Request {
        hnps: hnps.iter().map(|n| hnp(*n)).collect(),
        ll_id: ll(ll_id),
        access: AccessTechnology(access),
        handoff,
        proxy_coa: coa(mag),
    }
}

const UPDATE: Lookup = Lookup::Update(Bid(std::num::NonZeroU16::MIN));
const SHARE: Lookup = Lookup::Share(Bid(std::num::NonZeroU16::MIN));

#[test]
fn one_session() {
    let mobile = mobile(vec![session(1, 1, 4, 1, &[1, 2])]);
    let mismatch = Lookup::Refuse(BindingStatus::BCE_PBU_PREFIX_SET_DO_NOT_MATCH);
    let taken = Lookup::Refuse(BindingStatus::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX);
    for (request, expected) in [
        // With prefixes: nobody has them; other sets; the ways to be the same session.
        (ask(1, 4, 1, SAME, &[9]), Lookup::New),
        (ask(1, 4, 1, SAME, &[1]), mismatch),
        (ask(1, 4, 1, SAME, &[1, 2, 9]), mismatch),
        (ask(1, 4, 1, SAME, &[1, 2]), UPDATE),
        (ask(2, 4, 1, MAGS, &[2, 1]), UPDATE),
        (ask(2, 8, 2, INTERFACES, &[1, 2]), UPDATE),
        (ask(1, 4, 0, SAME, &[1, 2]), UPDATE),
        (ask(2, 8, 2, NEW, &[1, 2]), taken),
        (ask(2, 4, 0, MAGS, &[1, 2]), taken),
        (ask(2, 8, 2, SHARING, &[1, 2]), SHARE),
        (ask(2, 4, 0, SHARING, &[1, 2]), SHARE),
        (ask(2, 4, 1, SHARING, &[1, 2]), UPDATE),
        // With a link-layer identifier only.
        (ask(2, 4, 1, NEW, &[]), UPDATE),
        (ask(2, 8, 2, NEW, &[]), Lookup::New),
        (ask(2, 8, 1, NEW, &[]), Lookup::New),
        (ask(2, 8, 2, INTERFACES, &[]), UPDATE),
        (ask(2, 8, 2, MAGS, &[]), Lookup::New),
        (ask(2, 8, 2, UNKNOWN, &[]), Lookup::Wait),
        (ask(2, 8, 2, SHARING, &[]), SHARE),
        // With nothing.
        (ask(2, 4, 0, NEW, &[]), Lookup::New),
        (ask(2, 4, 0, INTERFACES, &[]), UPDATE),
        (ask(2, 4, 0, MAGS, &[]), UPDATE),
        (ask(2, 4, 0, UNKNOWN, &[]), Lookup::Wait),
    ] {
        assert_eq!(lookup(&mobile, &request, STRICT), expected, "{request:?}");
    }
}

#[test]
fn several_sessions() {
    let sessions = vec![session(1, 1, 4, 1, &[1]), session(2, 2, 8, 2, &[2])];
    let mobile = mobile(sessions);
    for (request, expected) in [
        (ask(3, 5, 3, INTERFACES, &[]), Lookup::New),
        (ask(3, 5, 3, UNKNOWN, &[]), Lookup::New),
        (ask(3, 5, 0, MAGS, &[]), Lookup::New),
        (ask(3, 8, 2, NEW, &[]), Lookup::Update(bid(2))),
        (ask(3, 5, 3, SHARING, &[]), SHARE),
        (ask(3, 5, 3, SHARING, &[2]), Lookup::Share(bid(2))),
    ] {
        assert_eq!(lookup(&mobile, &request, STRICT), expected, "{request:?}");
    }
}

#[test]
fn several_sessions_with_one_prefix() {
    let sessions = vec![
        session(1, 1, 4, 1, &[1]),
        session(2, 2, 8, 2, &[1]),
        session(3, 3, 5, 0, &[1]),
    ];
    let mobile = mobile(sessions);
    for (request, expected) in [
        // The same interface comes before the same MAG.
        (ask(1, 8, 2, SAME, &[1]), Lookup::Update(bid(2))),
        (ask(2, 8, 9, SAME, &[1]), Lookup::Update(bid(2))),
        (ask(9, 5, 0, MAGS, &[1]), Lookup::Update(bid(3))),
        // Of those at other MAGs, the one refreshed the longest ago.
        (ask(9, 9, 9, INTERFACES, &[1]), UPDATE),
        (ask(1, 9, 9, INTERFACES, &[1]), Lookup::Update(bid(2))),
    ] {
        assert_eq!(lookup(&mobile, &request, STRICT), expected, "{request:?}");
    }
}

#[test]
fn policy() {
    let sharing = Policy {
        sharing: true,
        wait: false,
    };
    let mut old = session(1, 1, 4, 1, &[1]);
    let request = ask(2, 8, 2, NEW, &[1]);
    assert_eq!(lookup(&mobile(vec![old.clone()]), &request, sharing), SHARE);
    let request = ask(2, 8, 2, UNKNOWN, &[]);
    assert_eq!(lookup(&mobile(vec![old.clone()]), &request, sharing), SHARE);
    assert_eq!(lookup(&mobile(vec![]), &request, sharing), Lookup::New);
    // A session that is ending is there to be taken over, and its prefixes are not to be shared.
    old.state = BceState::Deregistering;
    assert_eq!(lookup(&mobile(vec![old.clone()]), &request, STRICT), UPDATE);
    let request = ask(2, 8, 2, SHARING, &[]);
    assert_eq!(lookup(&mobile(vec![old]), &request, STRICT), Lookup::New);
}
